"""How the doctor gets to the relay: as our own ends do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridge.transport.dialer import Dialer
from hybridge.transport.tcp import dial_socket

if TYPE_CHECKING:
    import socket

    from devstack.doctor.case import Case
    from hybridge.protocol.connection_string import ConnectionString


def dialer_for(case: Case, given: ConnectionString) -> Dialer:
    """Give what opens TLS to the namespace, as the agent and the client do."""
    return Dialer(given.host, ca=case.ca, connect_to=case.connect_to)


async def open_socket(case: Case, given: ConnectionString) -> socket.socket:
    """Open TCP to the relay, without TLS. A deadline is the caller's.

    Raises:
        Unreachable: As `hybridge.transport.tcp.dial_socket`.
    """
    return await dial_socket(*dialer_for(case, given).peer(given.host, given.port))
