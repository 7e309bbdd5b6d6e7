"""The relay, the agent and the client as separate processes whose log can be followed.

They run in this Python environment, log JSON, and get keys through the environment only.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

from devstack.processes import Process

START_SECONDS = 20.0
"""How long a program may take to be ready on a busy machine."""

EVENT_SECONDS = 10.0
"""How long an event may take that follows from another at once."""

_OUR_VARIABLES = ("HYBRIDGE_", "HCM_", "APP_CLIENT_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line that a program logged, or printed for other programs."""

    fields: Mapping[str, object]
    """All of it. Log lines have ``event`` and ``time``."""

    def text(self, name: str) -> str:
        """A field as text; empty where it is absent."""
        value = self.fields.get(name)
        return "" if value is None else str(value)

    @property
    def time(self) -> float:
        """When it was logged, as Unix time to the millisecond."""
        return datetime.fromisoformat(self.text("time")).timestamp()


class Program:
    """One of the three programs, from start to end of the ``with`` block.

    Args:
        module: What ``python -m`` runs: relay, hcm_agent or app_client.
        arguments: The command line after it. No keys.
        settings: Its environment variables. The user's own for these programs are left out, so
            that nothing but this decides.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], *, settings: Mapping[str, str] | None = None
    ) -> None:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(_OUR_VARIABLES)
        }
        # What somebody added to an hcm of his own is not this one's to serve.
        inherited["HCM_STATE"] = "none"
        # -P: a folder named relay where the user happens to be must not take the package's place.
        self.process = Process(
            module,
            [sys.executable, "-P", "-m", module, *arguments, "--log-format", "json", "--verbose"],
            environment={**inherited, "PYTHONUNBUFFERED": "1", **(settings or {})},
        )

    def __enter__(self) -> Self:
        self.process.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.__exit__(kind, error, trace)

    def wait_for_field(self, name: str, *, timeout_seconds: float = START_SECONDS) -> Event:
        """Wait for the first line that has this field: what it announces at start.

        Raises:
            ProcessFailed: The program ended first, or the time is over.
        """
        return self.process.wait_for(
            f"it announced {name!r}",
            lambda line: _event(line, lambda fields: name in fields),
            timeout_seconds=timeout_seconds,
        )

    def wait_for_event(
        self, event: str, *, since: int = 0, timeout_seconds: float = EVENT_SECONDS
    ) -> Event:
        """Wait for a log line with this ``event``.

        Args:
            event: Its name.
            since: Only lines after this `Process.line_count`.
            timeout_seconds: How long.

        Raises:
            ProcessFailed: The program ended first, or the time is over.
        """
        return self.process.wait_for(
            f"the event {event!r}",
            lambda line: _event(line, lambda fields: fields.get("event") == event),
            since=since,
            timeout_seconds=timeout_seconds,
        )


def _event(line: str, wanted: Callable[[Mapping[str, object]], bool]) -> Event | None:
    if not line.startswith("{"):
        return None
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    return Event(fields=fields) if isinstance(fields, dict) and wanted(fields) else None
