"""How late the event loop is: what every connection of the process waits for."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate

MEASURE_SECONDS = 0.25
"""How often it is measured. A longer turn of the loop is seen whole, as one late timer."""

BUCKET_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the histogram. An idle loop is up to a millisecond late: no timer is finer."""


class LoopLag:
    """A histogram of how late a timer fires that is due every `MEASURE_SECONDS`."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKET_SECONDS) + 1)
        self._timer: asyncio.TimerHandle
        self.total_seconds = 0.0
        """Sum of all that was measured."""

    @property
    def cumulative(self) -> list[tuple[float, int]]:
        """Upper bound in seconds, and how many times it was at most that late; infinity last."""
        return list(zip((*BUCKET_SECONDS, float("inf")), accumulate(self._counts), strict=True))

    def observe(self, seconds: float) -> None:
        """Take one measurement in."""
        self._counts[bisect_left(BUCKET_SECONDS, seconds)] += 1
        self.total_seconds += seconds

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure the running loop for the length of a block; no timer is left behind."""
        self._await_next(asyncio.get_running_loop())
        try:
            yield
        finally:
            self._timer.cancel()

    def _await_next(self, loop: asyncio.AbstractEventLoop) -> None:
        # By a clock of our own: uvloop's stands still during a turn of the loop.
        due = time.monotonic() + MEASURE_SECONDS
        self._timer = loop.call_later(MEASURE_SECONDS, self._fired, loop, due)

    def _fired(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self.observe(max(0.0, time.monotonic() - due))
        self._await_next(loop)
