"""What the admin port shows of a relay's life, after traffic that is known exactly."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay.core.tally import Side
from relay.loop_lag import MEASURE_SECONDS
from relay.settings import RelaySettings
from tests.support.http import heard, http_peers, response
from tests.support.meeting import CONNECT, is_silent, joined, listening, waiting
from tests.support.metrics import AdminPort, Samples, admin_port
from tests.support.raw import BINARY, RelayPeers, close_frame, frame
from tests.support.relay import (
    HOST,
    KEY,
    RunningRelay,
    certificate,
    hybrid_connection,
    namespace,
    running_relay,
)
from tests.support.until import until
from tests.support.wire import http_request

ROOT = Path(__file__).parents[2]
STRANGERS = "-NamespaceOnlyMetric-"
LISTEN = "/$hc/hc1?sb-hc-action=listen"


@pytest.fixture
async def relay() -> AsyncIterator[RunningRelay]:
    settings = RelaySettings(drain_seconds=0.0, accept_timeout_seconds=0.1, max_listeners=1)
    async with running_relay(settings=settings) as running:
        yield running


@pytest.fixture
async def admin(relay: RunningRelay) -> AsyncIterator[AdminPort]:
    async with admin_port(relay.service) as port:
        yield port


def counted(samples: Samples) -> Samples:
    """What is not zero, of Azure's metrics."""
    ours = ("hybridge_", "process_")
    return {name: value for name, value in samples.items() if value and not name.startswith(ours)}


async def settled(admin: AdminPort, name: str, value: float) -> Samples:
    """Scrape until a metric has a value: what a peer sees of an end comes before it is counted."""
    async with asyncio.timeout(30):
        while True:
            samples = await admin.samples()
            if samples.get(name) == value:
                return samples


async def test_before_anything_happens_every_hybrid_connection_is_there_with_zeros(
    admin: AdminPort,
) -> None:
    samples = await admin.samples()

    assert counted(samples) == {}
    assert {name for name in samples if "{hc1" in name} == {
        "ActiveConnections{hc1}",
        "ActiveListeners{hc1}",
        "BytesTransferred_total{hc1}",
        "ListenerConnections_Success_total{hc1,Success}",
        "ListenerConnections_TotalRequests_total{hc1}",
        "ListenerDisconnects_total{hc1}",
        "SenderConnections_Success_total{hc1,Success}",
        "SenderConnections_TotalRequests_total{hc1}",
        "SenderDisconnects_total{hc1}",
    }


async def test_a_connection_is_counted_while_it_lives_and_after(
    relay: RunningRelay, peers: RelayPeers, admin: AdminPort
) -> None:
    async with joined(relay, peers) as (sender, near):
        await sender.send(frame(BINARY, b"x" * 1_000))
        await near.message()
        await near.send(frame(BINARY, b"y" * 24))
        await sender.message()

        live = counted(await admin.samples())

        for each in (sender, near):
            await each.send(close_frame())
        await sender.close()
        await near.close()
        over = counted(await settled(admin, "SenderDisconnects_total{hc1}", 1))

    for_ever = {
        "BytesTransferred_total{hc1}": 1_024,
        "ListenerConnections_Success_total{hc1,Success}": 1,
        "ListenerConnections_TotalRequests_total{hc1}": 1,
        "SenderConnections_Success_total{hc1,Success}": 1,
        "SenderConnections_TotalRequests_total{hc1}": 1,
    }
    assert live == for_ever | {"ActiveConnections{hc1}": 1, "ActiveListeners{hc1}": 1}
    assert over == for_ever | {"ActiveListeners{hc1}": 1, "SenderDisconnects_total{hc1}": 1}
    gone = counted(await settled(admin, "ListenerDisconnects_total{hc1}", 1))
    assert gone == for_ever | {
        "SenderDisconnects_total{hc1}": 1,
        "ListenerDisconnects_total{hc1}": 1,
    }


async def test_who_is_refused_is_counted_by_whose_fault_it_is_and_why(
    relay: RunningRelay, peers: RelayPeers, admin: AdminPort
) -> None:
    good = ("ServiceBusAuthorization", relay.token())
    for target, *headers in (
        (CONNECT, good),  # no listener
        (CONNECT, ("ServiceBusAuthorization", relay.token(key=KEY.lower()))),
        (CONNECT,),
        (LISTEN, good),  # a sender's token
    ):
        _, answer = await peers.upgrade(target, *headers)
        assert answer.status >= 400
    async with listening(relay, peers):
        _, answer = await peers.upgrade(  # one listener too many
            LISTEN, ("ServiceBusAuthorization", relay.token(key_name="listenrule"))
        )
        assert answer.status == 429
        _, answer = await peers.upgrade(CONNECT, good)  # nobody accepts
        assert answer.status == 404
    async with waiting(relay, peers) as meeting:
        await peers.visit(f"{meeting.address}&sb-hc-statusCode=503&sb-hc-statusDescription=no")
        assert (await meeting.sender.answer()).status == 503

    samples = counted(await settled(admin, "ListenerDisconnects_total{hc1}", 2))

    assert samples == {
        "ListenerConnections_ClientError_total{hc1,QuotaExceeded}": 1,
        "ListenerConnections_ClientError_total{hc1,TokenMissingOrInvalid}": 1,
        "ListenerConnections_Success_total{hc1,Success}": 2,
        "ListenerConnections_TotalRequests_total{hc1}": 4,
        "ListenerDisconnects_total{hc1}": 2,
        "SenderConnections_ClientError_total{hc1,AcceptTimeout}": 1,
        "SenderConnections_ClientError_total{hc1,EndpointNotFound}": 1,
        "SenderConnections_ClientError_total{hc1,TokenMissingOrInvalid}": 2,
        "SenderConnections_ServerError_total{hc1,ListenerRejected}": 1,
        "SenderConnections_TotalRequests_total{hc1}": 5,
    }


async def test_a_sender_that_leaves_before_it_is_joined_is_its_own_fault() -> None:
    async with running_relay() as relay, admin_port(relay.service) as admin:
        peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        async with waiting(relay, peers) as meeting:
            assert (await admin.samples())["hybridge_rendezvous_waiting"] == 1
            meeting.sender.reset()

            left = "SenderConnections_ClientError_total{hc1,SenderLeft}"
            samples = await settled(admin, left, 1)

        assert samples["hybridge_rendezvous_waiting"] == 0
        assert samples["SenderConnections_TotalRequests_total{hc1}"] == 1
        assert samples["SenderDisconnects_total{hc1}"] == 0


async def test_a_request_is_counted_while_it_is_under_way_and_after(
    relay: RunningRelay, admin: AdminPort
) -> None:
    async with http_peers(relay) as http, http.sending(method="POST", body=b"x" * 1_000) as sender:
        request = await heard(http.control)
        async with await http.visit(request.address) as visitor:
            await visitor.send(response(request.id, b"y" * 20, is_whole=False))
            await sender.reader.readuntil(b"y" * 20)
            live = counted(await admin.samples())
            await visitor.send(frame(0, b"z" * 4) + close_frame())
            await sender.reader.readuntil(b"0\r\n\r\n")
            over = counted(await settled(admin, "ActiveConnections{hc1}", 0))

    listener = {
        "ActiveListeners{hc1}": 1,
        "ListenerConnections_Success_total{hc1,Success}": 1,
        "ListenerConnections_TotalRequests_total{hc1}": 1,
    }
    assert live == listener | {"ActiveConnections{hc1}": 1, "BytesTransferred_total{hc1}": 1_020}
    assert over == listener | {
        "BytesTransferred_total{hc1}": 1_024,
        "SenderConnections_Success_total{hc1,Success}": 1,
        "SenderConnections_TotalRequests_total{hc1}": 1,
    }


async def test_requests_that_fail_are_counted_by_whose_fault_it_is(
    relay: RunningRelay, peers: RelayPeers, admin: AdminPort
) -> None:
    peer, _ = await peers.request(http_request("/hc1", HOST))  # no token
    peer.reset()
    async with http_peers(relay) as http:
        async with http.sending() as sender:
            request = await heard(http.control)
            await http.control.send(response(request.id, status=404))
            assert (await sender.answer()).status == 404
        async with http.sending() as sender:
            request = await heard(http.control)
            await http.control.send(response(request.id, status="99"))
            assert (await sender.answer()).status == 502
        async with http.sending() as sender:
            await heard(http.control)
            sender.reset()
            left = "SenderConnections_ClientError_total{hc1,SenderLeft}"
            await settled(admin, left, 1)

    samples = await admin.samples()

    assert {name: value for name, value in samples.items() if value and "Sender" in name} == {
        # A listener's own 404 is an answer.
        "SenderConnections_Success_total{hc1,Success}": 1,
        "SenderConnections_ClientError_total{hc1,SenderLeft}": 1,
        "SenderConnections_ClientError_total{hc1,TokenMissingOrInvalid}": 1,
        "SenderConnections_ServerError_total{hc1,BadGateway}": 1,
        "SenderConnections_TotalRequests_total{hc1}": 4,
    }


async def test_strangers_names_make_one_label_and_not_many(
    relay: RunningRelay, peers: RelayPeers, admin: AdminPort
) -> None:
    root = ("ServiceBusAuthorization", relay.token("", key=KEY[::-1]))
    for name in ("nobody", "no-one", "%22%7D%0Aforged%20", 'x"} 1'.replace(" ", "%20")):
        for action in ("listen", "connect"):
            await peers.upgrade(f"/$hc/{name}?sb-hc-action={action}", root)

    samples = counted(await admin.samples())

    assert samples == {
        f"{side}Connections_{what}": 4
        for side in ("Listener", "Sender")
        for what in (
            f"ClientError_total{{{STRANGERS},TokenMissingOrInvalid}}",
            f"TotalRequests_total{{{STRANGERS}}}",
        )
    }


async def test_counts_survive_a_reload_and_a_hybrid_connection_that_is_gone_is_not_shown(
    relay: RunningRelay, peers: RelayPeers, admin: AdminPort
) -> None:
    def serve(*names: str) -> None:
        connections = [hybrid_connection(name) for name in names]
        relay.service.replace((namespace(*connections),), certificate()[:2])

    serve("hc1", "hc2")
    async with listening(relay, peers, "hc1") as stays, listening(relay, peers, "hc2") as deleted:
        sender, near = await peers.pair(
            deleted, CONNECT.replace("hc1", "hc2"), ("ServiceBusAuthorization", relay.token("hc2"))
        )
        await sender.send(frame(BINARY, b"abc"))
        await near.message()

        serve("hc1", "hc3")

        assert (await deleted.close())[0] == 1001
        await deleted.send(close_frame(1001))
        samples = await settled(admin, f"ListenerDisconnects_total{{{STRANGERS}}}", 1)
        assert samples["ListenerConnections_Success_total{hc1,Success}"] == 1
        assert samples["ActiveListeners{hc1}"] == 1
        assert samples["ActiveListeners{hc3}"] == 0
        assert not [name for name in samples if "hc2" in name]
        # What lives on is not touched, and is still seen.
        assert samples[f"ActiveConnections{{{STRANGERS}}}"] == 1
        assert samples[f"BytesTransferred_total{{{STRANGERS}}}"] == 3
        sender.reset()
        samples = await settled(admin, f"SenderDisconnects_total{{{STRANGERS}}}", 1)
        assert samples[f"BytesTransferred_total{{{STRANGERS}}}"] == 3
        assert await is_silent(stays)


async def test_relays_of_one_process_count_for_themselves(
    relay: RunningRelay, peers: RelayPeers, admin: AdminPort
) -> None:
    async with running_relay() as other, admin_port(other.service) as others:
        await peers.upgrade(CONNECT)

        assert (await admin.samples())["SenderConnections_TotalRequests_total{hc1}"] == 1
        assert counted(await others.samples()) == {}


async def test_a_loop_that_was_held_up_shows_it(relay: RunningRelay, admin: AdminPort) -> None:
    name = "hybridge_event_loop_lag_seconds"
    before = await admin.samples()
    time.sleep(MEASURE_SECONDS + 0.15)  # noqa: ASYNC251 - that is the point
    await until(lambda: relay.service.lag.total_seconds > before[f"{name}_sum"] + 0.15)

    after = await admin.samples()

    assert after[f"{name}_bucket{{+Inf}}"] - after[f"{name}_bucket{{0.1}}"] >= 1
    assert after[f"{name}_count"] == after[f"{name}_bucket{{+Inf}}"]
    assert after[f"{name}_sum"] >= before[f"{name}_sum"] + 0.15


async def test_the_descriptors_of_the_process_are_shown_with_their_limit(admin: AdminPort) -> None:
    samples = await admin.samples()

    assert 0 < samples["process_open_fds"] < samples["process_max_fds"]
    assert samples["hybridge_held_bytes"] == 0


async def test_the_documentation_has_every_metric_with_its_labels(
    relay: RunningRelay, admin: AdminPort
) -> None:
    for side in Side:
        for status in (400, 500):
            relay.service.gateway.tally.refused(side, "ns1/hc1", status)
    page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    documented = {
        row[1]: (row[0].replace("-", "_"), tuple(re.findall(r"`(\w+)`", row[2])))
        for row in re.findall(r"^\| `([\w-]+)` \| `(\w+)` \| ([^|]+) \|", page, re.M)
    }
    ours = set(re.findall(r"`((?:hybridge|process)_\w+)`", page))

    families = list(text_string_to_metric_families((await admin.get()).body.decode()))

    shown = {sample.name: sample.labels for family in families for sample in family.samples}
    azures = {name: set(labels) for name, labels in shown.items() if name[0].isupper()}
    assert azures == {name: set(labels) for name, (_, labels) in documented.items()}
    assert {each.removesuffix("_total") for each in documented} == {
        azure for azure, _ in documented.values()
    }
    plain = {each.name for each in families if not each.name[0].isupper()}
    assert {each.removesuffix("_total") for each in plain} == {
        each.removesuffix("_total") for each in ours
    }


async def test_the_answer_is_one_that_prometheus_takes(admin: AdminPort) -> None:
    plain = await admin.get()
    head = await admin.get(method="HEAD")
    modern = await admin.get(Accept="application/openmetrics-text; version=1.0.0")

    assert plain.all("Content-Type")[0].startswith("text/plain; version=")
    assert plain.all("Content-Length") == [str(len(plain.body))]
    assert plain.body.startswith(b"# HELP ActiveConnections ActiveConnections. ")
    assert b'ActiveListeners{EntityName="hc1",namespace="ns1"} 0.0\n' in plain.body
    assert (head.status, head.body) == (200, b"")
    assert head.all("Content-Type") == plain.all("Content-Type")
    assert modern.all("Content-Type")[0].startswith("application/openmetrics-text; version=1")
    assert modern.body.endswith(b"# EOF\n")


async def test_only_who_means_this_server_sees_metrics(admin: AdminPort) -> None:
    assert (await admin.get(Host="evil.example")).status == 403
    assert (await admin.get(method="POST")).status == 405
    assert (await admin.get("/metrics/")).status in (307, 404)
