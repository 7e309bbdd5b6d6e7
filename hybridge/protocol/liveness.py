"""Is the peer still there? Decided from inbound bytes only, without a clock.

Every leg sends a ping each interval and expects something inbound within the answer time. A peer
that holds its reading back answers no ping, but sends its own, at another phase: silence is
therefore never counted as less than an interval and the answer time together. A leg whose writes
are blocked, or that we do not read, is not judged: a slow peer is slowed, not killed. Blocked *and*
silent for the stall time, it is dropped. See docs/decisions/0002-data-plane.md.
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
        answer_seconds: After a ping, something inbound is due within this; or after one more
            interval without a byte, whichever is later.
        stall_seconds: A blocked leg on which nothing moves is dropped after this.
    """

    __slots__ = (
        "_answer_due",
        "_answer_seconds",
        "_checked_at",
        "_next_ping",
        "_ping_interval",
        "_pinged_at",
        "_stall_seconds",
        "_stalled_since",
        "heard_at",
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
        self._pinged_at = now
        self._checked_at = now
        self._answer_due: float | None = None
        self._stalled_since: float | None = None
        self.heard_at = now
        """Set by the owner when bytes arrive. Nothing else counts as life."""
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
            if is_judged and not is_blocked and self.heard_at < self._pinged_at:
                return Verdict.DEAD
        if not is_blocked or self.moved or self.heard_at >= self._checked_at:
            self._stalled_since = None
        elif self._stalled_since is None:
            self._stalled_since = self._checked_at
        if self._stalled_since is not None and now - self._stalled_since >= self._stall_seconds:
            return Verdict.STALLED
        self._checked_at = now
        self.moved = False
        if now < self._next_ping:
            return Verdict.WAIT
        self._next_ping = now + self._ping_interval
        # Where bytes are held, the ping would stand behind data that the peer does not take.
        return Verdict.WAIT if is_blocked else Verdict.PING

    def ping_sent(self, now: float, *, is_judged: bool) -> None:
        """Hear that the ping has left, which may be later than `check` asked for it."""
        if not is_judged:
            return
        if self._answer_due is not None and self.heard_at < self._pinged_at:
            return  # The answer to the ping before this one is due first.
        self._pinged_at = now
        self._answer_due = max(now, self.heard_at + self._ping_interval) + self._answer_seconds
