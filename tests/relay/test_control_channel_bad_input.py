"""What a listener must not say, and one that does not read."""

from __future__ import annotations

import socket
import struct
from contextlib import AsyncExitStack

import pytest

from tests.support.raw import (
    BINARY,
    CLOSE,
    PING,
    TEXT,
    RawPeer,
    RelayPeers,
    close_frame,
    frame,
)
from tests.support.relay import (
    RunningRelay,
)
from tests.support.wire import (
    CONTINUATION,
    TRACKED,
    accept_of,
    command,
    is_alive,
    listener_count,
)

CONNECT = "/$hc/hc1?sb-hc-action=connect"
MAX_MESSAGE_BYTES = 65_536


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
    peers: RelayPeers, listener: RawPeer, listen_token: str, data: bytes
) -> None:
    await listener.send(data)

    assert (await listener.close())[0] == 1002
    assert await listener.ended()
    assert await listener_count(peers, listen_token) == 0


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
    peers: RelayPeers, listener: RawPeer, listen_token: str, command: bytes, code: int
) -> None:
    await listener.send(frame(TEXT, command))

    given, reason = await listener.close()
    assert given == code
    assert reason
    assert len(reason.encode()) <= 123
    assert await listener_count(peers, listen_token) == 0
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
    peers: RelayPeers, listener: RawPeer, listen_token: str, data: bytes
) -> None:
    await listener.send(data)

    assert (await listener.close())[0] == 1009
    assert await listener.ended()
    assert await listener_count(peers, listen_token) == 0


async def test_a_control_message_of_the_largest_size_is_read(listener: RawPeer) -> None:
    command = b'{"newCommand":"%s"}'
    padding = MAX_MESSAGE_BYTES - len(command) + 2
    await listener.send(frame(TEXT, command % (b"x" * padding)))

    assert await is_alive(listener)


async def test_what_comes_after_a_close_is_not_read(
    peers: RelayPeers, listener: RawPeer, listen_token: str
) -> None:
    await listener.send(close_frame() + command("renewToken", token="bad") + b"\xff" * 100)

    assert (await listener.close())[0] == 1000
    assert await listener_count(peers, listen_token) == 0


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
    relay: RunningRelay, peers: RelayPeers, deaf: RawPeer, listen_token: str
) -> None:
    headers = [("ServiceBusAuthorization", relay.token()), ("X", '"' * 30_000)]
    async with AsyncExitStack() as waiting:
        for _ in range(400):
            sender = await peers.start_sender(CONNECT, *headers)
            await waiting.enter_async_context(sender)
            if not await listener_count(peers, listen_token):
                break
        else:
            pytest.fail("whatever it is told is held for it, without an end")


async def test_a_listener_that_asks_and_does_not_read_the_answers_is_dropped(
    peers: RelayPeers, deaf: RawPeer, listen_token: str
) -> None:
    pings = frame(PING, b"x" * 125) * 1_000
    for _ in range(200):
        try:
            await deaf.send(pings)
        except ConnectionError:
            break
    else:
        pytest.fail("whatever it asks is answered, and held for it without an end")

    assert await listener_count(peers, listen_token) == 0
