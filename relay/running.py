"""One run of the relay: sockets, certificate, shared files; then the service until its end."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from hybridge.program import http_server, lifetime
from hybridge.program.command_line import announce
from hybridge.program.host_port import format_host_port
from hybridge.program.limits import raise_descriptor_limit
from hybridge.protocol.errors import RelayError
from hybridge.protocol.redaction import one_line
from hybridge.transport.development_ca import DevelopmentCa
from hybridge.transport.listening import bound_address, open_sockets
from relay import admin, configuration, share
from relay.scraper import Scraper
from relay.service import Service

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

    from hybridge.program.lifetime import Lifetime
    from relay.configuration import Configuration, Sources
    from relay.namespace import Namespace

DESCRIPTORS_PER_CONNECTION = 2
"""A sender's WebSocket and a listener's."""

logger = logging.getLogger(__name__)


def run_relay(sources: Sources, loaded: Configuration) -> int:
    """Run the relay until it is stopped.

    Args:
        sources: Read again on SIGHUP.
        loaded: What they said at the start.

    Returns:
        The exit code 0.

    Raises:
        AddressUnusable: A port is in use, or an address is not this machine's.
        UnusableFile: The state or share directory cannot be used.
    """
    settings = loaded.settings
    room = raise_descriptor_limit(descriptors_per_connection=DESCRIPTORS_PER_CONNECTION)
    with ExitStack() as opened:
        sockets = open_sockets(settings.host, settings.port, flag="--port")
        for sock in sockets:
            opened.callback(sock.close)
        admin_sockets = open_sockets(settings.admin_host, settings.admin_port, flag="--admin-port")
        for sock in admin_sockets:
            opened.callback(sock.close)
        run = _Run(sources, loaded, port=bound_address(sockets[0])[1], room=room)
        certificate = run.certificate(loaded)
        run.share(loaded.namespaces)
        logger.info(
            "room for %d connections", room, extra={"event": "limits", "max_connections": room}
        )
        return lifetime.run(lambda life: run.main(life, certificate, sockets, admin_sockets))


class _Run:
    """The running relay, and what a reload must know of it."""

    def __init__(self, sources: Sources, loaded: Configuration, *, port: int, room: int) -> None:
        self._sources = sources
        self._settings = loaded.settings
        self._namespaces = loaded.namespaces
        self._port = port
        self._max_sockets = room * DESCRIPTORS_PER_CONNECTION

    def certificate(self, loaded: Configuration) -> tuple[Path, Path]:
        return self._ca().certificate_for(loaded.certificate_names)

    def share(self, namespaces: Sequence[Namespace]) -> None:
        if self._settings.share_dir is not None:
            strings = share.rule_strings(namespaces, self._port)
            share.write(self._settings.share_dir, ca_pem=self._ca().pem, strings=strings)

    def _ca(self) -> DevelopmentCa:
        # Read anew each time: on a reload it may have been renewed.
        return DevelopmentCa.load_or_create(self._settings.state_dir)

    async def main(
        self,
        life: Lifetime,
        certificate: tuple[Path, Path],
        sockets: list[socket.socket],
        admin_sockets: list[socket.socket],
    ) -> None:
        service = Service(
            self._settings, self._namespaces, certificate, max_sockets=self._max_sockets
        )

        def health() -> admin.Health:
            if life.stopping.is_set() or service.is_draining:
                return admin.Health.DRAINING
            return admin.Health.HEALTHY if service.is_listening else admin.Health.STARTING

        ended = asyncio.Event()
        scraper = Scraper(service.gateway, service.lag)
        app = admin.make_app(health, scrape=scraper.scrape, bind_host=self._settings.admin_host)
        life.on_reload = lambda: self._reload(service)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                http_server.serve(app, admin_sockets, until=ended.wait()), name="admin"
            )
            # The sockets listen already: who reads this and connects is served.
            self._announce(sockets, admin_sockets)
            try:
                await service.serve(sockets, life)
            finally:
                ended.set()

    def _announce(self, sockets: list[socket.socket], admin_sockets: list[socket.socket]) -> None:
        addresses = [bound_address(sock) for sock in sockets]
        admin_host, admin_port = bound_address(admin_sockets[0])
        ca_path = str(self._ca().path.absolute())
        names = ", ".join(namespace.name for namespace in self._namespaces)
        if not any(namespace.hybrid_connections for namespace in self._namespaces):
            logger.warning(
                "there is no hybrid connection: give --hybrid-connection NAME=HOST:PORT or --config"
            )
        where = " and ".join(format_host_port(*address) for address in addresses)
        announce(
            self._settings.log_format,
            f"{names}: listening on {where}\n"
            f"health: http://{format_host_port(admin_host, admin_port)}/health\n"
            f"clients trust: {ca_path}",
            event="listening",
            addresses=[{"host": host, "port": port} for host, port in addresses],
            host=addresses[0][0],
            port=self._port,
            admin_host=admin_host,
            admin_port=admin_port,
            ca=ca_path,
            namespaces=[namespace.name for namespace in self._namespaces],
        )

    def _reload(self, service: Service) -> None:
        """Read everything again, all or nothing. Live connections are not touched."""
        try:
            loaded = configuration.load(self._sources, now=time.time(), previous=self._namespaces)
            service.replace(loaded.namespaces, self.certificate(loaded))
        except RelayError as error:
            # As on the command line: what is wrong, and what to try next.
            logger.error(
                "reload refused, the old configuration stays: %s",
                one_line(str(error)),
                extra={"event": "reload_refused", "hint": one_line(error.hint)},
            )
            return
        self._namespaces = loaded.namespaces
        logger.info("configuration reloaded", extra={"event": "reloaded"})
        if loaded.settings != self._settings:
            logger.warning("changed settings take effect at the next start")
        try:
            self.share(loaded.namespaces)
        except RelayError as error:
            logger.warning("the shared files are old: %s", one_line(str(error)))
