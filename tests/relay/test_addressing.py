"""Who is asked for, and what a listener is told of it (sections 1 and 12.1)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from relay.settings import RelaySettings
from tests.support.raw import RawPeer, RelayPeers
from tests.support.relay import HOST, RunningRelay, hybrid_connection, namespace, running_relay
from tests.support.vectors import load_vectors, rows
from tests.support.wire import TRACKED, accept_of, address_for, http_request

GUID = "7f1c2c1e-3c0e-4a53-9f0b-2b1f6a1d9c11"

# RFC 2396 with RFC 2732, which java.net.URI follows.
JAVA_URI = re.compile(
    r"wss://[0-9A-Za-z.\-:\[\]]+"
    r"/(?:%[0-9A-Fa-f]{2}|[A-Za-z0-9\-_.!~*'(),;:$&+=@/])*"
    r"\?(?:%[0-9A-Fa-f]{2}|[A-Za-z0-9\-_.!~*'(),;:$&+=@/?\[\]])*"
)


@pytest.fixture
async def relay() -> AsyncIterator[RunningRelay]:
    """A relay whose senders need no token, since tokens are not the point here."""
    names = ["hc1", "Team", "team/HC1", "vendor/machines/0f/7/v2"]
    connections = [hybrid_connection(name, requires_client_authorization=False) for name in names]
    async with running_relay(namespace(*connections)) as running:
        yield running


# --- Which door ----------------------------------------------------------------------------------


@pytest.mark.clause(2, 3)
@pytest.mark.parametrize(
    "target", ["/$hc/hc1?sb-hc-action=connect", "/$hc/hc1", "/$hc/hc1/", "/$hc/hc1?a=1"]
)
async def test_a_sender_needs_no_action_in_its_address(
    peers: RelayPeers, listener: RawPeer, target: str
) -> None:
    sender, near = await peers.pair(listener, target)

    sender.reset()
    near.reset()


@pytest.mark.clause(4)
@pytest.mark.parametrize("action", ["dance", "", "listen%00", "accept,connect"])
async def test_an_unknown_action_is_refused_with_400(peers: RelayPeers, action: str) -> None:
    peer, answer = await peers.upgrade(f"/$hc/hc1?sb-hc-action={action}")

    assert answer.status == 400
    assert TRACKED.fullmatch(answer.reason)
    assert await peer.ended()


@pytest.mark.clause(5)
@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("Upgrade", "websocket"),),
        (("Connection", "Upgrade"),),
        (("Upgrade", "h2c"), ("Connection", "Upgrade")),
    ],
    ids=["plain", "no Connection", "no Upgrade", "another upgrade"],
)
async def test_what_is_no_websocket_handshake_is_refused_under_hc(
    peers: RelayPeers, headers: tuple[tuple[str, str], ...]
) -> None:
    target = "/$hc/hc1?sb-hc-action=connect"
    peer, answer = await peers.request(http_request(target, HOST, *headers))

    assert answer.status == 400
    assert answer.reason.startswith("This endpoint is only for web-socket requests.")
    assert await peer.ended()


@pytest.mark.clause(1, 6)
async def test_parameter_names_compare_without_case(relay: RunningRelay, peers: RelayPeers) -> None:
    token = relay.token("hc1", key_name="listenrule")
    target = f"/$HC/hc1?SB-HC-Action=Listen&SB-hc-ID={GUID}"
    listener, answer = await peers.upgrade(target, ("servicebusauthorization", token))
    assert answer.status == 101
    sender = await peers.start_sender(f"/$hc/hc1?SB-HC-Action=Connect&Sb-Hc-Id={GUID}")

    accept = await accept_of(listener)

    assert str(accept["id"]).startswith(GUID)
    listener.reset()
    sender.reset()


@pytest.mark.clause(7)
async def test_hybrid_connections_are_found_without_case(
    relay: RunningRelay, peers: RelayPeers, listener: RawPeer
) -> None:
    assert "/$hc/HC1?" in await address_for(peers, listener, "/$hc/HC1")

    token = relay.token("TEAM", key_name="listenrule")
    async with await peers.listener("tEaM", token) as other:
        assert "/$hc/team?" in await address_for(peers, other, "/$hc/team")


@pytest.mark.clause(8)
async def test_the_longest_registered_name_wins(relay: RunningRelay, peers: RelayPeers) -> None:
    async def listen(name: str) -> RawPeer:
        return await peers.listener(name, relay.token(name, key_name="listenrule"))

    async with (
        await listen("team") as short,
        await listen("team/hc1") as long,
        await listen("vendor/machines/0f/7/v2") as longest,
    ):
        assert "/$hc/team/hc1/x?" in await address_for(peers, long, "/$hc/team/hc1/x")
        assert "/$hc/team/hc10?" in await address_for(peers, short, "/$hc/team/hc10")
        target = "/$hc/vendor/machines/0f/7/v2/a/b"
        assert f"{target}?" in await address_for(peers, longest, target)


@pytest.mark.clause(9)
async def test_the_suffix_is_in_the_accept_address(peers: RelayPeers, listener: RawPeer) -> None:
    address = await address_for(peers, listener, "/$hc/hc1/sub/x?sb-hc-action=connect")

    assert urlsplit(address).path == "/$hc/hc1/sub/x"


# --- The query -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=pytest.mark.clause(*row["clauses"]))  # type: ignore[misc]  # ints
        for row in rows(load_vectors("query_filter")["rows"])
    ],
    ids=lambda row: str(row["query"]),
)
async def test_a_listener_sees_the_senders_query_and_then_the_protocols_parameters(
    peers: RelayPeers, listener: RawPeer, row: dict[str, object]
) -> None:
    address = await address_for(peers, listener, f"/$hc/hc1?{row['query']}")

    query = address.partition("?")[2]
    seen = f"{row['seen']}&" if row["seen"] else ""
    assert query.startswith(f"{seen}sb-hc-action=accept&sb-hc-id=")


@pytest.mark.clause(10)
async def test_the_senders_own_parameters_may_stand_around_the_protocols(
    peers: RelayPeers, listener: RawPeer
) -> None:
    target = f"/$hc/hc1?b=2&sb-hc-action=connect&a=1&sb-hc-id={GUID}&b=%31"
    address = await address_for(peers, listener, target)

    assert f"?b=2&a=1&b=%31&sb-hc-action=accept&sb-hc-id={GUID}_G" in address


async def test_a_quoted_question_mark_before_the_parameters_is_taken_for_one(
    peers: RelayPeers, listener: RawPeer
) -> None:
    target = f"/$hc/hc1%3Fsb-hc-action=connect&sb-hc-id={GUID}"
    address = await address_for(peers, listener, target)

    assert address.startswith(f"wss://{HOST}/$hc/hc1?sb-hc-action=accept&sb-hc-id={GUID}_G")


# --- The address that a listener is told ---------------------------------------------------------


@pytest.mark.clause(17)
@pytest.mark.parametrize(
    "target",
    [
        "/$hc/hc1/my%20file",
        '/$hc/hc1/a|b^c`d{e}\\f"g<h>',
        "/$hc/hc1/100%/%zz?q=100%&r=%",
        '/$hc/hc1/x?a={1}&b=|&c=\\&d=^&e=`&f="<>',
    ],
)
async def test_the_address_is_a_uri_that_java_can_read(
    peers: RelayPeers, listener: RawPeer, target: str
) -> None:
    address = await address_for(peers, listener, target)

    assert JAVA_URI.fullmatch(address)
    visitor, answer = await peers.visit(address)
    assert answer.status == 403, "the sender has left, but the path is understood"
    assert await visitor.ended()


@pytest.mark.clause(18)
@pytest.mark.parametrize("authority", [HOST, f"{HOST}:8443", "localhost:5001", "LocalHost"])
async def test_the_address_names_the_host_and_port_by_which_the_listener_came(
    relay: RunningRelay, peers: RelayPeers, authority: str
) -> None:
    token = relay.token("hc1", key_name="listenrule")
    target = "/$hc/hc1?sb-hc-action=listen"
    headers = ("ServiceBusAuthorization", token)
    listener, answer = await peers.upgrade(target, headers, host=authority)
    assert answer.status == 101

    # The sender says another name: it does not decide where a listener goes.
    address = await address_for(peers, listener, "/$hc/hc1")

    assert urlsplit(address).netloc == authority
    listener.reset()


async def test_a_public_host_takes_the_place_of_the_listeners_own() -> None:
    settings = RelaySettings(public_host="relay.example.test:8443", drain_seconds=0)
    open_to_all = namespace(hybrid_connection(requires_client_authorization=False))
    async with running_relay(open_to_all, settings=settings) as relay:
        peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        async with await peers.listener("hc1", relay.token(key_name="listenrule")) as listener:
            address = await address_for(peers, listener, "/$hc/hc1")

    assert address.startswith("wss://relay.example.test:8443/$hc/hc1?")


async def test_an_address_of_ipv6_is_a_name_of_a_namespace_too() -> None:
    async with running_relay(namespace(hosts=[HOST, "::1"])) as relay:
        peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        token = ("ServiceBusAuthorization", relay.token(host="::1", key_name="listenrule"))
        target = "/$hc/hc1?sb-hc-action=listen"
        listener, answer = await peers.upgrade(target, token, host="[::1]:8443")
        assert answer.status == 101

        send = ("ServiceBusAuthorization", relay.token())
        address = await address_for(peers, listener, "/$hc/hc1", send)

    assert JAVA_URI.fullmatch(address)
    assert urlsplit(address).netloc == "[::1]:8443"


@pytest.mark.clause(19)
async def test_a_port_in_host_is_ignored_in_a_tokens_scope(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    token = ("ServiceBusAuthorization", relay.token("hc1", key_name="listenrule"))
    target = "/$hc/hc1?sb-hc-action=listen"
    listener, answer = await peers.upgrade(target, token, host=f"{HOST}:8443")

    assert answer.status == 101
    listener.reset()


# --- The Host header -----------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/", "/hc1", "/$hc/hc1", "/$hc/hc1?sb-hc-action=listen"])
@pytest.mark.parametrize("host", ["other.servicebus.windows.net", "127.0.0.1", "[::1]:8443"])
async def test_a_host_that_is_no_namespace_is_not_found(
    relay: RunningRelay, peers: RelayPeers, host: str, target: str
) -> None:
    token = ("ServiceBusAuthorization", relay.token("hc1", key_name="listenrule"))
    for request in (
        peers.upgrade(target, token, host=host),
        peers.request(http_request(target, host, token)),
    ):
        peer, answer = await request

        assert answer.status == 404
        assert answer.reason.startswith("Endpoint does not exist. TrackingId:")
        assert await peer.ended()


@pytest.mark.parametrize("host", [" ", "a b", "ns1/", "user@localhost", "local\xadhost", "*"])
async def test_a_host_that_is_no_name_is_refused_with_400(peers: RelayPeers, host: str) -> None:
    peer, answer = await peers.upgrade("/$hc/hc1", host=host)

    assert answer.status == 400
    assert await peer.ended()


@pytest.mark.parametrize("host", [HOST.upper(), "localhost", "LOCALHOST:1"])
async def test_every_name_of_the_namespace_leads_to_it(
    peers: RelayPeers, listener: RawPeer, host: str
) -> None:
    sender, answer = await peers.upgrade("/$hc/nothing-here", host=host)

    # It is the namespace that answers: without a token it does not say what there is.
    assert answer.status == 401
    assert await sender.ended()


# --- Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "/$hc/hc1/../hc2",
        "/$hc/hc1/%2e%2E/hc2",
        "/$hc/hc1/\xf8",
        "/$hc/hc1?k=\xf8",
        "/$hc/hc1#fragment",
        "https://ns1.servicebus.windows.net/$hc/hc1",
        "*",
        "/$hc/hc1?sb-hc-id=1&SB-HC-ID=2",
        f"/$hc/hc1?{'x' * 8_192}",
    ],
    ids=lambda target: str(target)[:40],
)
async def test_a_target_that_two_parsers_could_read_differently_is_refused(
    peers: RelayPeers, target: str
) -> None:
    peer, answer = await peers.upgrade(target)

    assert answer.status == 400
    assert await peer.ended()


@pytest.mark.parametrize(
    "junk",
    [
        "x%0d%0aInjected:%20yes",
        f"{GUID}%0aERROR%20forged",
        "%00",
        "%1b%5b31m",
        "%E2%80%A8",
        "1",
        f"{GUID}_G1_Gx",
        f"{GUID}{GUID}",
        "%f0%9f%92%a9" * 50,
    ],
)
async def test_an_id_that_is_no_guid_is_not_repeated_anywhere(
    peers: RelayPeers, listener: RawPeer, caplog: pytest.LogCaptureFixture, junk: str
) -> None:
    caplog.set_level("DEBUG")

    async with await peers.start_sender(f"/$hc/hc1?sb-hc-id={junk}") as sender:
        accept = await accept_of(listener)
        address = str(accept["address"])
        _, _ = await peers.visit(f"{address}&sb-hc-statusCode=404")
        assert (await sender.answer()).status == 404
    _, refused = await peers.upgrade(f"/$hc/nowhere?sb-hc-id={junk}")

    found = TRACKED.fullmatch(refused.reason)
    assert found is not None
    assert {name for name, _ in refused.headers} == {"Date", "Content-Length", "Connection"}
    assert found["id"][:36] != GUID
    assert not str(accept["id"]).startswith(GUID)
    for record in caplog.records:
        told = f"{record.getMessage()} {vars(record)}"
        assert "forged" not in told
        assert "Injected" not in told
        assert "\n" not in record.getMessage()
