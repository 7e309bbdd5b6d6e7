"""What both kinds of stream do to their sockets, and how long an orderly end may take."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import struct
import sys

try:
    import fcntl
    import termios
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_logger = logging.getLogger(__name__)

LINGER_SECONDS = 2.0
"""How long an orderly close waits for the peer's own end."""

MAX_LINGER_BYTES = 1_048_576
"""Most bytes that an orderly close reads and throws away while it waits."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def set_no_delay(sock: socket.socket) -> None:
    """Send small messages at once, and notice a dead peer on an idle connection."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    # Some systems refuse any option once the peer has reset the connection; reading will tell.
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # An idle leg on which no ping may be sent any more is watched by the kernel: 15 + 2 * 5 s.
        for name, seconds in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 2)):
            option = getattr(socket, name, None)
            if option is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, seconds)


def reset_on_close(sock: socket.socket) -> None:
    """Make the close that follows a reset: the peer sees a broken connection, no orderly end."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    except OSError as error:
        _logger.debug("could not arrange a reset: %s", error)


def has_input(fd: int) -> bool:
    """Whether bytes, an end or an error wait on a socket, without waiting for them."""
    if not hasattr(select, "poll"):
        return bool(select.select([fd], [], [], 0)[0])
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))


def has_room(fd: int) -> bool:
    """Whether a socket takes bytes now, or has failed."""
    if not hasattr(select, "poll"):
        return bool(select.select([], [fd], [], 0)[1])
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    return bool(poller.poll(0))


def bytes_in_flight(sock: socket.socket) -> int:
    """Bytes that were written and that the peer's machine has not got yet; 0 where nobody says."""
    if fcntl is None or not sys.platform.startswith("linux"):
        return 0
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError):
        return 0  # the connection is gone
    return int.from_bytes(answer, sys.byteorder)


def peer_address(sock: socket.socket) -> tuple[str, int]:
    """Say where a connection comes from; port 0 where the peer has gone already."""
    try:
        name = sock.getpeername()
    except OSError:
        return "0.0.0.0", 0  # noqa: S104 - nobody
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return str(name), 0  # A Unix socket; few of its visitors have a name.
    return str(name[0]), int(name[1])


def describe(error: BaseException) -> str:
    """Say what went wrong, in the system's words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def show_address(host: str, port: int) -> str:
    """Write ``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
