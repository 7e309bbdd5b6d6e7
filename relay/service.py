"""The relay as it runs: sockets in, orderly end out."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path

from hybridge.program.lifetime import Lifetime
from hybridge.transport.accept import accept_connections
from hybridge.transport.tls import server_context
from relay.gateway import Gateway
from relay.loop_lag import LoopLag
from relay.namespace import Namespace
from relay.settings import RelaySettings

_logger = logging.getLogger(__name__)


class Service:
    """Serves namespaces on listening sockets until it is told to stop.

    Args:
        settings: Waits and limits.
        namespaces: What is served.
        certificate: PEM files of the certificate and its key.
        max_sockets: Most connections at once, of whatever kind.

    Raises:
        InvalidSetting: The certificate cannot be used.
    """

    def __init__(
        self,
        settings: RelaySettings,
        namespaces: tuple[Namespace, ...],
        certificate: tuple[Path, Path],
        *,
        max_sockets: int = 1_000_000,
    ) -> None:
        self._settings = settings
        self._max_sockets = max_sockets
        self.gateway = Gateway(settings, namespaces, server_context(*certificate))
        self.lag = LoopLag()
        self.is_listening = False
        self.is_draining = False

    def replace(self, namespaces: tuple[Namespace, ...], certificate: tuple[Path, Path]) -> None:
        """Serve these namespaces, with this certificate, from now on; all or nothing.

        Raises:
            InvalidSetting: The certificate cannot be used; all stays as it was.
        """
        context = server_context(*certificate)
        self.gateway.replace(namespaces, context)

    async def serve(self, sockets: list[socket.socket], lifetime: Lifetime) -> None:
        """Listen until ``lifetime`` stops; then let running connections end, for a while.

        Within 100 ms of the stop nobody is matched any more. The sockets are closed once no HTTP
        request is being relayed: until then its listener may come to answer by rendezvous.
        """
        with self.lag.measured():
            await self._serve(sockets, lifetime)

    async def _serve(self, sockets: list[socket.socket], lifetime: Lifetime) -> None:
        closing = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            accepting = tasks.create_task(
                accept_connections(
                    sockets,
                    self.gateway.serve,
                    max_connections=self._max_sockets,
                    name="relay",
                    stopping=closing,
                ),
                name="relay accept",
            )
            self.is_listening = True
            await lifetime.stopping.wait()
            self.is_draining = True
            # Closed sockets refuse at once; who is let in all the same is answered 503.
            self.gateway.stop()
            if not self.gateway.http.request_count:
                closing.set()
            door = tasks.create_task(self._close_door(closing), name="relay door")
            await self._drain()
            self.is_listening = False
            door.cancel()
            accepting.cancel()

    async def _close_door(self, closing: asyncio.Event) -> None:
        await self.gateway.http.wait_idle()
        closing.set()

    async def _drain(self) -> None:
        count = self._count()
        seconds = self._settings.drain_seconds
        if count:
            _logger.info(
                "stopping: %d connections have %g s to end",
                count,
                seconds,
                extra={"event": "draining"},
            )
        try:
            async with asyncio.timeout(seconds):
                await self.gateway.wait_idle()
        except TimeoutError:
            left = self._count()
            if left:
                _logger.warning("stopping: %d connections are cut", left, extra={"event": "cut"})
            self.gateway.websockets.pairs.abort("the relay stopped")
            self.gateway.http.abort("the relay stopped")

    def _count(self) -> int:
        return len(self.gateway.websockets.pairs) + self.gateway.http.request_count
