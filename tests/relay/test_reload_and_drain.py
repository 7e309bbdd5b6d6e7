"""A new configuration while the relay runs, and its orderly end."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import InvalidSetting
from hybridge.transport.development_ca import DevelopmentCa
from relay.namespace import Namespace
from relay.settings import RelaySettings
from tests.support.raw import BINARY, TEXT, RawPeer, RelayPeers, close_frame, frame, upgrade_request
from tests.support.relay import (
    HOST,
    KEY,
    RunningRelay,
    certificate,
    hybrid_connection,
    namespace,
    rule,
    running_relay,
)
from tests.support.wire import (
    TRACKED,
    Clock,
    accept_of,
    http_request,
    is_alive,
    listener_count,
)

CONNECT = "/$hc/hc1?sb-hc-action=connect"
NEW_KEY = "bmV3LW5ldy1uZXctbmV3LW5ldy1uZXctbmV3LW5ldy0="
EXPIRY = 1_900_000_000


@pytest.fixture
async def relay() -> AsyncIterator[RunningRelay]:
    served = namespace(hybrid_connection("hc1"), hybrid_connection("hc2"))
    async with running_relay(served, settings=RelaySettings(drain_seconds=20)) as running:
        yield running


def reload(relay: RunningRelay, *namespaces: Namespace) -> None:
    relay.service.replace(namespaces, certificate()[:2])


async def join(
    relay: RunningRelay, peers: RelayPeers, listener: RawPeer
) -> tuple[RawPeer, RawPeer]:
    return await peers.pair(listener, CONNECT, ("ServiceBusAuthorization", relay.token()))


async def carries(sender: RawPeer, near: RawPeer) -> bool:
    """Whether a joined connection carries data both ways."""
    await sender.send(frame(BINARY, b"question"))
    await near.send(frame(TEXT, b"answer"))
    there, back = await near.message(), await sender.message()
    return (there, back) == ((BINARY, b"question"), (TEXT, b"answer"))


async def hang_up(sender: RawPeer, near: RawPeer) -> None:
    """Close from both sides, and see the connection end in order."""
    for each in (sender, near):
        await each.send(close_frame())
    for each in (sender, near):
        assert (await each.close())[0] == 1000
        assert await each.ended()


# --- Reload --------------------------------------------------------------------------------------


@pytest.mark.clause(50, 90)
async def test_a_deleted_hybrid_connection_closes_its_channels_and_leaves_live_connections(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    async with (
        await peers.listener("hc1", relay.token(key_name="listenrule")) as deleted,
        await peers.listener("hc2", relay.token("hc2", key_name="listenrule")) as other,
    ):
        sender, near = await join(relay, peers, deleted)

        reload(relay, namespace(hybrid_connection("hc2")))

        code, reason = await deleted.close()
        assert code == 1001
        assert reason.startswith("The hybrid connection was deleted. TrackingId:")
        await deleted.send(close_frame(1001))
        assert await deleted.ended()
        assert await is_alive(other)
        assert await carries(sender, near)
        await hang_up(sender, near)


async def test_after_a_deletion_the_path_is_unknown(relay: RunningRelay, peers: RelayPeers) -> None:
    root = relay.token("", key_name="RootManageSharedAccessKey", key=KEY[::-1])

    reload(relay, namespace(hybrid_connection("hc2")))

    _, answer = await peers.upgrade(CONNECT, ("ServiceBusAuthorization", root))
    assert answer.status == 404
    assert answer.reason.startswith("Endpoint does not exist.")
    _, answer = await peers.upgrade(CONNECT, ("ServiceBusAuthorization", relay.token()))
    assert answer.status == 401


async def test_what_is_new_is_served_at_once(relay: RunningRelay, peers: RelayPeers) -> None:
    reload(
        relay,
        namespace(hybrid_connection("hc1"), hybrid_connection("hc3")),
        namespace(hybrid_connection("hc1"), name="ns2", hosts=["ns2.servicebus.windows.net"]),
    )

    async with await peers.listener("hc3", relay.token("hc3", key_name="listenrule")) as listener:
        assert await is_alive(listener)
    token = relay.token(host="ns2.servicebus.windows.net")
    headers = ("ServiceBusAuthorization", token)
    _, answer = await peers.upgrade(CONNECT, headers, host="ns2.servicebus.windows.net")
    assert answer.reason.startswith("There are no listeners connected")


async def test_a_host_that_the_namespace_gave_up_is_not_found(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    reload(relay, namespace(hybrid_connection("hc1"), hosts=["localhost"]))

    _, answer = await peers.upgrade(CONNECT, ("ServiceBusAuthorization", relay.token()))

    assert answer.status == 404


async def test_with_a_new_key_listeners_stay_until_they_renew_with_the_old_one(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    old = relay.token(key_name="listenrule")
    new = relay.token(key_name="listenrule", key=NEW_KEY)
    async with await peers.listener("hc1", old) as good, await peers.listener("hc1", old) as bad:
        rules = [rule("listenrule", Claim.LISTEN, key=NEW_KEY)]
        reload(relay, namespace(hybrid_connection("hc1", rules=rules)))
        assert await is_alive(good)
        assert await is_alive(bad)
        _, answer = await peers.upgrade(
            "/$hc/hc1?sb-hc-action=listen", ("ServiceBusAuthorization", old)
        )
        assert answer.status == 401

        for listener, token in ((good, new), (bad, old)):
            renewal = json.dumps({"renewToken": {"token": token}})
            await listener.send(frame(TEXT, renewal.encode()))

        assert (await bad.close())[0] == 1008
        assert await is_alive(good)


async def test_a_waiting_sender_is_still_met_after_a_reload(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    async with await peers.listener("hc1", relay.token(key_name="listenrule")) as listener:
        sender = await peers.start_sender(CONNECT, ("ServiceBusAuthorization", relay.token()))
        address = str((await accept_of(listener))["address"])

        reload(relay, namespace(hybrid_connection("hc1")))

        near, answer = await peers.visit(address)
        assert answer.status == 101
        assert (await sender.answer()).status == 101
        assert await carries(sender, near)
        await hang_up(sender, near)


async def test_a_new_certificate_is_shown_to_new_connections(
    relay: RunningRelay, peers: RelayPeers, tmp_path: Path
) -> None:
    ca = DevelopmentCa.load_or_create(tmp_path)
    async with await peers.listener("hc1", relay.token(key_name="listenrule")) as listener:
        relay.service.replace((namespace(),), ca.certificate_for([HOST]))

        with pytest.raises(ssl.SSLCertVerificationError):
            await peers.dial()
        async with await RawPeer.dial(relay.port, ca=ca.path, name=HOST):
            assert await is_alive(listener)


async def test_a_certificate_that_cannot_be_used_changes_nothing(
    relay: RunningRelay, peers: RelayPeers, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    token = relay.token(key_name="listenrule")

    async with await peers.listener("hc1", token) as listener:
        with pytest.raises(InvalidSetting):
            relay.service.replace((namespace(hybrid_connection("hc3")),), (broken, broken))

        assert await is_alive(listener)
        assert await listener_count(peers, token) == 1


@pytest.mark.clause(90)
async def test_an_expired_token_of_the_listener_leaves_live_connections(
    relay: RunningRelay, peers: RelayPeers, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, "relay.gateway", "relay.control_channel")
    clock.now = EXPIRY - 0.1
    listen = relay.token(key_name="listenrule", expires_at=EXPIRY)
    async with await peers.listener("hc1", listen) as listener:
        sender, near = await join(relay, peers, listener)
        clock.now = EXPIRY + 301
        await listener.send(frame(TEXT, json.dumps({"renewToken": {"token": listen}}).encode()))

        assert (await listener.close())[0] == 1008
        assert await carries(sender, near)
        await hang_up(sender, near)


# --- Drain ---------------------------------------------------------------------------------------


async def test_the_service_says_whether_it_listens_and_whether_it_drains(
    relay: RunningRelay, peers: RelayPeers, listener: RawPeer
) -> None:
    service = relay.service
    pair = await join(relay, peers, listener)
    assert (service.is_listening, service.is_draining) == (True, False)

    relay.lifetime.stop()
    assert (await listener.close())[0] == 1001
    assert service.is_draining

    await listener.send(close_frame(1001))
    await hang_up(*pair)
    await relay.served
    assert not service.is_listening


async def test_once_it_stops_listeners_are_sent_away_and_waiting_senders_refused(
    relay: RunningRelay, peers: RelayPeers, listener: RawPeer
) -> None:
    pair = await join(relay, peers, listener)
    waiting = await peers.start_sender(CONNECT, ("ServiceBusAuthorization", relay.token()))
    address = str((await accept_of(listener))["address"])
    visitor = await peers.dial()

    relay.lifetime.stop()

    answer = await waiting.answer()
    assert answer.status == 503
    assert answer.reason.startswith("The service is shutting down. TrackingId:")
    assert (await listener.close())[0] == 1001
    # A listener that comes to meet the sender now finds that the address is over.
    await visitor.send(upgrade_request(address.partition(HOST)[2], host=HOST))
    assert (await visitor.answer()).status == 403
    for each in (*pair, visitor):
        each.reset()


@pytest.mark.parametrize("action", ["connect", "listen"])
async def test_once_it_stops_whoever_was_let_in_already_is_answered_503(
    relay: RunningRelay, peers: RelayPeers, listener: RawPeer, action: str
) -> None:
    pair = await join(relay, peers, listener)
    late = await peers.dial()
    relay.lifetime.stop()
    await listener.close()

    rule_name = "sendrule" if action == "connect" else "listenrule"
    headers = [("ServiceBusAuthorization", relay.token(key_name=rule_name))]
    target = f"/$hc/hc1?sb-hc-action={action}"
    await late.send(upgrade_request(target, host=HOST, headers=headers))

    answer = await late.answer()
    assert answer.status == 503
    assert TRACKED.fullmatch(answer.reason)
    assert answer.all("Retry-After") == ["1"]
    assert await late.ended()
    for each in pair:
        each.reset()


async def test_once_it_stops_nobody_is_let_in(
    relay: RunningRelay, peers: RelayPeers, listener: RawPeer
) -> None:
    pair = await join(relay, peers, listener)
    relay.lifetime.stop()
    await listener.close()

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", relay.port)

    for each in pair:
        each.reset()


async def test_once_it_stops_a_listener_may_still_answer_a_running_request_by_rendezvous(
    relay: RunningRelay, peers: RelayPeers, listener: RawPeer
) -> None:
    asking = http_request("/hc1/x", HOST, ("ServiceBusAuthorization", relay.token()))
    sender = await peers.dial()
    await sender.send(asking)
    request = (await listener.command())["request"]
    assert isinstance(request, dict)
    relay.lifetime.stop()

    late, refusal = await peers.request(asking)
    near, answer = await peers.visit(request["address"])
    response = {"requestId": request["id"], "statusCode": 200, "body": True}
    await near.send(frame(TEXT, json.dumps({"response": response}).encode()))
    await near.send(frame(BINARY, b"large"))
    got = await sender.answer()

    assert (refusal.status, answer.status) == (503, 101)
    assert (got.status, got.body) == (200, b"large")
    assert got.all("Connection") == ["close"]
    assert (await listener.close())[0] == 1001
    for each in (late, near, sender, listener):
        each.writer.transport.abort()
    async with asyncio.timeout(20):
        await relay.served


async def test_running_connections_go_on_until_they_end_and_then_the_service_does(
    relay: RunningRelay, peers: RelayPeers, listener: RawPeer
) -> None:
    pair = await join(relay, peers, listener)
    relay.lifetime.stop()
    await listener.close()
    await listener.send(close_frame(1001))
    assert await listener.ended()

    assert await carries(*pair)
    assert not relay.served.done()
    await hang_up(*pair)

    async with asyncio.timeout(20):
        await relay.served


async def test_connections_that_outlive_the_drain_are_cut_without_a_close() -> None:
    async with running_relay(settings=RelaySettings(drain_seconds=0.1)) as relay:
        peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        async with await peers.listener("hc1", relay.token(key_name="listenrule")) as listener:
            sender, near = await join(relay, peers, listener)

            await relay.stop()

            for each in (sender, near):
                assert not await each.ended()
