"""Messages on a request's rendezvous, against a raw peer that plays the relay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hybridge.protocol.errors import ConnectionLost, MalformedMessage
from hybridge.protocol.messages import MAX_RENDEZVOUS_REQUEST_BYTES
from hybridge.transport.message_stream import (
    END_REASON,
    MAX_INBOX_PIECES,
    MessageStream,
    Piece,
    _MessageSocket,
)
from hybridge.transport.tcp import dial_tcp
from hybridge.transport.timing import Timing
from hybridge.transport.websocket import FRAME_PAYLOAD_BYTES
from tests.support.raw import BINARY, CLOSE, TEXT, frame
from tests.support.scripted_relay import RelayEnd
from tests.support.until import until

CLOSING = frame(CLOSE, (1000).to_bytes(2, "big"), mask=None)


@asynccontextmanager
async def meeting() -> AsyncIterator[tuple[MessageStream, RelayEnd]]:
    """A stream whose handshake is over, and the relay's end of it."""
    arrived: asyncio.Future[RelayEnd] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set_result(RelayEnd(reader, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        wire = await dial_tcp("127.0.0.1", server.sockets[0].getsockname()[1])
        timing = Timing(close_timeout_seconds=0.02)
        stream = MessageStream(_MessageSocket(wire, rest=b"", timing=timing))
        async with asyncio.timeout(20), await arrived as peer:
            yield stream, peer
            stream.abort()


async def test_a_text_message_may_come_in_fragments_with_a_ping_between() -> None:
    async with meeting() as (stream, peer):
        await peer.send(frame(TEXT, b'{"a', fin=False, mask=None) + frame(9, b"", mask=None))
        await peer.send(frame(0, b'":1}', mask=None))
        assert await stream.receive_text() == '{"a":1}'


@pytest.mark.parametrize(
    "said",
    [
        frame(BINARY, b"{}", mask=None),
        frame(TEXT, b"\xff", mask=None),
        frame(TEXT, b"x" * (MAX_RENDEZVOUS_REQUEST_BYTES + 1), mask=None),
    ],
)
async def test_what_is_no_command_is_malformed(said: bytes) -> None:
    async with meeting() as (stream, peer):
        await peer.send(said)
        with pytest.raises(MalformedMessage):
            await stream.receive_text()


async def test_the_largest_command_is_taken() -> None:
    async with meeting() as (stream, peer):
        await peer.send(frame(TEXT, b"x" * MAX_RENDEZVOUS_REQUEST_BYTES, mask=None))
        assert len(await stream.receive_text()) == MAX_RENDEZVOUS_REQUEST_BYTES


async def test_messages_are_kept_apart_and_of_their_kind() -> None:
    async with meeting() as (stream, peer):
        await peer.send(
            frame(BINARY, b"one", mask=None)
            + frame(BINARY, b"", mask=None)
            + frame(TEXT, b"two", mask=None)
        )
        pieces = [await stream.receive() for _ in range(3)]

    assert pieces == [
        Piece(b"one", False, True),
        Piece(b"", False, True),
        Piece(b"two", True, True),
    ]


async def test_a_fragment_that_is_larger_than_a_frame_becomes_several() -> None:
    async with meeting() as (stream, peer):
        await stream.send_fragment(b"x" * (FRAME_PAYLOAD_BYTES + 1))
        await stream.send_fragment(b"y")
        await stream.send_fragment(b"", is_last=True)
        await stream.send_fragment(b"z" * (FRAME_PAYLOAD_BYTES + 1), is_last=True)
        frames = [await peer.frame() for _ in range(6)]

    assert [(each.opcode, len(each.payload), each.fin) for each in frames] == [
        (BINARY, FRAME_PAYLOAD_BYTES, False),
        (0, 1, False),
        (0, 1, False),
        (0, 0, True),
        (BINARY, FRAME_PAYLOAD_BYTES, False),
        (0, 1, True),
    ]


async def test_messages_without_bytes_are_bounded_too() -> None:
    async with meeting() as (stream, peer):
        await peer.send(frame(BINARY, b"", mask=None) * (MAX_INBOX_PIECES - 1))
        await until(lambda: len(stream._inbox._pieces) == MAX_INBOX_PIECES - 1)
        assert not stream._socket._is_paused
        await peer.send(frame(BINARY, b"", mask=None))
        await until(lambda: stream._socket._is_paused)
        for _ in range(MAX_INBOX_PIECES):
            await stream.receive()
        assert not stream._socket._is_paused


async def test_a_relay_that_closes_has_gone_for_both_directions() -> None:
    gone: list[str] = []
    async with meeting() as (stream, peer):
        stream.when_gone(lambda: gone.append("told"))
        await peer.send(frame(BINARY, b"last", fin=False, mask=None) + CLOSING)
        assert (await stream.receive()).data == b"last"
        with pytest.raises(ConnectionLost):
            await stream.receive()
        with pytest.raises(ConnectionLost):
            await stream.send_text("{}")
        assert stream.is_gone
        stream.when_gone(lambda: gone.append("told late"))

    assert gone == ["told", "told late"]


async def test_an_orderly_end_is_told_as_microsofts_libraries_do() -> None:
    async with meeting() as (stream, peer), asyncio.TaskGroup() as tasks:
        tasks.create_task(stream.close())
        assert await peer.close() == (1000, END_REASON)
        await peer.say_close()
        peer.writer.close()


async def test_an_abort_wakes_who_waits() -> None:
    async with meeting() as (stream, _), asyncio.TaskGroup() as tasks:

        async def receive() -> None:
            with pytest.raises(ConnectionLost):
                await stream.receive()

        tasks.create_task(receive())
        await asyncio.sleep(0)
        stream.abort()
