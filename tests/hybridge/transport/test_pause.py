"""Waiting, and noticing that the machine has slept meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from hybridge.transport import pause as module
from hybridge.transport.pause import JUMP_SECONDS, pause


class Clocks:
    """The wall clock, and the one that stands still while the machine sleeps."""

    def __init__(self) -> None:
        self.wall = 1_000_000.0
        self.looks = 0
        self.jump = 0.0

    def time(self) -> float:
        self.looks += 1
        return self.wall + (self.jump if self.looks > 1 else 0.0)

    def monotonic(self) -> float:
        return 5.0


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(module, "time", clocks)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    return clocks


@pytest.mark.parametrize("jump", [JUMP_SECONDS + 0.1, -3600.0])
async def test_a_clock_that_jumps_ends_a_long_pause(clocks: Clocks, jump: float) -> None:
    clocks.jump = jump

    async with asyncio.timeout(20):
        assert await pause(3600.0) is True


async def test_a_clock_that_drifts_does_not(clocks: Clocks) -> None:
    clocks.jump = JUMP_SECONDS - 0.1

    assert await pause(0.01) is False
    assert clocks.looks > 1


async def test_an_event_ends_it_at_once_also_one_that_was_set_before(clocks: Clocks) -> None:
    event = asyncio.Event()
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(pause(3600.0, until=event))
        await asyncio.sleep(0)
        event.set()

        assert await waiting is False
        assert await pause(3600.0, until=event) is False


async def test_without_seconds_it_does_not_wait(clocks: Clocks) -> None:
    assert await pause(0.0) is False
    assert clocks.looks == 1
