"""What is gathered of several connections arrives whole and in order."""

from __future__ import annotations

import asyncio
import random

import pytest

from hybridge.protocol.errors import RelayError
from hybridge.transport.multiplex import MAX_GATHERED_BYTES
from hybridge.transport.multiplexed_stream import MultiplexedStream
from hybridge.transport.stream import HEADROOM_BYTES, with_headroom
from tests.hybridge.transport.test_multiplex import Ends, ends
from tests.support.until import until

STREAMS = 6
SIZES = [1, 30, 4_000, MAX_GATHERED_BYTES - 1, MAX_GATHERED_BYTES, 70_000]


class Talker:
    """Writes to one end for as long as that takes more, and notes what the other end hears."""

    def __init__(self, near: MultiplexedStream, far: MultiplexedStream, chance: random.Random):
        self.near = near
        self.said = bytearray()
        self.heard = bytearray()
        self.turns = 40
        self.ending = chance.choice([near.write_eof, near.abort])
        self.end: str | None = None
        self._chance = chance
        self._far = far
        near.attach(_Drained(self))
        far.attach(self)

    def talk(self) -> None:
        """Write until that is held back; after the last piece, end at once."""
        while self.turns:
            self.turns -= 1
            data = self._chance.randbytes(self._chance.choice(SIZES))
            room = with_headroom(data)
            self.said += data
            takes_more = self.near.write(room, HEADROOM_BYTES, len(room))
            assert takes_more is not self.near.is_blocked
            if not self.turns:
                self.ending()
            elif not takes_more:
                return
            elif self._chance.random() < 0.3:
                self.near._loop.call_soon(self.talk)
                return

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        self.heard += buffer[start:end]
        if self._chance.random() < 0.1:
            self._far.pause()
            self._far._loop.call_soon(self._far.resume)

    def ended(self) -> None:
        self.end = "ended"

    def broken(self, _: RelayError) -> None:
        self.end = "broken"

    def drained(self) -> None:
        pass


class _Drained:
    def __init__(self, talker: Talker) -> None:
        self._talker = talker

    def data(self, *_: object) -> None:
        raise AssertionError("nothing is said")

    def ended(self) -> None:
        pass

    def broken(self, _: RelayError) -> None:
        pass

    def drained(self) -> None:
        self._talker.talk()


async def _hold_up(both: Ends, chance: random.Random) -> None:
    while True:
        both.near.is_stuck = True
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        both.near.unstick()
        await asyncio.sleep(0)


@pytest.mark.parametrize("room", [0, 20_000, 262_144])
@pytest.mark.parametrize("seed", range(4))
async def test_an_end_means_all_and_a_break_a_prefix_and_nobody_waits_for_ever(
    room: int, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same course each time
    async with ends(room=room) as both, asyncio.TaskGroup() as tasks:
        talkers = [Talker(*await both.open(), chance) for _ in range(STREAMS)]
        trouble = tasks.create_task(_hold_up(both, chance))
        for talker in talkers:
            talker.talk()

        await until(lambda: all(talker.end for talker in talkers))
        trouble.cancel()

        for talker in talkers:
            assert not talker.turns
            assert len(both.opener._gathered) < HEADROOM_BYTES + MAX_GATHERED_BYTES
            if talker.ending == talker.near.write_eof:
                assert talker.end == "ended"
                assert talker.heard == talker.said
            else:
                assert talker.end == "broken"
                assert talker.said.startswith(talker.heard)
