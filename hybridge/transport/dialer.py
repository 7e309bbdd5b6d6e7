"""Dial the addresses of one namespace."""

from __future__ import annotations

from pathlib import Path

from hybridge.protocol.errors import Unreachable
from hybridge.transport.stream import Wire
from hybridge.transport.tls import ClientTls


class Dialer:
    """Opens TLS connections for one namespace, with one set of trusted authorities.

    Args:
        host: The namespace's host.
        ca: PEM file of further trusted authorities.
        connect_to: Where to dial instead, for every address that names ``host``. SNI, Host and
            tokens keep the name.

    Raises:
        InvalidSetting: The CA file cannot be used.
    """

    def __init__(
        self,
        host: str,
        *,
        ca: Path | None = None,
        connect_to: tuple[str, int] | None = None,
    ) -> None:
        self.host = host.lower()
        self.tls = ClientTls(ca)
        self._connect_to = connect_to

    def peer(self, host: str, port: int) -> tuple[str, int]:
        """Say which TCP address stands for ``host:port``."""
        if self._connect_to is not None and host.lower() == self.host:
            return self._connect_to
        return host, port

    async def dial(self, host: str, port: int) -> Wire:
        """Open TLS to ``host:port``. A deadline is the caller's.

        Raises:
            UntrustedCertificate: See `ClientTls.dial`.
            Unreachable: See `ClientTls.dial`; a name that is unknown or a port that is closed too.
        """
        try:
            return await self.tls.dial(host, port, peer=self.peer(host, port))
        except Unreachable as error:
            if error.status is None:
                raise
            # Of a target, 502 and 504 would be right; here it is the relay that is not there.
            raise Unreachable(
                f"the relay cannot be reached: {error}",
                hint="check that the relay is running, its name and its port",
            ) from error
