"""A listener's control channel, from its handshake to its end (sections 4.1 to 4.5 and 12.3)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time

import pytest

from relay.settings import RelaySettings
from tests.support.raw import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    RawPeer,
    RelayPeers,
    close_frame,
    frame,
    upgrade_request,
)
from tests.support.relay import (
    HOST,
    KEY,
    RunningRelay,
    certificate,
    hybrid_connection,
    namespace,
    running_relay,
)
from tests.support.wire import (
    CONTINUATION,
    TRACKED,
    command,
    is_alive,
    listener_count,
)

GUID = "7f1c2c1e-3c0e-4a53-9f0b-2b1f6a1d9c11"
LISTEN = "/$hc/hc1?sb-hc-action=listen"
CONNECT = "/$hc/hc1?sb-hc-action=connect"


# --- The handshake -------------------------------------------------------------------------------


@pytest.mark.clause(1, 42, 44)
async def test_a_listener_is_answered_with_single_headers_and_is_registered(
    peers: RelayPeers, listen_token: str
) -> None:
    key = base64.b64encode(b"0123456789abcdef").decode()
    headers = [("ServiceBusAuthorization", listen_token)]
    handshake = upgrade_request(LISTEN, host=HOST, headers=headers, key=key)
    peer, answer = await peers.request(handshake)

    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()  # noqa: S324
    assert answer.status == 101
    assert answer.all("Upgrade") == ["websocket"]
    assert answer.all("Connection") == ["Upgrade"]
    assert answer.all("Sec-WebSocket-Accept") == [base64.b64encode(digest).decode()]
    assert answer.all("Sec-WebSocket-Extensions") == []
    assert answer.all("Sec-WebSocket-Protocol") == []
    assert await listener_count(peers, listen_token) == 1
    peer.reset()


@pytest.mark.clause(43)
async def test_compression_that_a_client_offers_is_not_used(
    relay: RunningRelay, peers: RelayPeers, listen_token: str
) -> None:
    offer = ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")
    listener, answer = await peers.upgrade(LISTEN, ("ServiceBusAuthorization", listen_token), offer)
    assert answer.status == 101
    assert answer.all("Sec-WebSocket-Extensions") == []

    send = ("ServiceBusAuthorization", relay.token())
    sender = await peers.start_sender(CONNECT, send, offer)
    invitation = await listener.frame()
    near, _ = await peers.visit(json.loads(invitation.payload)["accept"]["address"], offer)
    joined = await sender.answer()
    await near.send(frame(TEXT, b"aaaa" * 100))
    told = await sender.frame()

    assert invitation.rsv == 0
    assert joined.status == 101
    assert joined.all("Sec-WebSocket-Extensions") == []
    assert (told.rsv, told.payload) == (0, b"aaaa" * 100)
    for peer in (listener, sender, near):
        peer.reset()


@pytest.mark.clause(44)
async def test_a_listener_without_an_id_is_told_of_senders(
    relay: RunningRelay, peers: RelayPeers, listener: RawPeer
) -> None:
    token = ("ServiceBusAuthorization", relay.token())

    sender, near = await peers.pair(listener, CONNECT, token)

    sender.reset()
    near.reset()


@pytest.mark.clause(45)
@pytest.mark.parametrize("own_id", [GUID, None])
async def test_a_refusal_says_why_and_how_to_find_it_again(
    peers: RelayPeers, own_id: str | None
) -> None:
    target = LISTEN if own_id is None else f"{LISTEN}&sb-hc-id={own_id}"
    # time.gmtime() on its own reads a clock that may be some milliseconds behind time.time().
    before = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time()))
    peer, answer = await peers.upgrade(target)

    told = TRACKED.fullmatch(answer.reason)
    assert told is not None
    assert told["message"].endswith(".")
    assert told["tracker"] == f"sb://{HOST}/hc1"
    assert before <= told["time"] <= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time()))
    if own_id is not None:
        assert told["id"].startswith(f"{own_id}_G")
    assert answer.all("Connection") == ["close"]
    assert answer.all("Content-Length") == ["0"]
    assert await peer.ended()


@pytest.mark.parametrize("version", ["8", "12", "14", "x"])
async def test_another_version_of_websocket_is_told_the_one_spoken_here(
    peers: RelayPeers, listen_token: str, version: str
) -> None:
    handshake = upgrade_request(
        LISTEN, host=HOST, headers=[("ServiceBusAuthorization", listen_token)]
    )
    old = b"Sec-WebSocket-Version: 13"
    peer, answer = await peers.request(handshake.replace(old, old[:-2] + version.encode()))

    assert answer.status == 400
    assert answer.all("Sec-WebSocket-Version") == ["13"]
    assert await peer.ended()


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        (b"GET ", b"POST "),
        (b"Sec-WebSocket-Version: 13\r\n", b""),
        (b"Sec-WebSocket-Key: ", b"X-Key: "),
        (b"Sec-WebSocket-Key: ", b"Sec-WebSocket-Key: short"),
        (b" HTTP/1.1", b" HTTP/1.0"),
    ],
)
async def test_a_malformed_handshake_is_refused_with_400(
    peers: RelayPeers, listen_token: str, what: bytes, instead: bytes
) -> None:
    handshake = upgrade_request(
        LISTEN, host=HOST, headers=[("ServiceBusAuthorization", listen_token)]
    )
    peer, answer = await peers.request(handshake.replace(what, instead))

    assert answer.status == 400
    assert await peer.ended()


async def test_what_a_listener_sends_before_its_answer_is_not_lost(
    peers: RelayPeers, listen_token: str
) -> None:
    handshake = upgrade_request(
        LISTEN, host=HOST, headers=[("ServiceBusAuthorization", listen_token)]
    )
    early = command("unheardOf", x=1) + frame(PING, b"early")[:-1]
    async with await peers.dial() as peer:
        await peer.send(handshake + early)
        assert (await peer.answer()).status == 101
        await peer.send(frame(PING, b"early")[-1:])

        answer = await peer.frame()
        assert (answer.opcode, answer.payload) == (PONG, b"early")


async def test_a_delay_before_the_answer_can_be_set() -> None:
    settings = RelaySettings(listen_handshake_delay_seconds=0.1, drain_seconds=0)
    async with running_relay(settings=settings) as relay:
        peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        loop = asyncio.get_running_loop()
        before = loop.time()
        async with await peers.listener("hc1", relay.token(key_name="listenrule")) as listener:
            assert loop.time() - before >= 0.1
            assert await is_alive(listener)


@pytest.mark.parametrize(("stops", "status"), [(True, 503), (False, 404)], ids=["stop", "reload"])
async def test_what_changes_during_that_delay_counts(*, stops: bool, status: int) -> None:
    settings = RelaySettings(listen_handshake_delay_seconds=0.2, drain_seconds=5)
    async with running_relay(settings=settings) as relay:
        peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        token = relay.token("", key_name="RootManageSharedAccessKey", key=KEY[::-1])
        headers = [("ServiceBusAuthorization", token)]
        async with await peers.dial() as peer:
            await peer.send(upgrade_request(LISTEN, host=HOST, headers=headers))
            # The relay has read it once another connection's request is answered.
            await listener_count(peers, token)
            if stops:
                relay.lifetime.stop()
            else:
                relay.service.replace((namespace(hybrid_connection("hc2")),), certificate()[:2])

            assert (await peer.answer()).status == status


# --- Pings ---------------------------------------------------------------------------------------


@pytest.mark.clause(51)
@pytest.mark.parametrize("payload", [b"", b"x" * 125])
async def test_pings_are_answered_and_unsolicited_pongs_ignored(
    listener: RawPeer, payload: bytes
) -> None:
    await listener.send(frame(PONG, b"nobody asked") + frame(PING, payload) + frame(PONG))

    answer = await listener.frame()
    assert (answer.opcode, answer.payload) == (PONG, payload)
    assert await is_alive(listener)


async def test_a_ping_between_the_fragments_of_a_command_is_answered(listener: RawPeer) -> None:
    whole = json.dumps({"newCommand": {}}).encode()
    await listener.send(frame(TEXT, whole[:5], fin=False) + frame(PING, b"between"))
    answer = await listener.frame()
    await listener.send(frame(CONTINUATION, whole[5:]))

    assert (answer.opcode, answer.payload) == (PONG, b"between")
    assert await is_alive(listener)


@pytest.mark.clause(52)
async def test_the_service_pings_on_its_own() -> None:
    assert RelaySettings().ping_interval_seconds <= 4 * 60
    settings = RelaySettings(ping_interval_seconds=0.05, drain_seconds=0)
    async with running_relay(settings=settings) as relay:
        peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        async with await peers.listener("hc1", relay.token(key_name="listenrule")) as listener:
            for _ in range(3):
                ping = await listener.frame()
                assert ping.opcode == PING
                await listener.send(frame(PONG, ping.payload))


async def test_a_listener_that_has_fallen_silent_is_taken_offline() -> None:
    settings = RelaySettings(ping_interval_seconds=0.05, pong_timeout_seconds=0.05, drain_seconds=0)
    async with running_relay(settings=settings) as relay:
        peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        token = relay.token(key_name="listenrule")
        async with await peers.listener("hc1", token) as silent:
            with pytest.raises(asyncio.IncompleteReadError):  # it ends without a Close
                await silent.close()
            assert await listener_count(peers, token) == 0


# --- The end -------------------------------------------------------------------------------------


@pytest.mark.clause(53)
@pytest.mark.parametrize(
    ("code", "reason"), [(1000, "Normal Closure"), (1001, ""), (4999, "own"), (None, "")]
)
async def test_a_close_is_echoed_and_the_listener_unregistered_at_once(
    peers: RelayPeers, listener: RawPeer, listen_token: str, code: int | None, reason: str
) -> None:
    await listener.send(close_frame(code, reason))

    echo = await listener.frame()
    assert echo.opcode == CLOSE
    assert echo.close[0] == code
    assert await listener_count(peers, listen_token) == 0
    assert await listener.ended()


@pytest.mark.clause(54)
async def test_a_lost_connection_takes_the_listener_offline(
    peers: RelayPeers, listen_token: str
) -> None:
    async with await peers.listener("hc1", listen_token, listener_id=GUID):
        assert await listener_count(peers, listen_token) == 1

    # The reset and the next question travel apart: ask until the answer is there.
    for _ in range(100):
        if not await listener_count(peers, listen_token):
            break
    else:
        pytest.fail("the listener is still online")


# --- What a listener may say ---------------------------------------------------------------------


@pytest.mark.clause(55)
@pytest.mark.parametrize(
    "text",
    [
        '{"newCommand":{}}',
        '{"newCommand":null}',
        '{"":[]}',
        '{"injectFault":{"delay":1}}',
        '{"accept":{"address":"wss://x/","id":"1","connectHeaders":{}}}',
        '{"response":{"requestId":"nobody-asked","statusCode":200}}',
        '{"response":{"requestId":"nobody-asked","statusCode":"many"}}',
    ],
)
async def test_unknown_commands_are_ignored(listener: RawPeer, text: str) -> None:
    await listener.send(frame(TEXT, text.encode()))

    assert await is_alive(listener)


async def test_binary_messages_that_nothing_announced_are_ignored(listener: RawPeer) -> None:
    await listener.send(frame(BINARY) + frame(BINARY, b'{"not":"a command"', fin=False))
    await listener.send(frame(CONTINUATION, b"x" * 1_000))

    assert await is_alive(listener)


async def test_a_command_may_come_in_fragments(listener: RawPeer) -> None:
    whole = json.dumps({"renewToken": {"token": "no token"}}).encode()
    await listener.send(frame(TEXT, whole[:1], fin=False) + frame(CONTINUATION, fin=False))
    for byte in whole[1:]:
        await listener.send(frame(CONTINUATION, bytes([byte]), fin=False))
    assert await is_alive(listener)
    await listener.send(frame(CONTINUATION))

    assert (await listener.close())[0] == 1008


@pytest.mark.clause(56)
async def test_a_listener_is_told_accept_and_nothing_else(
    relay: RunningRelay, peers: RelayPeers, listener: RawPeer, listen_token: str
) -> None:
    await listener.send(command("renewToken", token=listen_token) + command("unheardOf", x=1))
    send = ("ServiceBusAuthorization", relay.token())
    for _ in range(5):
        async with await peers.start_sender(CONNECT, send):
            told = await listener.command()
            assert set(told) == {"accept"}
            assert isinstance(told["accept"], dict)
            assert set(told["accept"]) == {"address", "id", "connectHeaders", "remoteEndpoint"}
