"""What `hybrid_connection` needs of a local port: TCP, UDP or a Unix socket."""

from __future__ import annotations

import asyncio
from typing import Literal, Protocol

from app_client.settings import ClientSettings
from hybridge.program.host_port import format_host_port
from hybridge.transport.unix_listening import UNIX_SCHEME, UnixAddress

LocalAddress = tuple[str, int]
"""Local host and port. As libpq has it, a host that begins with a slash is a Unix socket's path;
the port is 0 then."""


class LocalPort(Protocol):
    """A local port that leads to a target; `forwarder` and `udp_forwarder` have one each."""

    protocol: Literal["tcp", "udp", "unix"]
    address: LocalAddress | None
    """Where it is, once it is open."""

    target: tuple[str, int] | None
    """Host and port behind the agent, once they are known."""

    open_connections: int

    settings: ClientSettings
    """What all ports of the process have in common. May be replaced, for later connections."""

    @property
    def name(self) -> str:
        """Name of the hybrid connection."""

    def open(self, listen: LocalAddress | UnixAddress) -> LocalAddress:
        """Open the port; gives its address.

        Raises:
            AddressUnusable: It is in use, or cannot be used.
            InvalidSetting: The host has no address.
        """

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve it until ``stopping``, then until the last connection has ended."""

    def stop_listening(self) -> None:
        """Take nothing new, so that the port is free for others at once."""

    def stop_dialling(self) -> None:
        """Give up what is not joined yet."""

    def close(self) -> None:
        """Give the port back."""


def show_local_address(protocol: str, address: LocalAddress) -> str:
    """Write a local address as ``--listen`` takes it."""
    if protocol == "unix":
        return f"{UNIX_SCHEME}{address[0]}"
    scheme = "udp://" if protocol == "udp" else ""
    return f"{scheme}{format_host_port(*address)}"


def local_address_fields(protocol: str, address: LocalAddress) -> dict[str, object]:
    """Give a local address as a program reads it: ``host`` and ``port``, or ``path``."""
    if protocol == "unix":
        return {"protocol": protocol, "path": address[0]}
    return {"protocol": protocol, "host": address[0], "port": address[1]}
