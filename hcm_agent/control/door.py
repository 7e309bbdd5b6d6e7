"""Where the service listens for the verbs, and how they find it again."""

from __future__ import annotations

import contextlib
import enum
import hmac
import json
import os
import secrets
import socket
import stat
import sys
from typing import TYPE_CHECKING

from hybridge.protocol.errors import RelayError
from hybridge.transport.private_files import PRIVATE_FILE, read_private, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hcm_agent.state_directory import StateDirectory

BACKLOG = 16
"""Verbs that wait to be heard."""

MAX_SOCKET_PATH_BYTES = 100
"""Longer paths do not fit into the address of a Unix socket, which has 108 or 104 bytes."""

PROOF_PATH = "/proof"
"""Where a service on loopback shows that it is the one that wrote the token."""


class Door(enum.Enum):
    """The ways to speak to a service."""

    SOCKET = "socket"
    """A Unix socket with mode 0600."""

    LOOPBACK = "loopback"
    """A port on 127.0.0.1, and a token in a file with mode 0600: where there are no such
    sockets."""


class NotOurs(RelayError):
    """The socket belongs to another user, who would be given the keys."""


class ServiceNotRunning(RelayError):
    """Nobody answers the verbs."""

    def __init__(self, state: StateDirectory) -> None:
        super().__init__(
            f"the hcm service does not run: nobody answers in {state.path}",
            hint="start it with 'hcm run', or name the directory of yours with --state",
        )


@contextlib.contextmanager
def listening(state: StateDirectory, door: Door) -> Iterator[tuple[socket.socket, str]]:
    """Listen for the verbs. The caller holds the state directory.

    What an earlier service left is replaced, and what is made here is removed at the end.

    Yields:
        The socket, and the token that each request must carry, which is empty for a Unix socket.

    Raises:
        OSError: It cannot listen.
        UnusableFile: The token cannot be written.
    """
    for left in (state.socket, state.loopback):
        left.unlink(missing_ok=True)
    if door is Door.SOCKET:
        with _unix_socket(state.socket) as sock:
            yield sock, ""
        return
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as sock:
        sock.setblocking(False)
        token = secrets.token_urlsafe(32)
        fields = {"port": sock.getsockname()[1], "token": token}
        write_atomically(state.loopback, json.dumps(fields).encode())
        try:
            yield sock, token
        finally:
            state.loopback.unlink(missing_ok=True)


@contextlib.contextmanager
def _unix_socket(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        with _short(path) as address:
            sock.bind(address)
        try:
            # Before it listens nobody can connect, whatever the umask was.
            path.chmod(PRIVATE_FILE)
            sock.listen(BACKLOG)
            yield sock
        finally:
            path.unlink(missing_ok=True)


def connect(state: StateDirectory, *, timeout_seconds: float | None) -> tuple[socket.socket, str]:
    """Reach the service.

    Args:
        state: Its directory.
        timeout_seconds: For each wait; None for no limit.

    Returns:
        A connected socket, and the token that each request must carry; empty for none.

    Raises:
        NotOurs: The socket is another user's.
        ServiceNotRunning: Nobody listens.
        UnusableFile: The token is not a file of ours.
    """
    try:
        if state.loopback.exists():
            return _connect_loopback(state, timeout_seconds)
        return _connect_unix(state, timeout_seconds), ""
    except PermissionError:
        raise NotOurs(
            f"this user may not speak to the service in {state.path}",
            hint="run the verb as the user that the service runs as, or as root",
        ) from None
    except OSError:
        raise ServiceNotRunning(state) from None


def _connect_loopback(
    state: StateDirectory, timeout_seconds: float | None
) -> tuple[socket.socket, str]:
    _check_owner(state.loopback)
    data = read_private(state.loopback, if_exposed="and start the service again, for a new token")
    try:
        fields = json.loads(data or b"")
        port, token = int(fields["port"]), str(fields["token"])
    except (ValueError, KeyError, TypeError):
        raise ServiceNotRunning(state) from None
    return socket.create_connection(("127.0.0.1", port), timeout=timeout_seconds), token


def proof_of(token: str, question: str) -> str:
    """Answer a question as only who knows the token can: the token itself is not told."""
    return hmac.new(token.encode(), question.encode(), "sha256").hexdigest()


def _connect_unix(state: StateDirectory, timeout_seconds: float | None) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise ServiceNotRunning(state)
    found = state.socket.lstat()
    if not stat.S_ISSOCK(found.st_mode):
        raise NotOurs(f"{state.socket} is not a socket", hint="move it away, and start the service")
    _check_owner(state.socket)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(timeout_seconds)
        with _short(state.socket) as address:
            sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _check_owner(path: Path) -> None:
    """Whoever listens there is told keys: that must be us, root, or a service that root manages."""
    if not hasattr(os, "geteuid"):
        return
    owner, us = path.lstat().st_uid, os.geteuid()
    trusted = {us, 0} | ({path.parent.stat().st_uid} if us == 0 else set())
    if owner not in trusted:
        raise NotOurs(
            f"{path} belongs to another user (id {owner}), and is not trusted with keys",
            hint="find out who put it there; your own service may have another --state",
        )


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """Give a path that fits into a socket's address."""
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES or not sys.platform.startswith("linux"):
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
