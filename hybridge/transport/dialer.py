"""Dial the addresses of one namespace."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

from hybridge.protocol.errors import Unreachable
from hybridge.protocol.proxies import Proxy
from hybridge.transport.proxy import open_tunnel
from hybridge.transport.proxy_route import ProxyRoute
from hybridge.transport.stream import Wire
from hybridge.transport.tcp import dial_socket
from hybridge.transport.timing import Timing
from hybridge.transport.tls import ClientTls

_logger = logging.getLogger(__name__)

PROXY_SHARE = 0.75
"""Share of `Timing.open_timeout_seconds` that a proxy may take: the rest is for TLS, and the error
that names the proxy comes before the one that does not."""


class Dialer:
    """Opens TLS connections for one namespace, with one set of trusted authorities.

    Args:
        host: The namespace's host.
        ca: PEM file of further trusted authorities.
        connect_to: Where to dial instead, for every address that names ``host``. SNI, Host and
            tokens keep the name.
        proxy: The proxy on the way; see `hybridge.transport.proxy_route.ProxyRoute`.
        timing: Waits, in seconds.

    Raises:
        InvalidSetting: The CA file, or the address of the proxy, cannot be used.
    """

    def __init__(
        self,
        host: str,
        *,
        ca: Path | None = None,
        connect_to: tuple[str, int] | None = None,
        proxy: Proxy | str | None = None,
        timing: Timing | None = None,
    ) -> None:
        self.host = host.lower()
        self.tls = ClientTls(ca)
        self._connect_to = connect_to
        self._route = ProxyRoute(proxy)
        self._proxy_seconds = PROXY_SHARE * (timing or Timing()).open_timeout_seconds
        self._told: Proxy | None = None
        # A proxy in the environment that cannot be used is said now, not with the first connection.
        self.proxy(host, 443)

    def peer(self, host: str, port: int) -> tuple[str, int]:
        """Say which TCP address stands for ``host:port``."""
        if self._connect_to is not None and host.lower() == self.host:
            return self._connect_to
        return host, port

    def proxy(self, host: str, port: int) -> Proxy | None:
        """Say which proxy leads to ``host:port``; None where it is dialled directly."""
        return self._route.proxy_for((host, port), self.peer(host, port))

    async def connect(self, host: str, port: int) -> socket.socket:
        """Open TCP to ``host:port``, or a tunnel through the proxy. A deadline is the caller's.

        Returns:
            A connected, non-blocking socket.

        Raises:
            ProxyFailed: The proxy opened no tunnel; see `hybridge.transport.proxy.open_tunnel`.
            Unreachable: A name that is unknown, no route, a port that is closed.
        """
        peer = self.peer(host, port)
        proxy = self.proxy(host, port)
        if proxy is not None:
            sock = await open_tunnel(proxy, *peer, seconds=self._proxy_seconds)
            if proxy != self._told:
                self._told = proxy
                _logger.info(
                    "the relay is reached through a proxy",
                    extra={"event": "proxy", "proxy": str(proxy), "namespace": self.host},
                )
            return sock
        try:
            return await dial_socket(*peer)
        except Unreachable as error:
            # Of a target, 502 and 504 would be right; here it is the relay that is not there.
            raise Unreachable(
                f"the relay {host} cannot be reached: {error}",
                hint="check that the relay is running, its name and its port",
            ) from error

    async def dial(self, host: str, port: int) -> Wire:
        """Open TLS to ``host:port``. A deadline is the caller's.

        Raises:
            ProxyFailed: See `connect`.
            UntrustedCertificate: See `ClientTls.dial`.
            Unreachable: See `connect` and `ClientTls.dial`.
        """
        return await self.tls.dial(host, port, connect=lambda: self.connect(host, port))
