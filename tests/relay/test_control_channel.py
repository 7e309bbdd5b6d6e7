"""A listener's control channel, from its handshake to its end (sections 4.1 to 4.5 and 12.3)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

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
    TRACKED,
    Clock,
    accept_of,
    is_alive,
    listener_count,
    quoted,
    sas_token,
)

GUID = "7f1c2c1e-3c0e-4a53-9f0b-2b1f6a1d9c11"
LISTEN = "/$hc/hc1?sb-hc-action=listen"
CONNECT = "/$hc/hc1?sb-hc-action=connect"
HC1 = quoted(f"http://{HOST}/hc1/")
CONTINUATION = 0
MAX_MESSAGE_BYTES = 65_536


@pytest.fixture
def token(relay: RunningRelay) -> str:
    return relay.token(key_name="listenrule")


@pytest.fixture
async def listener(peers: RelayPeers, token: str) -> AsyncIterator[RawPeer]:
    async with await peers.listener("hc1", token) as peer:
        yield peer


def command(name: str, **fields: object) -> bytes:
    return frame(TEXT, json.dumps({name: fields}).encode())


# --- The handshake -------------------------------------------------------------------------------


@pytest.mark.clause(1, 42, 44)
async def test_a_listener_is_answered_with_single_headers_and_is_registered(
    peers: RelayPeers, token: str
) -> None:
    key = base64.b64encode(b"0123456789abcdef").decode()
    headers = [("ServiceBusAuthorization", token)]
    handshake = upgrade_request(LISTEN, host=HOST, headers=headers, key=key)
    peer, answer = await peers.request(handshake)

    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()  # noqa: S324
    assert answer.status == 101
    assert answer.all("Upgrade") == ["websocket"]
    assert answer.all("Connection") == ["Upgrade"]
    assert answer.all("Sec-WebSocket-Accept") == [base64.b64encode(digest).decode()]
    assert answer.all("Sec-WebSocket-Extensions") == []
    assert answer.all("Sec-WebSocket-Protocol") == []
    assert await listener_count(peers, token) == 1
    peer.reset()


@pytest.mark.clause(43)
async def test_compression_that_a_client_offers_is_not_used(
    relay: RunningRelay, peers: RelayPeers, token: str
) -> None:
    offer = ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")
    listener, answer = await peers.upgrade(LISTEN, ("ServiceBusAuthorization", token), offer)
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
    before = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    peer, answer = await peers.upgrade(target)

    told = TRACKED.fullmatch(answer.reason)
    assert told is not None
    assert told["message"].endswith(".")
    assert told["tracker"] == f"sb://{HOST}/hc1"
    assert before <= told["time"] <= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    if own_id is not None:
        assert told["id"].startswith(f"{own_id}_G")
    assert answer.all("Connection") == ["close"]
    assert answer.all("Content-Length") == ["0"]
    assert await peer.ended()


@pytest.mark.parametrize("version", ["8", "12", "14", "x"])
async def test_another_version_of_websocket_is_told_the_one_spoken_here(
    peers: RelayPeers, token: str, version: str
) -> None:
    handshake = upgrade_request(LISTEN, host=HOST, headers=[("ServiceBusAuthorization", token)])
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
    peers: RelayPeers, token: str, what: bytes, instead: bytes
) -> None:
    handshake = upgrade_request(LISTEN, host=HOST, headers=[("ServiceBusAuthorization", token)])
    peer, answer = await peers.request(handshake.replace(what, instead))

    assert answer.status == 400
    assert await peer.ended()


async def test_what_a_listener_sends_before_its_answer_is_not_lost(
    peers: RelayPeers, token: str
) -> None:
    handshake = upgrade_request(LISTEN, host=HOST, headers=[("ServiceBusAuthorization", token)])
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


# --- Tokens, as time goes by ---------------------------------------------------------------------

EXPIRY = 1_900_000_000
GRACE_SECONDS = 0.2


class Session:
    """Listeners whose first token is about to expire, by a clock that the test holds."""

    def __init__(self, relay: RunningRelay, clock: Clock) -> None:
        self._relay = relay
        self._peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        self.clock = clock

    async def listener(self) -> RawPeer:
        return await self._peers.listener("hc1", self._token(EXPIRY))

    async def renew(self, listener: RawPeer, *, expires_at: int = EXPIRY + 3_600) -> None:
        """Renew a token; the next frame is an answered ping, so the relay has said nothing."""
        await listener.send(command("renewToken", token=self._token(expires_at)))
        assert await is_alive(listener)

    def _token(self, expires_at: int) -> str:
        return self._relay.token(key_name="listenrule", expires_at=expires_at)


@pytest.fixture
async def session(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Session]:
    clock = Clock(monkeypatch, "relay.gateway", "relay.control_channel")
    clock.now = EXPIRY - 0.1
    settings = RelaySettings(token_grace_seconds=GRACE_SECONDS, drain_seconds=0)
    async with running_relay(settings=settings) as relay:
        yield Session(relay, clock)


@pytest.mark.clause(48)
async def test_without_a_renewal_the_channel_closes_after_expiry_and_within_the_grace(
    session: Session,
) -> None:
    assert RelaySettings().token_grace_seconds == 300

    async with await session.listener() as listener:
        session.clock.now = EXPIRY + GRACE_SECONDS / 2
        assert await is_alive(listener)
        session.clock.now = EXPIRY + GRACE_SECONDS
        code, reason = await listener.close()

    assert code == 1008
    assert reason.startswith("ExpiredToken: The token is expired. TrackingId:")


@pytest.mark.clause(46)
async def test_a_renewal_extends_the_session_and_has_no_reply(session: Session) -> None:
    async with await session.listener() as renewed, await session.listener() as other:
        await session.renew(renewed)
        session.clock.now = EXPIRY + GRACE_SECONDS

        assert (await other.close())[0] == 1008
        assert await is_alive(renewed)


@pytest.mark.clause(49)
async def test_a_renewal_a_little_after_expiry_is_accepted(session: Session) -> None:
    async with await session.listener() as late, await session.listener() as other:
        session.clock.now = EXPIRY + GRACE_SECONDS / 2
        await session.renew(late)
        session.clock.now = EXPIRY + GRACE_SECONDS

        assert (await other.close())[0] == 1008
        assert await is_alive(late)


async def test_a_renewal_may_shorten_the_session_too(session: Session) -> None:
    session.clock.now = EXPIRY - 1_000.1
    async with await session.listener() as listener:
        await session.renew(listener, expires_at=EXPIRY - 1_000)
        session.clock.now = EXPIRY - 999

        assert (await listener.close())[0] == 1008


@pytest.mark.clause(47)
@pytest.mark.parametrize(
    "fields",
    [
        {"token": sas_token(HC1, key_name="listenrule", key="wrong")},
        {"token": sas_token(HC1, key_name="sendrule")},
        {"token": sas_token(HC1, key_name="listenrule", expires_at=int(time.time()) - 60)},
        {"token": sas_token(quoted(f"http://{HOST}/hc2"), key_name="listenrule")},
        {"token": "com.microsoft.azure.relay.SharedAccessSignatureToken@1a2b3c"},
        {"token": ""},
        {"token": 1},
        {},
    ],
    ids=[
        "wrong key",
        "wrong claim",
        "expired",
        "another path",
        "Java's object dump",
        "empty",
        "no text",
        "missing",
    ],
)
async def test_a_bad_renewal_closes_with_1008(
    relay: RunningRelay,
    peers: RelayPeers,
    listener: RawPeer,
    token: str,
    fields: dict[str, object],
) -> None:
    await listener.send(command("renewToken", **fields))

    code, reason = await listener.close()
    assert code == 1008
    assert "TrackingId:" in reason
    assert "SharedAccessSignature s" not in reason
    assert await listener_count(peers, token) == 0


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
    peers: RelayPeers, listener: RawPeer, token: str, code: int | None, reason: str
) -> None:
    await listener.send(close_frame(code, reason))

    echo = await listener.frame()
    assert echo.opcode == CLOSE
    assert echo.close[0] == code
    assert await listener_count(peers, token) == 0
    assert await listener.ended()


@pytest.mark.clause(54)
async def test_a_lost_connection_takes_the_listener_offline(peers: RelayPeers, token: str) -> None:
    async with await peers.listener("hc1", token, listener_id=GUID):
        assert await listener_count(peers, token) == 1

    # The reset and the next question travel apart: ask until the answer is there.
    for _ in range(100):
        if not await listener_count(peers, token):
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
    relay: RunningRelay, peers: RelayPeers, listener: RawPeer, token: str
) -> None:
    await listener.send(command("renewToken", token=token) + command("unheardOf", x=1))
    send = ("ServiceBusAuthorization", relay.token())
    for _ in range(5):
        async with await peers.start_sender(CONNECT, send):
            told = await listener.command()
            assert set(told) == {"accept"}
            assert isinstance(told["accept"], dict)
            assert set(told["accept"]) == {"address", "id", "connectHeaders", "remoteEndpoint"}


# --- Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(frame(TEXT, b"{}", mask=None), id="unmasked"),
        pytest.param(b"\xc1" + frame(TEXT, b"{}")[1:], id="RSV1"),
        pytest.param(b"\xa1" + frame(TEXT, b"{}")[1:], id="RSV2"),
        pytest.param(b"\x91" + frame(TEXT, b"{}")[1:], id="RSV3"),
        pytest.param(frame(3, b"x"), id="unknown opcode"),
        pytest.param(frame(11, b"x"), id="unknown control opcode"),
        pytest.param(frame(PING, b"x", fin=False), id="fragmented ping"),
        pytest.param(frame(PING, b"x" * 126), id="long ping"),
        pytest.param(frame(CONTINUATION, b"x"), id="continuation of nothing"),
        pytest.param(frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), id="a message in another"),
        pytest.param(frame(CLOSE, b"\x03"), id="half a close code"),
        pytest.param(frame(CLOSE, struct.pack("!H", 1005)), id="1005 on the wire"),
        pytest.param(frame(CLOSE, struct.pack("!H", 999)), id="999"),
    ],
)
async def test_a_malformed_frame_closes_with_1002(
    peers: RelayPeers, listener: RawPeer, token: str, data: bytes
) -> None:
    await listener.send(data)

    assert (await listener.close())[0] == 1002
    assert await listener.ended()
    assert await listener_count(peers, token) == 0


@pytest.mark.parametrize(
    ("command", "code"),
    [
        pytest.param(b"", 1002, id="empty"),
        pytest.param(b"hello", 1002, id="no JSON"),
        pytest.param(b"[]", 1002, id="a list"),
        pytest.param(b"{}", 1002, id="no command"),
        pytest.param(b'{"renewToken":{},"other":{}}', 1002, id="two commands"),
        pytest.param(b'{"renewToken":{},"renewToken":{}}', 1002, id="one command twice"),
        pytest.param(b'{"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}", 1002, id="a deep one"),
        pytest.param(b'{"x":NaN}', 1002, id="NaN"),
        pytest.param(b'{"response":{}}', 1002, id="a response to nothing"),
        pytest.param(b'{"renewToken":{"token":"\xff"}}', 1007, id="not UTF-8"),
    ],
)
async def test_a_malformed_command_closes_the_channel(
    peers: RelayPeers, listener: RawPeer, token: str, command: bytes, code: int
) -> None:
    await listener.send(frame(TEXT, command))

    given, reason = await listener.close()
    assert given == code
    assert reason
    assert len(reason.encode()) <= 123
    assert await listener_count(peers, token) == 0
    await listener.send(close_frame(code))
    assert await listener.ended()


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, b" " * (MAX_MESSAGE_BYTES + 1)),
        frame(TEXT, b" " * MAX_MESSAGE_BYTES, fin=False) + frame(CONTINUATION, b" "),
        frame(BINARY, b"x" * (MAX_MESSAGE_BYTES + 1)),
        b"\x81\xff" + struct.pack("!Q", (1 << 63) - 1) + b"mask",
        b"\x81\xff" + struct.pack("!Q", 1 << 63) + b"mask",
    ],
    ids=["one frame", "fragments", "binary", "announced only", "length with its first bit set"],
)
async def test_a_control_message_that_is_too_large_closes_with_1009(
    peers: RelayPeers, listener: RawPeer, token: str, data: bytes
) -> None:
    await listener.send(data)

    assert (await listener.close())[0] == 1009
    assert await listener.ended()
    assert await listener_count(peers, token) == 0


async def test_a_control_message_of_the_largest_size_is_read(listener: RawPeer) -> None:
    command = b'{"newCommand":"%s"}'
    padding = MAX_MESSAGE_BYTES - len(command) + 2
    await listener.send(frame(TEXT, command % (b"x" * padding)))

    assert await is_alive(listener)


async def test_what_comes_after_a_close_is_not_read(
    peers: RelayPeers, listener: RawPeer, token: str
) -> None:
    await listener.send(close_frame() + command("renewToken", token="bad") + b"\xff" * 100)

    assert (await listener.close())[0] == 1000
    assert await listener_count(peers, token) == 0


async def test_a_sender_whose_headers_fit_no_control_message_is_refused(
    relay: RunningRelay, peers: RelayPeers, listener: RawPeer
) -> None:
    # Each quotation mark is two bytes of JSON; a control message has room for 64 KiB.
    send = ("ServiceBusAuthorization", relay.token())
    large = [(f"X-{number}", '"\xff' * 450) for number in range(30)]
    peer, answer = await peers.upgrade(CONNECT, send, *large)

    assert answer.status == 431
    assert TRACKED.fullmatch(answer.reason)
    assert await peer.ended()
    assert await is_alive(listener)
    async with await peers.start_sender(CONNECT, send):
        await accept_of(listener)


# --- A listener that does not read ---------------------------------------------------------------


@pytest.fixture
async def deaf(listener: RawPeer, monkeypatch: pytest.MonkeyPatch) -> RawPeer:
    """A listener that sends and does not read, at a relay that holds little for it."""
    monkeypatch.setattr("relay.control_channel.MAX_UNSENT_BYTES", 65_536)
    sock = listener.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    listener.writer.transport.pause_reading()  # type: ignore[attr-defined]
    return listener


async def test_a_listener_that_does_not_read_its_invitations_is_dropped(
    relay: RunningRelay, peers: RelayPeers, deaf: RawPeer, token: str
) -> None:
    headers = [("ServiceBusAuthorization", relay.token()), ("X", '"' * 30_000)]
    async with AsyncExitStack() as waiting:
        for _ in range(400):
            sender = await peers.start_sender(CONNECT, *headers)
            await waiting.enter_async_context(sender)
            if not await listener_count(peers, token):
                break
        else:
            pytest.fail("whatever it is told is held for it, without an end")


async def test_a_listener_that_asks_and_does_not_read_the_answers_is_dropped(
    peers: RelayPeers, deaf: RawPeer, token: str
) -> None:
    pings = frame(PING, b"x" * 125) * 1_000
    for _ in range(200):
        try:
            await deaf.send(pings)
        except ConnectionError:
            break
    else:
        pytest.fail("whatever it asks is answered, and held for it without an end")

    assert await listener_count(peers, token) == 0
