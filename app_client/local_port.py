"""What `client` needs of a local port, TCP or UDP."""

from __future__ import annotations

import asyncio
from typing import Literal, Protocol


class LocalPort(Protocol):
    """A local port that leads to a target; `forwarder` and `udp_forwarder` have one each."""

    protocol: Literal["tcp", "udp"]
    address: tuple[str, int] | None
    """Local host and port, once it is open."""

    open_connections: int

    @property
    def name(self) -> str:
        """Name of the hybrid connection."""

    async def open(self) -> tuple[str, int]:
        """Open the port; gives its address."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve it until ``stopping``, then until the last connection has ended."""

    def stop_dialling(self) -> None:
        """Give up what is not joined yet."""

    def close(self) -> None:
        """Give the port back."""
