"""Every hybrid connection in a task of its own: start, drain, and reload."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from hcm_agent.hybrid_connection import HybridConnection, Outside, Slots
from hcm_agent.settings import AgentSettings, HybridConnectionSettings
from hcm_agent.status import Status
from hybridge.program.lifetime import Lifetime
from hybridge.program.ready_file import ReadyFile
from hybridge.protocol.errors import RelayError

logger = logging.getLogger(__name__)


class Agent:
    """Serves what the settings name, until it is asked to stop.

    Args:
        settings: What to serve.
        load: Reads the settings again, for a reload.
        max_connections: How many connections the process may hold.
        ready_file: Exists while every hybrid connection is Connected.
        outside: The relay and the targets.
        on_change: Called when one of `statuses` has changed.
    """

    def __init__(
        self,
        settings: AgentSettings,
        *,
        load: Callable[[], AgentSettings],
        max_connections: int,
        ready_file: Path | None = None,
        outside: Outside | None = None,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        self._on_change = on_change
        self._settings = settings
        self._load = load
        self._slots = Slots(max_connections)
        self._ready_file = ReadyFile(ready_file)
        self._outside = outside or Outside()
        self._serving: dict[HybridConnectionSettings, HybridConnection] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def statuses(self) -> list[Status]:
        """How each hybrid connection fares."""
        return [served.status for served in self._serving.values()]

    async def run(self, lifetime: Lifetime) -> None:
        """Serve until ``lifetime`` stops, then let running connections end for `drain_seconds`."""
        try:
            async with asyncio.TaskGroup() as group:
                self._serve(self._settings, group)
                lifetime.on_reload = lambda: self._reload(group)
                await lifetime.stopping.wait()
                lifetime.on_reload = _ignore_reload
                await self._drain()
        finally:
            self._ready_file.remove()

    def _serve(self, settings: AgentSettings, group: asyncio.TaskGroup) -> None:
        """Start what is new, retire what is gone, and leave the rest alone."""
        self._settings = settings
        for gone in self._serving.keys() - set(settings.hybrid_connections):
            self._serving.pop(gone).retire()
        for kept in self._serving.values():
            kept.allow(settings.allow_list)
        for entry in settings.hybrid_connections:
            if entry not in self._serving:
                served = HybridConnection(
                    entry,
                    slots=self._slots,
                    on_change=self._report,
                    outside=self._outside,
                    allow_list=settings.allow_list,
                )
                self._serving[entry] = served
                task = group.create_task(served.run(), name=f"hybrid connection {entry.name}")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        self._report()

    def _reload(self, group: asyncio.TaskGroup) -> None:
        try:
            settings = self._load()
        except RelayError as error:
            logger.error(
                "reload refused, everything stays as it was: %s",
                error,
                extra={"event": "reload_refused", "hint": error.hint},
            )
            return
        self._serve(settings, group)
        logger.info(
            "reloaded", extra={"event": "reloaded", "hybrid_connections": len(self._serving)}
        )

    def _report(self) -> None:
        statuses = self.statuses
        if statuses and all(status.is_connected for status in statuses):
            self._ready_file.write({"hybrid_connections": [each.to_fields() for each in statuses]})
        else:
            self._ready_file.remove()
        if self._on_change is not None:
            self._on_change()

    async def _drain(self) -> None:
        for served in self._serving.values():
            served.retire()
        if not self._tasks:
            return
        seconds = self._settings.drain_seconds
        logger.info(
            "stopping: running connections may go on for %g s",
            seconds,
            extra={"event": "stopping", "open_connections": self._slots.taken},
        )
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        if self._slots.taken:
            logger.warning(
                "connections cut after %g s",
                seconds,
                extra={"event": "drain_over", "open_connections": self._slots.taken},
            )
        for task in late:
            task.cancel()


def _ignore_reload() -> None:
    logger.info("stopping: nothing is reloaded", extra={"event": "reload_refused"})
