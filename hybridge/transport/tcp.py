"""TCP: dial, and a TCP connection as a byte stream."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

import aiohappyeyeballs

from hybridge.protocol.errors import (
    RelayError,
    TargetRefused,
    TargetTimedOut,
    Unreachable,
)
from hybridge.transport.loop_stream import LoopStream, open_loop_stream
from hybridge.transport.names import AddressInfo, Admit, resolve
from hybridge.transport.readiness import has_readiness, wait_writable
from hybridge.transport.socket_stream import SocketStream
from hybridge.transport.sockets import describe, set_no_delay, show_address

HAPPY_EYEBALLS_SECONDS = 0.25
"""How long the next address of a name waits for the one before it (RFC 8305)."""


_UNDER_WAY = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR})


class TcpStream(SocketStream):
    """A plain TCP connection, as the target's or the application's."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        set_no_delay(sock)
        super().__init__(sock)


async def dial_socket(host: str, port: int, *, admit: Admit | None = None) -> socket.socket:
    """Connect to ``host:port``, trying all its addresses (RFC 8305).

    Args:
        host: Name or address.
        port: TCP port.
        admit: Chooses from the addresses; its errors pass. None: all.

    Raises:
        TargetRefused: Nothing listens there, or the name is unknown.
        TargetTimedOut: The network gave up. A deadline of its own is the caller's.
    """
    found = await resolve(host, port, socket.SOCK_STREAM, admit=admit)
    try:
        if len(found) == 1:
            sock = await _connect(found[0])
        else:
            sock = await aiohappyeyeballs.start_connection(
                found, happy_eyeballs_delay=HAPPY_EYEBALLS_SECONDS, interleave=1
            )
    except TimeoutError as error:
        raise TargetTimedOut(
            f"{show_address(host, port)} did not answer in time",
            hint="check the route and the firewalls on the way",
        ) from error
    except OSError as error:
        raise _refusal(error, host, port) from error
    set_no_delay(sock)
    return sock


async def _connect(found: AddressInfo) -> socket.socket:
    """Connect to one address. uvloop would ask a thread for it, though it is no name any more."""
    family, kind, protocol, _, address = found
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        if not has_readiness(loop):
            await loop.sock_connect(sock, address)
            return sock
        number = sock.connect_ex(address)
        if number in _UNDER_WAY:
            await wait_writable(sock.fileno())
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))
    except BaseException:
        sock.close()
        raise
    return sock


def _refusal(error: OSError, host: str, port: int) -> RelayError:
    if isinstance(error, ConnectionRefusedError) or "refused" in str(error).lower():
        return TargetRefused(
            f"{show_address(host, port)} refused the connection",
            hint="check that the service is running and listens on this port",
        )
    return Unreachable(
        f"{show_address(host, port)} cannot be reached: {describe(error)}",
        hint="check the address, the route and the firewalls on the way",
        status=502,
    )


async def open_tcp(sock: socket.socket) -> TcpStream | LoopStream:
    """Make a stream of a connected socket, which it owns from now on.

    On a loop that cannot watch sockets it is a slower one.
    """
    if has_readiness(asyncio.get_running_loop()):
        return TcpStream(sock)
    set_no_delay(sock)
    return await open_loop_stream(sock)


async def dial_tcp(host: str, port: int, *, admit: Admit | None = None) -> TcpStream | LoopStream:
    """Open a plain TCP stream; arguments and errors as `dial_socket`."""
    return await open_tcp(await dial_socket(host, port, admit=admit))
