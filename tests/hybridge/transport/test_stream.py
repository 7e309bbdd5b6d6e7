"""The awaited side of a stream, on a scripted one."""

from __future__ import annotations

import asyncio

import pytest

from hybridge.protocol.errors import ConnectionLost
from hybridge.transport.stream import MAX_INBOX_BYTES
from tests.support.scripted import ScriptedStream


async def _started(**script: int) -> ScriptedStream:
    """A stream whose awaited side is in use."""
    stream = ScriptedStream(**script)
    await stream.send(b"")
    return stream


async def test_what_arrived_is_received_at_once_and_then_the_end() -> None:
    stream = await _started()

    stream.arrive(b"one ")
    stream.arrive(b"two")
    stream.end()

    assert await stream.receive() == b"one two"
    assert await stream.receive() == b""
    assert await stream.receive() == b""


async def test_receive_waits_until_something_arrives() -> None:
    stream = await _started()
    async with asyncio.TaskGroup() as tasks:
        receiving = tasks.create_task(stream.receive())
        await asyncio.sleep(0)
        assert not receiving.done()

        stream.arrive(b"x")
        assert await receiving == b"x"


async def test_after_a_break_what_had_arrived_is_given_first() -> None:
    stream = await _started()

    stream.arrive(b"before")
    stream.break_off()

    assert await stream.receive() == b"before"
    with pytest.raises(ConnectionLost):
        await stream.receive()
    with pytest.raises(ConnectionLost):
        await stream.send(b"more")
    with pytest.raises(ConnectionLost):
        await stream.send_eof()


async def test_a_reader_that_does_not_come_stops_the_socket_from_being_read() -> None:
    stream = await _started()

    stream.arrive(bytes(MAX_INBOX_BYTES - 1))
    readings = [stream.is_reading]
    stream.arrive(b"x")
    readings.append(stream.is_reading)

    assert len(await stream.receive()) == MAX_INBOX_BYTES
    assert [*readings, stream.is_reading] == [True, False, True]


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 200_000])
async def test_all_of_it_is_sent_whatever_the_stream_does_to_the_buffer(size: int) -> None:
    stream = ScriptedStream()
    data = bytes(range(251)) * (size // 251 + 1)

    await stream.send(memoryview(data)[:size])

    assert stream.sent == data[:size]


async def test_sending_waits_while_the_peer_takes_nothing() -> None:
    stream = await _started(takes=10)
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(stream.send(bytes(100_000)))
        await asyncio.sleep(0)
        assert (len(stream.sent), sending.done()) == (65_536, False)

        stream.drain(takes=10)
        await asyncio.sleep(0)
        assert (len(stream.sent), sending.done()) == (100_000, False)

        stream.drain()


async def test_sending_to_a_peer_that_breaks_off_is_an_error() -> None:
    stream = await _started(takes=0)

    async def send() -> None:
        with pytest.raises(ConnectionLost):
            await stream.send(b"abc")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send())
        await asyncio.sleep(0)
        stream.break_off()


async def test_finishing_leaves_the_other_direction_alone() -> None:
    stream = await _started()

    await stream.send_eof()
    stream.arrive(b"late")

    assert stream.is_eof_sent
    assert await stream.receive() == b"late"


async def test_a_block_closes_and_one_that_fails_aborts() -> None:
    async with ScriptedStream() as ended:
        pass
    failed = ScriptedStream()
    with pytest.raises(ZeroDivisionError):
        async with failed:
            raise ZeroDivisionError

    assert (ended.is_closed, ended.is_aborted) == (True, False)
    assert (failed.is_closed, failed.is_aborted) == (False, True)
