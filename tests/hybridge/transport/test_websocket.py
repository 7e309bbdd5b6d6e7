"""The dialling end of a WebSocket, against a raw peer that plays the relay."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from hybridge.protocol.errors import ConnectionLost
from hybridge.transport.timing import Timing
from hybridge.transport.websocket import FRAME_PAYLOAD_BYTES, WebSocketStream
from tests.support.raw import BINARY, CLOSE, PING, PONG, TEXT, RawPeer, frame
from tests.support.websocket_ends import closing, say, websocket_pair

QUICK = Timing(ping_interval_seconds=0.1, pong_timeout_seconds=0.3, close_timeout_seconds=0.2)
"""Six pings take longer than a silent peer may live."""


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


# --- bytes ---------------------------------------------------------------------------------------


async def test_bytes_leave_as_masked_binary_messages_that_fill_tls_records() -> None:
    content = bytes(range(251)) * 600
    async with websocket_pair() as (stream, peer), asyncio.TaskGroup() as tasks:
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
    async with websocket_pair() as (stream, peer):
        for size, sizes in ((1, [1]), (65_529, [65_529]), (65_530, [FRAME_PAYLOAD_BYTES, 2])):
            room = memoryview(bytearray(14 + size))
            stream.write(room, 14, 14 + size)

            assert [len((await heard(peer))[1]) for _ in sizes] == sizes


async def test_what_arrives_is_given_without_boundaries_and_without_empty_messages() -> None:
    async with websocket_pair() as (stream, peer):
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
    async with websocket_pair() as (stream, peer):
        await peer.send(say(BINARY, b"x") * 10_000 + say(BINARY, b"y" * 5_000) + say(BINARY, b"z"))

        received = b""
        while len(received) < 15_001:
            received += await stream.receive()
        assert received == b"x" * 10_000 + b"y" * 5_000 + b"z"


# --- each direction ends on its own --------------------------------------------------------------


@pytest.mark.clause(83)
async def test_after_our_close_the_peers_bytes_still_come() -> None:
    async with websocket_pair() as (stream, peer):
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
    async with websocket_pair() as (stream, peer):
        await peer.send(close)
        assert await stream.receive() == b""

        await stream.send(b"late answer")
        await stream.send_eof()
        assert await heard(peer) == (BINARY, b"late answer")
        assert await heard(peer) == (CLOSE, b"\x03\xe8Shutdown")


async def test_closing_sends_a_close_and_waits_for_the_peers() -> None:
    async with websocket_pair() as (stream, peer), asyncio.TaskGroup() as tasks:
        ending = tasks.create_task(stream.close())
        assert await heard(peer) == (CLOSE, b"\x03\xe8Shutdown")
        assert not ending.done()

        await peer.send(say(BINARY, b"dropped") + closing(1000))
        peer.writer.write_eof()
        await ending
        assert await peer.ended()


async def test_closing_does_not_wait_for_ever() -> None:
    async with (
        websocket_pair(timing=QUICK) as (stream, peer),
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
    async with websocket_pair() as (stream, peer):
        await peer.send(say(BINARY, b"before"))
        assert await stream.receive() == b"before"

        await breaks(peer)

        with pytest.raises(ConnectionLost):
            await stream.receive()
        with pytest.raises(ConnectionLost):
            await stream.send(b"more")


async def test_a_violation_is_answered_with_1002() -> None:
    async with websocket_pair() as (stream, peer):
        await peer.send(b"\xff\xff")

        with pytest.raises(ConnectionLost, match="broke the WebSocket protocol"):
            await stream.receive()


@pytest.mark.clause(85)
async def test_an_abort_is_a_reset_without_a_close() -> None:
    async with websocket_pair() as (stream, peer):
        await stream.send(b"half of it")
        assert await heard(peer) == (BINARY, b"half of it")

        stream.abort()

        assert not await peer.ended()


async def test_a_block_that_fails_aborts_and_one_that_ends_closes() -> None:
    async with websocket_pair() as (stream, peer):
        with pytest.raises(ZeroDivisionError):
            async with stream:
                raise ZeroDivisionError

        assert not await peer.ended()


# --- pings ---------------------------------------------------------------------------------------


async def test_a_ping_is_answered_with_its_payload() -> None:
    async with websocket_pair() as (stream, peer), asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(stream.receive())
        await peer.send(say(PING, b"hello") + say(PING))

        assert await heard(peer) == (PONG, b"hello")
        assert await heard(peer) == (PONG, b"")
        await peer.send(closing(1000))
        assert await reading == b""


async def test_after_our_close_no_pong_is_sent() -> None:
    async with websocket_pair() as (stream, peer):
        await stream.send_eof()
        await peer.send(say(PING, b"hello") + say(BINARY, b"x") + closing(1000))
        assert await stream.receive() == b"x"
        assert await heard(peer) == (CLOSE, b"\x03\xe8Shutdown")

        peer.writer.write_eof()
        await stream.close()

        assert await peer.reader.read() == b""


async def test_the_relay_is_pinged_and_missed_when_it_is_silent() -> None:
    async with websocket_pair(timing=QUICK) as (stream, peer), asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(_lost(stream))
        for _ in range(3):
            assert await heard(peer) == (PING, b"")
            await peer.send(say(PONG))

        assert "has not answered a ping" in await reading


async def test_while_its_reading_is_held_back_it_pings_and_does_not_judge() -> None:
    async with websocket_pair(timing=QUICK) as (stream, peer):
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
