"""Every local port of the process: start, ready file, and drain."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable
from pathlib import Path

from app_client.forwarder import Forwarder, Outside
from app_client.local_port import LocalPort
from app_client.settings import ClientSettings
from app_client.udp_forwarder import UdpForwarder
from hybridge.program.host_port import format_host_port
from hybridge.program.lifetime import Lifetime
from hybridge.program.ready_file import ReadyFile
from hybridge.protocol.azbridge import Mode

logger = logging.getLogger(__name__)

Announce = Callable[[LocalPort, tuple[str, int]], None]
"""Is told each local address as it opens."""


class Client:
    """Keeps the local ports open, until it is asked to stop.

    Args:
        settings: Which ports, and where they lead.
        max_connections: How many connections the process may hold; the ports share it evenly.
        announce: Is told each local address.
        ready_file: Exists while all ports are open.
        outside: The relay.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        max_connections: int,
        announce: Announce,
        ready_file: Path | None = None,
        outside: Outside | None = None,
    ) -> None:
        self._settings = settings
        self._announce = announce
        self._ready_file = ReadyFile(ready_file)
        each = max(1, max_connections // len(settings.forwards))
        self.forwarders: list[LocalPort] = []
        for forward in settings.forwards:
            kind = UdpForwarder if forward.mode is Mode.DATAGRAM else Forwarder
            port = kind(forward, settings, max_connections=each, outside=outside or Outside())
            self.forwarders.append(port)

    async def run(self, lifetime: Lifetime) -> None:
        """Serve until ``lifetime`` stops, then let running connections end for `drain_seconds`.

        Raises:
            ExceptionGroup: Of the `RelayError` for which a port could not be opened.
        """
        lifetime.on_reload = _refuse_reload
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._serve(each, lifetime.stopping), name=each.name)
                    for each in self.forwarders
                ]
                await lifetime.stopping.wait()
                await self._drain(tasks)
        finally:
            self._ready_file.remove()
            for each in self.forwarders:
                each.close()

    async def _serve(self, forwarder: LocalPort, stopping: asyncio.Event) -> None:
        address = await forwarder.open()
        if not _is_loopback(address[0]):
            logger.warning(
                "everybody who reaches %s reaches the target of %s",
                format_host_port(*address),
                forwarder.name,
                extra={"event": "open_to_network", "hybrid_connection": forwarder.name},
            )
        self._announce(forwarder, address)
        self._report()
        await forwarder.run(stopping)

    def _report(self) -> None:
        found = [(each, each.address) for each in self.forwarders]
        ready = [
            {
                "hybrid_connection": each.name,
                "protocol": each.protocol,
                "host": address[0],
                "port": address[1],
            }
            for each, address in found
            if address is not None
        ]
        if len(ready) == len(found):
            self._ready_file.write({"listening": ready})

    async def _drain(self, tasks: list[asyncio.Task[None]]) -> None:
        self._ready_file.remove()
        for forwarder, task in zip(self.forwarders, tasks, strict=True):
            forwarder.stop_dialling()
            if forwarder.address is None:
                task.cancel()  # It still waits for the relay.
        count = self._open_connections()
        seconds = self._settings.drain_seconds
        logger.info(
            "stopping: running connections may go on for %g s",
            seconds,
            extra={"event": "stopping", "open_connections": count},
        )
        _, late = await asyncio.wait(tasks, timeout=seconds)
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
        return sum(each.open_connections for each in self.forwarders)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse_reload() -> None:
    logger.warning(
        "nothing is reloaded: restart app-client to read its settings again",
        extra={"event": "reload_refused"},
    )
