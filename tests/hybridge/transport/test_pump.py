"""Two scripted streams, and the pump between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hybridge.protocol.errors import ConnectionLost
from hybridge.transport.pump import Traffic, pump
from tests.support.scripted import ScriptedStream


@asynccontextmanager
async def _pumping(
    near: ScriptedStream, far: ScriptedStream
) -> AsyncIterator[asyncio.Task[Traffic]]:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(pump(near, far))
        await asyncio.sleep(0)
        yield running


async def test_bytes_go_both_ways_and_are_counted() -> None:
    near, far = ScriptedStream(), ScriptedStream()
    async with _pumping(near, far) as running:
        near.arrive(b"question")
        far.arrive(b"answer")
        far.arrive(b"!")
        near.end()
        far.end()

    assert (bytes(far.sent), bytes(near.sent)) == (b"question", b"answer!")
    assert running.result() == Traffic(forward=8, backward=7)


@pytest.mark.clause(130)
async def test_the_end_of_one_direction_does_not_cut_the_other() -> None:
    near, far = ScriptedStream(), ScriptedStream()
    async with _pumping(near, far) as running:
        near.arrive(b"question")
        near.end()
        assert (near.is_eof_sent, far.is_eof_sent) == (False, True)

        far.arrive(b"late answer")
        await asyncio.sleep(0)
        assert not running.done()
        far.end()

    assert near.sent == b"late answer"
    assert (near.is_eof_sent, far.is_eof_sent) == (True, True)
    assert (near.is_aborted, far.is_aborted) == (False, False)


async def test_a_side_that_is_blocked_stops_the_reading_of_the_other_and_only_that() -> None:
    near, far = ScriptedStream(), ScriptedStream(takes=4)
    async with _pumping(near, far):
        near.arrive(b"123")
        assert (near.is_reading, far.is_reading) == (True, True)
        near.arrive(b"456")
        assert (near.is_reading, far.is_reading) == (False, True)

        far.drain()
        assert (near.is_reading, far.is_reading) == (True, True)
        near.end()
        far.end()

    assert far.sent == b"123456"


@pytest.mark.parametrize("is_near", [True, False])
async def test_when_one_side_breaks_both_are_aborted_and_it_is_an_error(is_near: bool) -> None:
    near, far = ScriptedStream(), ScriptedStream()

    async def run() -> None:
        with pytest.raises(ConnectionLost):
            await pump(near, far)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run())
        await asyncio.sleep(0)
        near.arrive(b"half")
        (near if is_near else far).break_off()
        (far if is_near else near).break_off()

    assert near.is_aborted
    assert far.is_aborted
    assert not far.is_eof_sent


async def test_a_side_that_breaks_after_its_end_breaks_the_connection() -> None:
    near, far = ScriptedStream(), ScriptedStream()

    async def run() -> None:
        with pytest.raises(ConnectionLost):
            await pump(near, far)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run())
        await asyncio.sleep(0)
        near.end()
        near.break_off()

    assert far.is_aborted


async def test_a_pump_that_is_cancelled_aborts_both() -> None:
    near, far = ScriptedStream(), ScriptedStream()
    async with _pumping(near, far) as running:
        running.cancel()

    assert near.is_aborted
    assert far.is_aborted
