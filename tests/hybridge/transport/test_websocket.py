"""The dialling end of a WebSocket, against a raw peer that plays the relay."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from hybridge.protocol.errors import ConnectionLost, HandshakeRefused, Unreachable
from hybridge.transport.handshake import MAX_RESPONSE_HEAD_BYTES
from hybridge.transport.http_head import HeadReader
from hybridge.transport.stream import Wire
from hybridge.transport.tcp import dial_tcp
from hybridge.transport.timing import Timing
from hybridge.transport.websocket import FRAME_PAYLOAD_BYTES, WebSocketStream, open_websocket
from tests.support.raw import BINARY, CLOSE, PING, PONG, TEXT, RawPeer, frame

URL = "wss://ns1.servicebus.windows.net/$hc/hc1?sb-hc-action=connect"
QUICK = Timing(ping_interval_seconds=0.1, pong_timeout_seconds=0.3, close_timeout_seconds=0.2)
"""Six pings take longer than a silent peer may live."""


@asynccontextmanager
async def _tcp() -> AsyncIterator[tuple[Wire, RawPeer]]:
    """A wire of ours, and a raw peer at its other end."""
    arrived: asyncio.Future[RawPeer] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set_result(RawPeer(reader, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20) as server:
        wire = await dial_tcp("127.0.0.1", server.sockets[0].getsockname()[1])
        async with await arrived as peer:
            yield wire, peer
            wire.abort()


def _switching(request: bytes, *headers: str) -> bytes:
    """Answer 101 as a relay does."""
    found = re.search(rb"Sec-WebSocket-Key: (\S+)", request)
    assert found
    digest = hashlib.sha1(found[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()  # noqa: S324
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _request(peer: RawPeer) -> bytes:
    async with asyncio.timeout(20):
        return await peer.reader.readuntil(b"\r\n\r\n")


@asynccontextmanager
async def _websocket(
    *, behind: bytes = b"", timing: Timing | None = None
) -> AsyncIterator[tuple[WebSocketStream, RawPeer]]:
    """An open WebSocket; ``behind`` comes in one piece with the 101."""
    async with _tcp() as (wire, peer), asyncio.TaskGroup() as tasks:
        opening = tasks.create_task(open_websocket(wire, URL, timing=timing))
        await peer.send(_switching(await _request(peer)) + behind)
        stream = await opening
        yield stream, peer
        stream.abort()


def say(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """Write a frame as a server does."""
    return frame(opcode, payload, fin=fin, mask=None)


def closing(code: int, reason: str = "") -> bytes:
    return say(CLOSE, code.to_bytes(2, "big") + reason.encode())


async def heard(peer: RawPeer) -> tuple[int, bytes]:
    """Read one frame of ours; check that it is masked and whole; give opcode and payload."""
    first, second = await peer.receive_exactly(2)
    assert first & 0x80
    assert second & 0x80
    size = second & 0x7F
    if size >= 126:
        size = int.from_bytes(await peer.receive_exactly(2 if size == 126 else 8), "big")
    key = await peer.receive_exactly(4)
    payload = await peer.receive_exactly(size) if size else b""
    return first & 0x0F, bytes(byte ^ key[place % 4] for place, byte in enumerate(payload))


# --- heads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 5, 16, 17, 18, 19, 22])
async def test_a_head_ends_with_the_blank_line_and_the_rest_is_kept(cut: int) -> None:
    data = b"GET / HTTP/1.1\r\n\r\nand more"
    async with _tcp() as (wire, peer):
        reader = HeadReader(wire, max_bytes=100)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(reader.read())
            await peer.send(data[:cut])
            await peer.send(data[cut:])

        head = reading.result()
        assert head == b"GET / HTTP/1.1\r\n\r\n"
        assert data.startswith(head + reader.rest)


@pytest.mark.parametrize(
    ("size", "is_taken"), [(99, True), (100, True), (101, False), (500, False)]
)
async def test_a_head_has_a_longest_size(size: int, is_taken: bool) -> None:
    head = b"x" * (size - 4) + b"\r\n\r\n"
    async with _tcp() as (wire, peer):
        reader = HeadReader(wire, max_bytes=100)
        await peer.send(head)

        assert await reader.read() == (head if is_taken else None)
        assert reader.is_too_long is not is_taken


async def test_a_head_that_never_ends_is_given_up_at_its_longest_size() -> None:
    async with _tcp() as (wire, peer):
        reader = HeadReader(wire, max_bytes=100)
        await peer.send(b"x" * 101)

        assert await reader.read() is None
        assert reader.is_too_long


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n"])
async def test_a_peer_that_leaves_sends_no_head(sent: bytes) -> None:
    async with _tcp() as (wire, peer):
        reader = HeadReader(wire, max_bytes=100)
        await peer.send(sent)
        peer.writer.write_eof()

        assert await reader.read() is None
        assert not reader.is_too_long
        assert reader.is_empty is not bool(sent)


# --- the handshake -------------------------------------------------------------------------------


async def test_the_request_names_host_path_headers_and_sub_protocols() -> None:
    async with _tcp() as (wire, peer), asyncio.TaskGroup() as tasks:
        opening = tasks.create_task(
            open_websocket(wire, URL, headers=[("X-One", "1")], subprotocols=["chat", "more"])
        )
        request = await _request(peer)
        await peer.send(_switching(request, "Sec-WebSocket-Protocol: more"))
        stream = await opening

        assert request.startswith(b"GET /$hc/hc1?sb-hc-action=connect HTTP/1.1\r\n")
        for line in (
            b"Host: ns1.servicebus.windows.net",
            b"X-One: 1",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Protocol: chat, more",
        ):
            assert line + b"\r\n" in request
        assert b"Extensions" not in request
        assert stream.subprotocol == "more"
        stream.abort()


@pytest.mark.clause(89)
async def test_what_comes_with_the_101_is_not_lost() -> None:
    async with _websocket(behind=say(BINARY, b"early") + closing(1000)) as (stream, _):
        assert await stream.receive() == b"early"
        assert await stream.receive() == b""


async def _refused(answer: bytes, *, ends: bool = True) -> HandshakeRefused | Unreachable:
    async with _tcp() as (wire, peer):
        opening = asyncio.get_running_loop().create_future()

        async def open_it() -> None:
            with pytest.raises((HandshakeRefused, Unreachable)) as caught:
                await open_websocket(wire, URL)
            opening.set_result(caught.value)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(open_it())
            await _request(peer)
            await peer.send(answer)
            if ends:
                peer.writer.write_eof()
        assert not wire.is_open
        error: HandshakeRefused | Unreachable = opening.result()
        return error


@pytest.mark.clause(68)
@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (
            b"404 Endpoint does not exist. TrackingId:x",
            404,
            "Endpoint does not exist. TrackingId:x",
        ),
        (b"450 Not today", 450, "Not today"),
        (b"999 Odd", 999, "Odd"),
        (b"401 caf\xe9", 401, "café"),
        (b"401 \xe2\x82\xac 5", 401, "€ 5"),
        (b"403 \x1b[2Jno\x00\x7f", 403, "[2Jno"),
        (b"403", 403, ""),
        (b"200 OK", 200, "OK"),
    ],
)
@pytest.mark.parametrize("body", [b"", b'{"error":{}}'])
async def test_a_refusal_carries_status_and_reason(
    line: bytes, status: int, reason: str, body: bytes
) -> None:
    head = b"HTTP/1.1 " + line + b"\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)

    error = await _refused(head + body)

    assert isinstance(error, HandshakeRefused)
    assert (error.status, error.reason) == (status, reason)


async def test_a_refusal_is_not_waited_for_to_its_last_byte() -> None:
    head = b"HTTP/1.1 403 No\r\nContent-Length: 100000\r\n\r\n"

    error = await _refused(head + b"not all of it", ends=False)

    assert error.status == 403


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 101 Switching",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"x" * (MAX_RESPONSE_HEAD_BYTES + 1),
    ],
)
async def test_what_is_no_answer_to_the_handshake_is_unreachable(answer: bytes) -> None:
    error = await _refused(answer)

    assert isinstance(error, Unreachable)
    assert error.hint


# --- bytes ---------------------------------------------------------------------------------------


async def test_bytes_leave_as_masked_binary_messages_that_fill_tls_records() -> None:
    content = bytes(range(251)) * 600
    async with _websocket() as (stream, peer), asyncio.TaskGroup() as tasks:
        tasks.create_task(stream.send(content))

        received = b""
        while len(received) < len(content):
            opcode, payload = await heard(peer)
            assert opcode == BINARY
            assert len(payload) <= FRAME_PAYLOAD_BYTES
            received += payload
        assert received == content


@pytest.mark.clause(131)
async def test_a_write_leaves_as_one_message_up_to_the_longest_datagram_with_its_length() -> None:
    async with _websocket() as (stream, peer):
        for size, sizes in ((1, [1]), (65_529, [65_529]), (65_530, [FRAME_PAYLOAD_BYTES, 2])):
            room = memoryview(bytearray(14 + size))
            stream.write(room, 14, 14 + size)

            assert [len((await heard(peer))[1]) for _ in sizes] == sizes


async def test_what_arrives_is_given_without_boundaries_and_without_empty_messages() -> None:
    async with _websocket() as (stream, peer):
        await peer.send(
            say(BINARY)
            + say(TEXT, b"one", fin=False)
            + say(0, b"two")
            + say(PING)
            + say(BINARY, b"x" * 70_000)
            + say(BINARY)
            + closing(1000)
        )

        received = b""
        while piece := await stream.receive():
            received += piece
        assert received == b"onetwo" + b"x" * 70_000


@pytest.mark.clause(102)
async def test_many_small_frames_are_given_together() -> None:
    async with _websocket() as (stream, peer):
        await peer.send(say(BINARY, b"x") * 10_000 + say(BINARY, b"y" * 5_000) + say(BINARY, b"z"))

        received = b""
        while len(received) < 15_001:
            received += await stream.receive()
        assert received == b"x" * 10_000 + b"y" * 5_000 + b"z"


# --- each direction ends on its own --------------------------------------------------------------


@pytest.mark.clause(83)
async def test_after_our_close_the_peers_bytes_still_come() -> None:
    async with _websocket() as (stream, peer):
        await stream.send(b"question")
        await stream.send_eof()
        assert await heard(peer) == (BINARY, b"question")
        assert await heard(peer) == (CLOSE, b"\x03\xe8Shutdown")

        await peer.send(say(BINARY, b"late answer") + closing(1000))
        assert await stream.receive() == b"late answer"
        assert await stream.receive() == b""


@pytest.mark.clause(83)
@pytest.mark.parametrize("close", [closing(1000), closing(1001, "Shutdown"), say(CLOSE)])
async def test_after_the_peers_close_our_bytes_still_go(close: bytes) -> None:
    async with _websocket() as (stream, peer):
        await peer.send(close)
        assert await stream.receive() == b""

        await stream.send(b"late answer")
        await stream.send_eof()
        assert await heard(peer) == (BINARY, b"late answer")
        assert await heard(peer) == (CLOSE, b"\x03\xe8Shutdown")


async def test_closing_sends_a_close_and_waits_for_the_peers() -> None:
    async with _websocket() as (stream, peer), asyncio.TaskGroup() as tasks:
        ending = tasks.create_task(stream.close())
        assert await heard(peer) == (CLOSE, b"\x03\xe8Shutdown")
        assert not ending.done()

        await peer.send(say(BINARY, b"dropped") + closing(1000))
        peer.writer.write_eof()
        await ending
        assert await peer.ended()


async def test_closing_does_not_wait_for_ever() -> None:
    async with (
        _websocket(timing=QUICK) as (stream, peer),
        asyncio.timeout(20),
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(stream.close())
        assert await peer.ended()
        peer.writer.close()


# --- what breaks it ------------------------------------------------------------------------------


Breaking = Callable[[RawPeer], Awaitable[None]]


async def _reset(peer: RawPeer) -> None:
    peer.reset()


async def _end_without_close(peer: RawPeer) -> None:
    peer.writer.write_eof()


async def _close_with_an_error(peer: RawPeer) -> None:
    await peer.send(closing(1011, "the service failed"))


async def _send_a_masked_frame(peer: RawPeer) -> None:
    await peer.send(frame(BINARY, b"x"))


@pytest.mark.clause(85)
@pytest.mark.parametrize(
    "breaks", [_reset, _end_without_close, _close_with_an_error, _send_a_masked_frame]
)
async def test_an_end_that_is_no_clean_close_is_a_lost_connection_after_all_that_came(
    breaks: Breaking,
) -> None:
    async with _websocket() as (stream, peer):
        await peer.send(say(BINARY, b"before"))
        assert await stream.receive() == b"before"

        await breaks(peer)

        with pytest.raises(ConnectionLost):
            await stream.receive()
        with pytest.raises(ConnectionLost):
            await stream.send(b"more")


async def test_a_violation_is_answered_with_1002() -> None:
    async with _websocket() as (stream, peer):
        await peer.send(b"\xff\xff")

        with pytest.raises(ConnectionLost, match="broke the WebSocket protocol"):
            await stream.receive()


@pytest.mark.clause(85)
async def test_an_abort_is_a_reset_without_a_close() -> None:
    async with _websocket() as (stream, peer):
        await stream.send(b"half of it")
        assert await heard(peer) == (BINARY, b"half of it")

        stream.abort()

        assert not await peer.ended()


async def test_a_block_that_fails_aborts_and_one_that_ends_closes() -> None:
    async with _websocket() as (stream, peer):
        with pytest.raises(ZeroDivisionError):
            async with stream:
                raise ZeroDivisionError

        assert not await peer.ended()


# --- pings ---------------------------------------------------------------------------------------


async def test_a_ping_is_answered_with_its_payload() -> None:
    async with _websocket() as (stream, peer), asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(stream.receive())
        await peer.send(say(PING, b"hello") + say(PING))

        assert await heard(peer) == (PONG, b"hello")
        assert await heard(peer) == (PONG, b"")
        await peer.send(closing(1000))
        assert await reading == b""


async def test_after_our_close_no_pong_is_sent() -> None:
    async with _websocket() as (stream, peer):
        await stream.send_eof()
        await peer.send(say(PING, b"hello") + say(BINARY, b"x") + closing(1000))
        assert await stream.receive() == b"x"
        assert await heard(peer) == (CLOSE, b"\x03\xe8Shutdown")

        peer.writer.write_eof()
        await stream.close()

        assert await peer.reader.read() == b""


async def test_the_relay_is_pinged_and_missed_when_it_is_silent() -> None:
    async with _websocket(timing=QUICK) as (stream, peer), asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(_lost(stream))
        for _ in range(3):
            assert await heard(peer) == (PING, b"")
            await peer.send(say(PONG))

        assert "has not answered a ping" in await reading


async def test_while_its_reading_is_held_back_it_pings_and_does_not_judge() -> None:
    async with _websocket(timing=QUICK) as (stream, peer):
        await peer.send(say(BINARY, b"x" * 65_000) * 8)
        while not stream._is_paused:
            # The first use begins to read; nobody takes what comes.
            await stream.send(b"")
            await asyncio.sleep(0)

        for _ in range(6):
            assert await heard(peer) == (PING, b"")

        received = 0
        while received < 8 * 65_000:
            received += len(await stream.receive())


async def _lost(stream: WebSocketStream) -> str:
    with pytest.raises(ConnectionLost) as caught:
        await stream.receive()
    return str(caught.value)
