"""Every hybrid connection in a task of its own: start, drain, and reload."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from hcm_agent.hybrid_connection import HybridConnection, Outside, Slots
from hcm_agent.settings import AgentSettings, HybridConnectionSettings, Key
from hcm_agent.status import Status
from hybridge.program.lifetime import Lifetime
from hybridge.program.ready_file import ReadyFile
from hybridge.protocol.errors import RelayError, Stopping

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
        self._serving: dict[Key, HybridConnection] = {}
        self._leaving: list[HybridConnection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup | None = None

    @property
    def is_running(self) -> bool:
        """Whether it serves, and has not been asked to stop."""
        return self._group is not None

    @property
    def hybrid_connections(self) -> Sequence[HybridConnection]:
        """Those that are served now, in the order of the settings."""
        return [self._serving[entry.key] for entry in self._settings.hybrid_connections]

    def open_connections(self, key: Key) -> int:
        """How many connections one has, with those that go on after a restart of its listener."""
        leaving = [each for each in self._leaving if each.settings.key == key]
        serving = [self._serving[key]] if key in self._serving else []
        return sum(each.status.open_connections for each in (*serving, *leaving))

    @property
    def statuses(self) -> list[Status]:
        """How each hybrid connection fares."""
        return [served.status for served in self._serving.values()]

    async def run(self, lifetime: Lifetime) -> None:
        """Serve until ``lifetime`` stops, then let running connections end for `drain_seconds`."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self.serve(self._settings)
                lifetime.on_reload = self.reload
                await lifetime.stopping.wait()
                lifetime.on_reload = _ignore_reload
                self._group = None
                await self._drain()
        finally:
            self._ready_file.remove()

    def serve(self, settings: AgentSettings) -> None:
        """Start what is new, retire what is gone or has changed, and leave the rest alone.

        Live connections go on in any case.

        Raises:
            Stopping: The agent does not run, or has been asked to stop.
        """
        if self._group is None:
            raise Stopping("the agent stops", hint="start it again: hcm run")
        self._settings = settings
        for kept in self._serving.values():
            kept.allow(settings.allow_list)
        wanted = {entry.key: entry for entry in settings.hybrid_connections}
        for key in [
            key for key, served in self._serving.items() if wanted.get(key) != served.settings
        ]:
            self._retire(key)
        for key, entry in wanted.items():
            if key not in self._serving:
                self._start(entry, self._group)
        self._report()

    def restart(self, key: Key) -> None:
        """Close one's listener and open a new one; its connections go on.

        Raises:
            KeyError: It is not served.
            Stopping: The agent has been asked to stop.
        """
        entry = self._serving[key].settings
        if self._group is None:
            raise Stopping("the agent stops", hint="start it again: hcm run")
        self._retire(key)
        self._start(entry, self._group)
        self._report()

    def _start(self, entry: HybridConnectionSettings, group: asyncio.TaskGroup) -> None:
        served = HybridConnection(
            entry,
            slots=self._slots,
            on_change=self._report,
            outside=self._outside,
            allow_list=self._settings.allow_list,
        )
        self._serving[entry.key] = served
        task = group.create_task(served.run(), name=f"hybrid connection {entry.name}")
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if served in self._leaving:
                self._leaving.remove(served)

        task.add_done_callback(ended)

    def _retire(self, key: Key) -> None:
        served = self._serving.pop(key)
        self._leaving.append(served)
        served.retire()

    def reload(self) -> None:
        """Read the settings again, all or nothing; those that are not connected try at once."""
        try:
            settings = self._load()
        except RelayError as error:
            logger.error(
                "reload refused, everything stays as it was: %s",
                error,
                extra={"event": "reload_refused", "hint": error.hint},
            )
            return
        self.serve(settings)
        for served in self._serving.values():
            if not served.status.is_connected:
                served.retry()
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
