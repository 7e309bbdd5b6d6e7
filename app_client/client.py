"""Every local port of the process: start, ready file, reload and drain."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from app_client.forwarder import Outside
from app_client.hosts import Found, HostsKeeper, entries
from app_client.hybrid_connection import HybridConnection
from app_client.local_port import (
    LocalAddress,
    LocalPort,
    local_address_fields,
    show_local_address,
)
from app_client.placement import Placement
from app_client.settings import ClientSettings, Forward
from hybridge.program.lifetime import Lifetime
from hybridge.program.ready_file import ReadyFile
from hybridge.protocol.errors import RelayError

logger = logging.getLogger(__name__)

Announce = Callable[[LocalPort, LocalAddress], None]
"""Is told each local address as it opens."""


class Client:
    """Keeps the local ports open, until it is asked to stop.

    Args:
        settings: Which ports, and where they lead.
        max_connections: How many connections the process may hold; the ports share it evenly.
        announce: Is told each local address.
        load: Reads the settings again, for a reload. None: nothing can be reloaded.
        ready_file: Exists while all ports are open.
        hosts: Keeps the names of targets in a hosts file while their ports are open.
        outside: The relay.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        max_connections: int,
        announce: Announce,
        load: Callable[[], ClientSettings] | None = None,
        ready_file: Path | None = None,
        hosts: HostsKeeper | None = None,
        outside: Outside | None = None,
    ) -> None:
        self._settings = settings
        self._max_connections = max_connections
        self._announce = announce
        self._load = load
        self._ready_file = ReadyFile(ready_file)
        self._hosts = hosts
        self._outside = outside or Outside()
        self._placement = Placement()
        self._serving: dict[tuple[Forward, int], HybridConnection] = {}
        self._tasks: dict[HybridConnection, asyncio.Task[None]] = {}
        self._has_worked = False

    async def run(self, lifetime: Lifetime) -> None:
        """Serve until ``lifetime`` stops, then let running connections end for `drain_seconds`.

        A local port that cannot be opened is tried again while there are others.

        Raises:
            ExceptionGroup: Of the `RelayError` for which none of the ports could be opened.
        """
        try:
            async with asyncio.TaskGroup() as group:
                self._serve(self._settings, group)
                lifetime.on_reload = lambda: self._reload(group)
                await lifetime.stopping.wait()
                lifetime.on_reload = _ignore_reload
                await self._drain()
        finally:
            self._ready_file.remove()
            if self._hosts is not None:
                self._hosts.remove()

    @property
    def served(self) -> list[HybridConnection]:
        """The hybrid connections that are served now."""
        return list(self._serving.values())

    @property
    def forwarders(self) -> list[LocalPort]:
        """The local ports of what is served now."""
        return [served.port for served in self._serving.values()]

    # --- what is served -----------------------------------------------------------------------

    def _serve(self, settings: ClientSettings, group: asyncio.TaskGroup) -> None:
        """Start what is new, retire what is gone, and leave the rest alone."""
        self._settings = settings
        wanted = _numbered(settings.forwards)
        for gone in self._serving.keys() - set(wanted):
            self._retire(self._serving.pop(gone))
        each = max(1, self._max_connections // len(wanted))
        for key in wanted:
            if key in self._serving:
                self._serving[key].port.settings = settings
                continue
            forward, _ = key
            self._serving[key] = served = HybridConnection(
                forward,
                settings,
                max_connections=each,
                placement=self._placement,
                wants_target=self._hosts is not None,
                on_open=self._opened,
                on_change=self._report,
                is_hopeless=self._is_hopeless,
                outside=self._outside,
            )
            task = group.create_task(served.run(), name=f"hybrid connection {forward.name}")
            self._tasks[served] = task
            task.add_done_callback(partial(self._ended, served))
        self._report()

    def _ended(self, served: HybridConnection, task: asyncio.Task[None]) -> None:
        del self._tasks[served]

    def _retire(self, served: HybridConnection) -> None:
        served.retire()
        if served.address is None:
            self._tasks[served].cancel()  # It still waits for the relay, or for its port.

    def _is_hopeless(self) -> bool:
        """Whether every port has failed, and none was ever open."""
        failed = all(served.failure is not None for served in self._serving.values())
        return failed and not self._has_worked

    def _reload(self, group: asyncio.TaskGroup) -> None:
        if self._load is None:
            _ignore_reload()
            return
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

    # --- what is said of it -------------------------------------------------------------------

    def _opened(self, served: HybridConnection, address: LocalAddress) -> None:
        if not self._has_worked:
            self._has_worked = True
            logger.info(
                "room for %d connections",
                self._max_connections,
                extra={"event": "limits", "max_connections": self._max_connections},
            )
        if not _is_for_this_machine(address[0]):
            logger.warning(
                "everybody who reaches %s reaches the target of %s",
                show_local_address(served.port.protocol, address),
                served.name,
                extra={"event": "open_to_network", "hybrid_connection": served.name},
            )
        self._announce(served.port, address)
        if self._hosts is None:
            _warn_of_target(served, address)

    def _report(self) -> None:
        found = [(served, served.address) for served in self._serving.values()]
        ready = [
            {
                "hybrid_connection": served.name,
                **local_address_fields(served.port.protocol, address),
            }
            for served, address in found
            if address is not None
        ]
        if self._hosts is not None:
            self._hosts.update(self.served)
        if len(ready) == len(found):
            self._ready_file.write({"listening": ready})
        else:
            self._ready_file.remove()

    # --- the end ------------------------------------------------------------------------------

    async def _drain(self) -> None:
        self._ready_file.remove()
        if self._hosts is not None:
            self._hosts.remove()
        for served in self._serving.values():
            self._retire(served)
        for served in self._tasks:
            served.port.stop_dialling()
        seconds = self._settings.drain_seconds
        logger.info(
            "stopping: running connections may go on for %g s",
            seconds,
            extra={"event": "stopping", "open_connections": self._open_connections()},
        )
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks.values(), timeout=seconds)
        count = self._open_connections()
        if count:
            logger.warning(
                "connections cut after %g s",
                seconds,
                extra={"event": "drain_over", "open_connections": count},
            )
        for task in late:
            task.cancel()

    def _open_connections(self) -> int:
        return sum(served.port.open_connections for served in self._tasks)


def _numbered(forwards: Sequence[Forward]) -> list[tuple[Forward, int]]:
    """Tell apart those that are alike: free ports may be asked for twice."""
    seen: Counter[Forward] = Counter()
    numbered = []
    for forward in forwards:
        numbered.append((forward, seen[forward]))
        seen[forward] += 1
    return numbered


def _is_for_this_machine(host: str) -> bool:
    if host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _warn_of_target(served: HybridConnection, address: LocalAddress) -> None:
    """Say that an application cannot keep the target's name, where it is to: `HostsKeeper` does."""
    forward, target = served.forward, served.port.target
    if forward.listen is not None or forward.default_host is not None or target is None:
        return
    (entry,) = entries([Found(forward=forward, target=target, address=address)])
    if entry.problem:
        logger.warning(
            "the application cannot keep its name: %s",
            entry.problem,
            extra={
                "event": "name_unusable",
                "hybrid_connection": forward.name,
                "hint": entry.next_step,
            },
        )


def _ignore_reload() -> None:
    logger.warning("nothing is reloaded", extra={"event": "reload_refused"})
