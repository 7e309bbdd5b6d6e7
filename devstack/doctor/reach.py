"""How the doctor gets to the relay: as our own ends do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridge.transport.dialer import Dialer
from hybridge.transport.proxy_route import ProxyRoute

if TYPE_CHECKING:
    import socket

    from devstack.doctor.case import Case
    from hybridge.protocol.connection_string import ConnectionString
    from hybridge.protocol.proxies import Proxy


def dialer_for(case: Case, given: ConnectionString) -> Dialer:
    """Give what opens TLS to the namespace, as the agent and the client do."""
    return Dialer(
        given.host,
        ca=case.ca,
        connect_to=case.connect_to,
        proxy=case.proxy,
        timing=case.timing,
    )


def proxy_of(case: Case, given: ConnectionString) -> Proxy | None:
    """Give the proxy on the way to the namespace, or None."""
    meant = (given.host, given.port)
    return ProxyRoute(case.proxy).proxy_for(meant, case.connect_to or meant)


async def open_socket(case: Case, given: ConnectionString) -> socket.socket:
    """Open TCP to the relay, or a tunnel to it, without TLS. A deadline is the caller's.

    Raises:
        Unreachable: As `hybridge.transport.dialer.Dialer.connect`.
    """
    return await dialer_for(case, given).connect(given.host, given.port)
