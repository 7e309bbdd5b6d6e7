"""UDP sockets that hold nothing back: what cannot be sent at once is lost, as UDP may lose it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self

from hybridge.protocol.azbridge import LENGTH_BYTES
from hybridge.protocol.errors import Unreachable
from hybridge.transport.loop_room import loop_room
from hybridge.transport.names import Admit, resolve
from hybridge.transport.readiness import wait_readable
from hybridge.transport.sockets import describe, show_address
from hybridge.transport.stream import HEADROOM_BYTES

ROOM_BYTES = HEADROOM_BYTES + LENGTH_BYTES
"""Writable bytes in front of each datagram: for its length, and the header of a frame."""

BURST_DATAGRAMS = 64
"""Datagrams that are taken before others have their turn."""

Peer = tuple[str, int] | tuple[str, int, int, int]
"""An address as the socket module has it, IPv4 or IPv6."""

Take = Callable[[memoryview, int, int, Peer], None]
"""Is given a datagram, ``buffer[start:end]``, and its sender; valid until it returns."""


class UdpSocket:
    """A bound or connected UDP socket. Use as a context: it closes at the end.

    Attributes:
        on_refusal: Is called when a machine says that nobody listens where a datagram went.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = loop_room().buffer
        self.on_refusal: Callable[[], None] | None = None

    async def receive(self, take: Take) -> None:
        """Give each datagram to ``take``, until cancelled."""
        fd = self._socket.fileno()
        while True:
            await wait_readable(fd)
            for _ in range(BURST_DATAGRAMS):
                if not self._receive_one(take):
                    break
            else:
                await asyncio.sleep(0)

    def _receive_one(self, take: Take) -> bool:
        try:
            size, peer = self._socket.recvfrom_into(self._buffer[ROOM_BYTES:])
        except BlockingIOError:
            return False
        except ConnectionError:
            self._refused()
            return True
        except OSError:
            return False
        take(self._buffer, ROOM_BYTES, ROOM_BYTES + size, peer)
        return True

    def _refused(self) -> None:
        if self.on_refusal is not None:
            self.on_refusal()

    def send(self, data: bytes, peer: Peer | None = None) -> bool:
        """Send a datagram: to ``peer``, or to where the socket is connected.

        Returns:
            Whether the machine took it: it is not too long, and there is room.
        """
        for _ in range(2):
            try:
                if peer is None:
                    self._socket.send(data)
                else:
                    self._socket.sendto(data, peer)
            except ConnectionError:
                self._refused()  # The answer to the last one; this one has not been sent.
            except OSError:
                return False
            else:
                return True
        return False

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


async def dial_udp(host: str, port: int, *, admit: Admit | None = None) -> UdpSocket:
    """Make a UDP socket that is connected to ``host:port``. Nothing is sent.

    Args:
        host: Name or address.
        port: UDP port.
        admit: Chooses from the addresses; its errors pass. None: all.

    Raises:
        TargetRefused: The name is unknown.
        Unreachable: There is no route to it.
    """
    found = await resolve(host, port, socket.SOCK_DGRAM, admit=admit)
    problem: OSError | None = None
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.connect(address)
        except OSError as error:
            sock.close()
            problem = error
        else:
            return UdpSocket(sock)
    reason = "no address" if problem is None else describe(problem)
    raise Unreachable(
        f"{show_address(host, port)} cannot be reached: {reason}",
        hint="check the address and the route",
        status=502,
    ) from problem
