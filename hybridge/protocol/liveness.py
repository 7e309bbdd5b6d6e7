"""Is the peer still there? Decided from inbound bytes only, without a clock.

Every leg sends a ping each interval and expects something inbound within the answer time. A leg
whose writes are blocked, or that we do not read, is not judged: a slow peer is slowed, not killed.
Blocked *and* silent for the stall time, it is dropped. See docs/decisions/0002-data-plane.md.
"""

from __future__ import annotations

import enum


class Verdict(enum.Enum):
    """What to do now."""

    WAIT = "wait"
    PING = "send a ping"
    DEAD = "the peer is gone"
    STALLED = "the peer was blocked and silent for too long"


class Liveness:
    """Tell it what happens; ask `check` at the times it names.

    Args:
        now: Monotonic seconds.
        ping_interval_seconds: From one ping to the next.
        answer_seconds: After a ping, something inbound is due within this.
        stall_seconds: A blocked leg on which nothing moves is dropped after this.
    """

    __slots__ = (
        "_answer_due",
        "_answer_seconds",
        "_next_ping",
        "_ping_interval",
        "_stall_seconds",
        "_stalled_since",
        "heard",
        "moved",
    )

    def __init__(
        self,
        now: float,
        *,
        ping_interval_seconds: float,
        answer_seconds: float,
        stall_seconds: float,
    ) -> None:
        self._ping_interval = ping_interval_seconds
        self._answer_seconds = answer_seconds
        self._stall_seconds = stall_seconds
        self._next_ping = now + ping_interval_seconds
        self._answer_due: float | None = None
        self._stalled_since: float | None = None
        self.heard = False
        """Set to True by the owner when bytes arrive. Nothing else counts as life."""
        self.moved = False
        """Set to True by the owner when held bytes leave."""

    def excuse(self) -> None:
        """Stop waiting for the outstanding answer: it cannot be seen, or cannot be sent."""
        self._answer_due = None

    @property
    def next_check(self) -> float:
        """When to ask again, in the same seconds as ``now``."""
        if self._answer_due is None:
            return self._next_ping
        return min(self._answer_due, self._next_ping)

    def check(self, now: float, *, is_blocked: bool, is_judged: bool) -> Verdict:
        """Decide.

        Args:
            now: Monotonic seconds.
            is_blocked: Whether bytes to the peer are held back.
            is_judged: Whether an answer could be seen: we read, and the peer has not finished.
        """
        if self._answer_due is not None and now >= self._answer_due:
            self._answer_due = None
            if is_judged and not is_blocked and not self.heard:
                return Verdict.DEAD
        if not is_blocked or self.heard or self.moved:
            self._stalled_since = None
        elif self._stalled_since is None:
            self._stalled_since = now
        elif now - self._stalled_since >= self._stall_seconds:
            return Verdict.STALLED
        if now < self._next_ping:
            return Verdict.WAIT
        self._next_ping = now + self._ping_interval
        if is_blocked:
            # The ping would stand behind the data that the peer does not take.
            self.heard = self.moved = False
            return Verdict.WAIT
        return Verdict.PING

    def ping_sent(self, now: float, *, is_judged: bool) -> None:
        """Hear that the ping has left, which may be later than `check` asked for it."""
        self.heard = self.moved = False
        if is_judged:
            self._answer_due = now + self._answer_seconds
