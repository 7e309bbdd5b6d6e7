"""Whether the target of a hybrid connection can be reached, which the relay does not tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """What is known of the target of one hybrid connection."""

    is_reachable: bool | None = None
    """Whether the last try to reach it worked; None until there was one."""

    since: datetime | None = None
    """UTC, when it became so; None until there was a try."""

    last_error: str = ""
    """Why the last try that failed did, one line; it stays after one that worked."""

    def to_fields(self) -> dict[str, object]:
        """Give it for JSON; the time as ISO 8601."""
        return {
            "is_reachable": self.is_reachable,
            "since": None if self.since is None else self.since.isoformat(timespec="seconds"),
            "last_error": self.last_error,
        }
