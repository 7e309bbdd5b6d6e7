"""Open local sockets: all addresses of a host on one port, or an error that says why not."""

from __future__ import annotations

import errno
import socket
import sys
from contextlib import ExitStack

from hybridge.protocol.errors import InvalidSetting, RelayError
from hybridge.transport.sockets import show_address

BACKLOG = 4_096
"""Connections that the kernel holds until we take them; it may lower this itself."""

MAX_PORT_TRIES = 32
"""How often another free port is taken when it is not free on the other loopback."""

LOCALHOST = "localhost"
"""As a listen address: both loopbacks."""

LOOPBACK_PREFIX = "127."
"""How an IPv4 loopback address begins."""

_LOOPBACKS = ("127.0.0.1", "::1")
_NO_IPV6 = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)


class AddressUnusable(RelayError):
    """Nothing can listen there: in use, not allowed, or no address of this machine."""


def open_sockets(
    host: str, port: int, *, flag: str, kind: socket.SocketKind = socket.SOCK_STREAM
) -> list[socket.socket]:
    """Listen on a host's addresses, all on the same port.

    Args:
        host: ``localhost`` for both loopbacks (IPv6 only where there is one), an IP address, or a
            name of this machine. ``0.0.0.0`` is all of IPv4, ``::`` all of IPv6.
        port: 0 takes a free one.
        flag: What the port is set by, for the error: ``--port``.
        kind: TCP, or UDP with `socket.SOCK_DGRAM`.

    Returns:
        Non-blocking sockets that listen already (UDP: are bound); the caller closes them.

    Raises:
        AddressUnusable: The port is in use, or the address cannot be bound.
        InvalidSetting: The host has no address.
    """
    addresses = _addresses(host)
    for _ in range(MAX_PORT_TRIES):
        try:
            return _open_all(addresses, port, kind=kind, is_localhost=host.lower() == LOCALHOST)
        except _Failed as failed:
            if port == 0 and failed.number == errno.EADDRINUSE:
                continue  # Free on one loopback, in use on the other: try another.
            raise _explained(failed, flag) from failed.__cause__
    raise AddressUnusable(
        f"no port is free on all of {', '.join(addresses)}", hint=f"choose one with {flag}"
    )


def bound_address(sock: socket.socket) -> tuple[str, int]:
    """Host and port of a socket."""
    name = sock.getsockname()
    return str(name[0]), int(name[1])


class _Failed(Exception):
    def __init__(self, address: str, port: int, number: int | None) -> None:
        super().__init__(address, port, number)
        self.address = address
        self.port = port
        self.number = number


def _addresses(host: str) -> tuple[str, ...]:
    if host.lower() == LOCALHOST:
        return _LOOPBACKS if socket.has_ipv6 else _LOOPBACKS[:1]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InvalidSetting(
            host, "this name has no address", hint="give an IP address of this machine"
        ) from error
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


def _open_all(
    addresses: tuple[str, ...], port: int, *, kind: socket.SocketKind, is_localhost: bool
) -> list[socket.socket]:
    with ExitStack() as opened:
        sockets: list[socket.socket] = []
        for address in addresses:
            try:
                sock = _open(address, port, kind)
            except OSError as error:
                if is_localhost and sockets and error.errno in _NO_IPV6:
                    continue
                raise _Failed(address, port, error.errno) from error
            opened.callback(sock.close)
            sockets.append(sock)
            port = bound_address(sock)[1]
        opened.pop_all()
        return sockets


def _open(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        # A port whose last connections are still in TIME_WAIT is free. On Windows the same option
        # would let another program take the port too, and with UDP everywhere.
        option = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
        if kind == socket.SOCK_STREAM or option != socket.SO_REUSEADDR:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        if kind == socket.SOCK_STREAM:
            # Not left to whoever takes the connections: only now is it known that the port is ours.
            sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _explained(failed: _Failed, flag: str) -> AddressUnusable:
    where = show_address(failed.address, failed.port)
    match failed.number:
        case errno.EADDRINUSE:
            problem = f"{where} is in use"
            hint = f"{_naming_the_holder(failed.port)}: end it, or choose another port with {flag}"
        case errno.EACCES | errno.EPERM:
            problem = f"this user may not listen on {where}"
            hint = f"choose a port from 1024 with {flag}, or allow lower ones: "
            hint += f"sudo sysctl -w net.ipv4.ip_unprivileged_port_start={failed.port}"
        case errno.EADDRNOTAVAIL if failed.address.startswith(LOOPBACK_PREFIX):
            # macOS and the BSDs have 127.0.0.1 only, until they are told of more.
            problem = f"{failed.address} is no address of this machine yet"
            hint = f"sudo ifconfig lo0 alias {failed.address} up"
            hint += f"; or choose 127.0.0.1 with {flag}"
        case errno.EADDRNOTAVAIL:
            problem = f"{failed.address} is no address of this machine"
            hint = "give one of its own, or 0.0.0.0 for all"
        case _:
            reason = failed.__cause__
            problem = f"cannot listen on {where}: {getattr(reason, 'strerror', None) or reason}"
            hint = f"choose another address or port ({flag})"
    return AddressUnusable(problem, hint=hint)


def _naming_the_holder(port: int) -> str:
    """Say which command names the program that has a port."""
    commands = {
        "linux": f"sudo ss -lntup sport = :{port}",
        "win32": f"netstat -abno | findstr :{port}",
    }
    command = commands.get(sys.platform, f"sudo lsof -nP -i :{port}")
    return f"'{command}' names the program"
