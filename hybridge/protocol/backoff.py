"""When to try again: full jitter, no giving up.

The first try comes at once. After that the delay is drawn between zero and a bound that doubles
from one second, capped at 2 s in the first minute of an outage and at 30 s after it. A connection
that held for 30 s counts as health, and the next outage starts afresh.
"""

from __future__ import annotations

from collections.abc import Callable

BASE_SECONDS = 1.0
EARLY_CAP_SECONDS = 2.0
EARLY_OUTAGE_SECONDS = 60.0
CAP_SECONDS = 30.0
HEALTHY_AFTER_SECONDS = 30.0


class Backoff:
    """Counts the tries of one outage.

    Args:
        uniform: Draws a number between its two arguments, as `random.uniform` does.
    """

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        self._uniform = uniform
        self._tries = 0
        self._outage_since: float | None = None

    def next_delay(self, now: float) -> float:
        """Give the seconds to wait before the next try; ``now`` is monotonic seconds."""
        if self._outage_since is None:
            self._outage_since = now
            self._tries = 0
            return 0.0
        early = now - self._outage_since < EARLY_OUTAGE_SECONDS
        cap = EARLY_CAP_SECONDS if early else CAP_SECONDS
        bound = min(cap, BASE_SECONDS * 2 ** min(self._tries, 16))
        self._tries += 1
        return self._uniform(0.0, bound)

    def worked(self, seconds: float) -> None:
        """Hear that a connection held for ``seconds`` before it broke."""
        if seconds >= HEALTHY_AFTER_SECONDS:
            self._outage_since = None
