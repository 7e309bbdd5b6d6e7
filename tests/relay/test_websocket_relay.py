from __future__ import annotations

import re
import time
import uuid
from urllib.parse import parse_qs, urlsplit

import pytest

from relay.settings import RelaySettings
from tests.support.meeting import CONNECT, is_silent, listening, waiting
from tests.support.raw import BINARY, RawPeer, RelayPeers, close_frame, frame, upgrade_request
from tests.support.relay import (
    HOST,
    RunningRelay,
    certificate,
    hybrid_connection,
    namespace,
    running_relay,
)

_GUID = "7f1c2c1e-3c0e-4a53-9f0b-2b1f6a1d9c11"
_SUBPROTOCOL = "Sec-WebSocket-Protocol"


# --- the accept message --------------------------------------------------------------------------


@pytest.mark.clause(61)
async def test_an_accept_names_the_address_the_id_the_headers_and_the_senders_own_endpoint(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    async with waiting(relay, peers) as meeting:
        host, port = meeting.sender.writer.get_extra_info("sockname")

        assert meeting.accept.keys() == {"address", "id", "connectHeaders", "remoteEndpoint"}
        assert meeting.accept["remoteEndpoint"] == {"address": host, "port": port}


@pytest.mark.clause(61, 72)
async def test_an_address_is_a_wss_url_with_the_id_and_a_secret_of_128_bits(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    async with waiting(relay, peers) as meeting:
        url = urlsplit(meeting.address)
        parameters = parse_qs(url.query, strict_parsing=True)

        assert (url.scheme, url.netloc, url.path) == ("wss", HOST, "/$hc/hc1")
        assert parameters["sb-hc-action"] == ["accept"]
        assert parameters["sb-hc-id"] == [meeting.accept["id"]]
        assert re.fullmatch(r"[0-9a-f]{32}", parameters["sb-hc-rendezvous"][0])


@pytest.mark.clause(62)
async def test_the_id_is_the_senders_guid_and_a_gateway_number(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    async with waiting(relay, peers, f"{CONNECT}&sb-hc-id={_GUID}") as meeting:
        assert re.fullmatch(rf"{_GUID}(_G\d+)+", str(meeting.accept["id"]))


@pytest.mark.clause(62)
@pytest.mark.parametrize("query", ["", "&sb-hc-id=", "&sb-hc-id=my-connection"])
async def test_a_sender_without_a_guid_gets_one(
    relay: RunningRelay, peers: RelayPeers, query: str
) -> None:
    async with waiting(relay, peers, CONNECT + query) as meeting:
        identity = str(meeting.accept["id"])

        assert uuid.UUID(identity[:36])
        assert "my-connection" not in identity


@pytest.mark.clause(63, 64)
async def test_the_senders_headers_reach_the_listener_as_texts(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    headers = [("X-Custom", "one"), ("x-custom", "two"), ("Cookie", "a=b"), ("X-Empty", "")]
    async with waiting(relay, peers, CONNECT, *headers) as meeting:
        seen = meeting.accept["connectHeaders"]

        assert isinstance(seen, dict)
        assert all(isinstance(value, str) for value in seen.values())
        assert seen["Host"] == HOST
        assert seen["Sec-WebSocket-Version"] == "13"
        assert seen["Upgrade"] == "websocket"
        assert len(seen["Sec-WebSocket-Key"]) == 24
        assert seen["X-Custom"] == "one, two"
        assert (seen["Cookie"], seen["X-Empty"]) == ("a=b", "")
        assert not any("authorization" in name.lower() for name in seen)


@pytest.mark.clause(9)
async def test_the_suffix_of_the_senders_path_is_in_the_address(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    async with waiting(relay, peers, "/$hc/hc1/sub/a%20b?sb-hc-action=connect") as meeting:
        assert urlsplit(meeting.address).path == "/$hc/hc1/sub/a%20b"


@pytest.mark.clause(10, 11, 13)
async def test_the_senders_query_stands_unchanged_before_the_action(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    target = "/$hc/hc1?a=1&&a=%2B+x&sb-hc-action=connect&b&sb-hc-whatever=2&"
    async with waiting(relay, peers, target) as meeting:
        query = urlsplit(meeting.address).query

        assert query.startswith("a=1&&a=%2B+x&b&&sb-hc-action=accept&sb-hc-id=")
        assert "whatever" not in query


# --- accepting -----------------------------------------------------------------------------------


@pytest.mark.clause(65)
async def test_the_sender_is_answered_only_after_the_listener_came(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    async with waiting(relay, peers) as meeting:
        assert await is_silent(meeting.sender)

        near, answer = await peers.visit(meeting.address)

        async with near:
            assert answer.status == 101
            assert (await meeting.sender.answer()).status == 101


@pytest.mark.clause(66)
@pytest.mark.parametrize(
    ("asked", "agreed"),
    [("chat", "chat"), ("second", "second"), ("unheard-of", "unheard-of"), ("a, b", "a")],
)
async def test_the_listeners_sub_protocol_is_echoed_and_given_to_the_sender(
    relay: RunningRelay, peers: RelayPeers, asked: str, agreed: str
) -> None:
    async with waiting(relay, peers, CONNECT, (_SUBPROTOCOL, "chat, second")) as meeting:
        near, answer = await peers.visit(meeting.address, (_SUBPROTOCOL, asked))

        async with near:
            assert answer.all(_SUBPROTOCOL) == [agreed]
            assert (await meeting.sender.answer()).all(_SUBPROTOCOL) == [agreed]


@pytest.mark.clause(67)
async def test_without_a_sub_protocol_of_the_listener_there_is_none(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    async with waiting(relay, peers, CONNECT, (_SUBPROTOCOL, "chat")) as meeting:
        near, answer = await peers.visit(meeting.address)

        async with near:
            assert answer.all(_SUBPROTOCOL) == []
            assert (await meeting.sender.answer()).all(_SUBPROTOCOL) == []


@pytest.mark.clause(43)
async def test_no_extension_is_agreed_on_with_either_side(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    offer = ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")
    async with waiting(relay, peers, CONNECT, offer) as meeting:
        near, answer = await peers.visit(meeting.address, offer)

        async with near:
            for each in (answer, await meeting.sender.answer()):
                assert each.status == 101
                assert each.all("Sec-WebSocket-Extensions") == []
                assert each.all("Upgrade") == ["websocket"]
                assert each.all("Connection") == ["Upgrade"]


@pytest.mark.clause(75)
async def test_a_header_named_0_is_nothing_special(relay: RunningRelay, peers: RelayPeers) -> None:
    async with waiting(relay, peers) as meeting:
        near, answer = await peers.visit(meeting.address, ("0", "[object Object]"))

        async with near:
            assert answer.status == 101
            assert (await meeting.sender.answer()).status == 101


@pytest.mark.clause(89)
async def test_what_each_side_sends_right_after_its_101_arrives(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    async with waiting(relay, peers) as meeting:
        near, _ = await peers.visit(meeting.address)
        async with near:
            await near.send(frame(BINARY, b"from the listener"))
            await meeting.sender.answer()
            await meeting.sender.send(frame(BINARY, b"from the sender"))

            assert await meeting.sender.message() == (BINARY, b"from the listener")
            assert await near.message() == (BINARY, b"from the sender")


@pytest.mark.clause(89)
@pytest.mark.parametrize("size", [5, 300_000])
async def test_what_each_side_sends_together_with_its_handshake_arrives(
    relay: RunningRelay, peers: RelayPeers, size: int
) -> None:
    first, second = frame(BINARY, b"1" * size), frame(BINARY, b"2" * size)
    token = ("ServiceBusAuthorization", relay.token())
    async with listening(relay, peers) as control, await peers.dial() as sender:
        sender.writer.write(upgrade_request(CONNECT, host=HOST, headers=[token]) + first)
        accept = (await control.command())["accept"]
        assert isinstance(accept, dict)
        url = urlsplit(accept["address"])
        async with await peers.dial() as near:
            near.writer.write(upgrade_request(f"{url.path}?{url.query}", host=HOST) + second)

            assert (await near.answer()).status == 101
            assert await near.message() == (BINARY, b"1" * size)
            assert (await sender.answer()).status == 101
            assert await sender.message() == (BINARY, b"2" * size)


# --- an address is good once, for one entity, for a time -----------------------------------------


async def _visit_status(peers: RelayPeers, address: str) -> int:
    near, answer = await peers.visit(address)
    async with near:
        return answer.status


@pytest.mark.clause(71)
async def test_a_second_visit_is_refused_and_the_connection_goes_on(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    async with waiting(relay, peers) as meeting:
        near, _ = await peers.visit(meeting.address)
        async with near:
            await meeting.sender.answer()

            second, answer = await peers.visit(meeting.address)
            async with second:
                assert answer.status == 403
                assert "TrackingId:" in answer.reason
                assert answer.all("Connection") == ["close"]
                assert await second.ended()
            await meeting.sender.send(frame(BINARY, b"still here"))
            assert await near.message() == (BINARY, b"still here")


@pytest.mark.clause(71)
async def test_an_address_stays_used_after_its_connection_has_ended(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    async with waiting(relay, peers) as meeting:
        near, _ = await peers.visit(meeting.address)
        async with near:
            await meeting.sender.answer()
            await near.send(close_frame())
            await meeting.sender.send(close_frame())
            assert await near.ended()

        assert await _visit_status(peers, meeting.address) == 403


@pytest.mark.clause(72)
async def test_nobody_comes_in_time_so_the_sender_is_refused_and_the_address_is_void() -> None:
    settings = RelaySettings(accept_timeout_seconds=0.2, drain_seconds=0)
    async with running_relay(settings=settings) as relay:
        peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        async with waiting(relay, peers) as meeting:
            answer = await meeting.sender.answer()

            assert answer.status == 404
            assert answer.reason.startswith(
                "None of the connected listeners accepted the connection within the allowed "
                "timeout. TrackingId:"
            )
            assert f"SystemTracker:sb://{HOST}/hc1" in answer.reason
            assert await meeting.sender.ended()
            assert await _visit_status(peers, meeting.address) == 403


@pytest.mark.clause(72)
def test_the_deadline_is_30_seconds_by_default() -> None:
    assert RelaySettings().accept_timeout_seconds == 30


@pytest.mark.clause(73)
@pytest.mark.parametrize("is_reset", [True, False])
async def test_accepting_after_the_sender_has_left_is_refused(
    relay: RunningRelay, peers: RelayPeers, is_reset: bool
) -> None:
    async with waiting(relay, peers) as meeting:
        if is_reset:
            meeting.sender.reset()
        else:
            meeting.sender.writer.close()
            await meeting.sender.ended()
        while relay.service.gateway.websockets.waiting_count:
            # The relay hears of it in its own time: another round trip with it.
            await _visit_status(peers, "wss://ns1.servicebus.windows.net/$hc/hc1?sb-hc-action=x")

        assert await _visit_status(peers, meeting.address) == 403


async def test_an_address_is_good_for_its_own_hybrid_connection_only() -> None:
    namespaces = namespace(hybrid_connection("hc1"), hybrid_connection("hc2"))
    async with running_relay(namespaces) as relay:
        peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        async with waiting(relay, peers) as meeting:
            elsewhere = meeting.address.replace("/$hc/hc1", "/$hc/hc2")
            nowhere = meeting.address.replace("/$hc/hc1", "/$hc/hc3")

            assert await _visit_status(peers, elsewhere) == 403
            assert await _visit_status(peers, nowhere) == 403
            assert await _visit_status(peers, meeting.address) == 101


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"&sb-hc-rendezvous=\w+", ""),
        (r"(?<=rendezvous=)\w+", "0" * 32),
        (r"(?<=rendezvous=\w{31})\w", ""),
    ],
)
async def test_the_id_alone_opens_nothing(
    relay: RunningRelay, peers: RelayPeers, pattern: str, replacement: str
) -> None:
    async with waiting(relay, peers) as meeting:
        guess = re.sub(pattern, replacement, meeting.address)
        assert guess != meeting.address

        assert await _visit_status(peers, guess) == 403
        assert await _visit_status(peers, meeting.address) == 101


async def test_the_status_for_a_void_address_is_a_setting() -> None:
    settings = RelaySettings(unknown_rendezvous_status=400, drain_seconds=0)
    async with running_relay(settings=settings) as relay:
        peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        async with waiting(relay, peers) as meeting:
            assert await _visit_status(peers, meeting.address) == 101
            assert await _visit_status(peers, meeting.address) == 400


async def test_what_is_no_websocket_handshake_leaves_the_address_good(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    async with waiting(relay, peers) as meeting:
        url = urlsplit(meeting.address)
        request = upgrade_request(f"{url.path}?{url.query}", host=HOST)
        for old, new in ((b"Upgrade: websocket\r\n", b""), (b"Version: 13", b"Version: 8")):
            peer, answer = await peers.request(request.replace(old, new))
            async with peer:
                assert answer.status == 400

        assert await _visit_status(peers, meeting.address) == 101


async def test_a_listener_may_still_accept_when_its_control_channel_has_broken(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    async with waiting(relay, peers) as meeting:
        meeting.control.reset()
        while relay.service.gateway.listeners.count("ns1/hc1"):
            await _visit_status(peers, "wss://ns1.servicebus.windows.net/$hc/hc1?sb-hc-action=x")

        assert await _visit_status(peers, meeting.address) == 101


# --- what is there already -----------------------------------------------------------------------


async def _still_works(sender: RawPeer, near: RawPeer) -> None:
    await sender.send(frame(BINARY, b"question"))
    assert await near.message() == (BINARY, b"question")
    await near.send(frame(BINARY, b"answer"))
    assert await sender.message() == (BINARY, b"answer")


@pytest.mark.clause(90)
async def test_a_deleted_hybrid_connection_leaves_its_connections_alone(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    async with listening(relay, peers) as control:
        token = ("ServiceBusAuthorization", relay.token())
        sender, near = await peers.pair(control, CONNECT, token)
        async with sender, near:
            relay.service.replace((namespace(hybrid_connection("other")),), certificate()[:2])

            assert (await control.close())[0] == 1001
            await _still_works(sender, near)


@pytest.mark.clause(90)
async def test_an_expired_token_leaves_the_listeners_connections_alone() -> None:
    settings = RelaySettings(token_grace_seconds=0, drain_seconds=0)
    async with running_relay(settings=settings) as relay:
        peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        expiry = int(time.time()) + 1
        short = relay.token(key_name="listenrule", expires_at=expiry)
        async with await peers.listener("hc1", short) as control:
            token = ("ServiceBusAuthorization", relay.token(expires_at=expiry))
            sender, near = await peers.pair(control, CONNECT, token)
            async with sender, near:
                assert (await control.close())[0] == 1008
                await _still_works(sender, near)
