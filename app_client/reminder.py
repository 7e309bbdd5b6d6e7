"""Trouble that lasts, told in the log once, and again when it changes."""

from __future__ import annotations

from hybridge.protocol.errors import RelayError

REMIND_SECONDS = 300.0
"""While nothing changes, the log says so once in this time."""


class Reminder:
    """Tells which of a row of errors the log needs to hear of."""

    def __init__(self) -> None:
        self._last = ""
        self._told_at: float | None = None

    def is_due(self, error: RelayError, now: float) -> bool:
        """Whether to say it: it is new, or was said long ago; ``now`` is monotonic seconds."""
        # What follows is another at each try.
        text = str(error).partition("TrackingId:")[0]
        is_old = self._told_at is not None and now - self._told_at < REMIND_SECONDS
        if is_old and text == self._last:
            return False
        self._last, self._told_at = text, now
        return True
