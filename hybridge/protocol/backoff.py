"""When to try again: full jitter, no giving up.

The very first try comes at once, and the first after a cut within half a second, so that those who
were cut together do not come back together. After that the delay is drawn between zero and a bound
that doubles from 0.8 s, capped at 2 s in the first five minutes of an outage, in which relays
are restarted and machines are updated, and at 30 s after them. A connection that held for 2 s
counts as health, and the next outage starts afresh. One that broke sooner is part of the same
outage; in its first five minutes the next try comes within a second all the same.
"""

from __future__ import annotations

from collections.abc import Callable

FIRST_SECONDS = 0.5
BASE_SECONDS = 0.8
EARLY_CAP_SECONDS = 2.0
EARLY_OUTAGE_SECONDS = 300.0
CAP_SECONDS = 30.0
HEALTHY_AFTER_SECONDS = 2.0


class Backoff:
    """Counts the tries of one outage.

    Args:
        uniform: Draws a number between its two arguments, as `random.uniform` does.
    """

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        self._uniform = uniform
        self._tries = 0
        self._outage_since: float | None = None
        self._first_bound = 0.0
        self._is_early = True

    def next_delay(self, now: float) -> float:
        """Give the seconds to wait before the next try; ``now`` is monotonic seconds."""
        if self._outage_since is None:
            self._outage_since = now
            self._tries = 0
            self._is_early = True
            return self._uniform(0.0, self._first_bound)
        self._is_early = now - self._outage_since < EARLY_OUTAGE_SECONDS
        cap = EARLY_CAP_SECONDS if self._is_early else CAP_SECONDS
        bound = min(cap, BASE_SECONDS * 2 ** min(self._tries, 16))
        self._tries += 1
        return self._uniform(0.0, bound)

    def worked(self, seconds: float) -> None:
        """Hear that a connection held for ``seconds`` before it broke."""
        if seconds >= HEALTHY_AFTER_SECONDS:
            self._outage_since = None
            self._first_bound = FIRST_SECONDS
        elif self._is_early:
            self._tries = 0

    def start_afresh(self) -> None:
        """Hear that things may be otherwise now: the next try comes at once, as the very first."""
        self._outage_since = None
        self._first_bound = 0.0
