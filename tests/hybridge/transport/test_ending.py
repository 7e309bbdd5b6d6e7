from __future__ import annotations

import asyncio

import pytest

from hybridge.protocol.errors import Stopping
from hybridge.transport.ending import Ending


async def test_a_block_runs_undisturbed_while_nothing_ends() -> None:
    async with Ending().grace():
        await asyncio.sleep(0)


async def test_what_waits_is_cut_short_when_the_end_begins() -> None:
    ending = Ending()
    cancelled = 0

    async def work() -> None:
        nonlocal cancelled
        async with ending.grace():
            try:
                await asyncio.Event().wait()
            finally:
                cancelled += 1

    async def wait() -> None:
        with pytest.raises(Stopping):
            await work()

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(wait())
        await asyncio.sleep(0)
        ending.begin()
        ending.begin()
        await asyncio.sleep(0)
        ending.begin()  # while they are being cancelled
    assert cancelled == 3


async def test_who_enters_after_the_end_has_begun_has_what_is_left_of_the_grace() -> None:
    ending = Ending()
    ending.begin()

    async with ending.grace(60):
        await asyncio.sleep(0)
    with pytest.raises(Stopping):
        async with ending.grace():
            await asyncio.Event().wait()


async def test_a_timeout_of_the_block_itself_stays_what_it_is() -> None:
    ending = Ending()

    with pytest.raises(TimeoutError):
        async with ending.grace(), asyncio.timeout(0):
            await asyncio.Event().wait()
