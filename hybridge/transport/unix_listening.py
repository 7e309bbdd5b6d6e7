"""Listen on a Unix socket: for one user of this machine, at a path that says what is behind it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from hybridge.protocol.errors import InvalidSetting
from hybridge.transport.listening import BACKLOG, AddressUnusable

UNIX_SCHEME = "unix:"
"""Stands in front of the path of a Unix socket, where a host and a port could stand too."""

DEFAULT_MODE = 0o600
"""For the user that listens, and nobody else."""

MAX_PATH_BYTES = 107
"""Longest path that Linux takes; macOS takes 103."""

_MODE_BEGINS = ",mode="
_MODE = re.compile(rf"{_MODE_BEGINS}([0-7]{{3,4}})$")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixAddress:
    """The path of a Unix socket, and who may connect to it."""

    path: Path

    mode: int = DEFAULT_MODE
    """The permissions of the file: whoever may write may connect."""

    def __str__(self) -> str:
        return f"{UNIX_SCHEME}{self.path}"


def parse_unix_address(text: str, *, setting: str) -> UnixAddress:
    """Read ``unix:/run/app/.s.PGSQL.5432`` or ``unix:/run/app/.s.PGSQL.5432,mode=0660``.

    Args:
        text: What was written.
        setting: The flag or key that it was written for, for the error.

    Raises:
        InvalidSetting: It is not that, the path is relative or too long, or this system has no Unix
            sockets.
    """
    rest = text.strip().removeprefix(UNIX_SCHEME)
    found = _MODE.search(rest)
    mode = int(found[1], 8) if found else DEFAULT_MODE
    path = rest[: found.start()] if found else rest
    hint = "write unix:/PATH, or unix:/PATH,mode=0660 for a group"
    if found is None and _MODE_BEGINS in path:
        given = path.rpartition(_MODE_BEGINS)[2]
        problem = f"the mode {given!r} is not three or four octal digits"
        raise InvalidSetting(setting, problem, hint=hint)
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise InvalidSetting(setting, f"{text!r} has no absolute path of a file", hint=hint)
    size = len(os.fsencode(path))
    if size > MAX_PATH_BYTES:
        problem = f"the path has {size} bytes, and a Unix socket's at most {MAX_PATH_BYTES}"
        raise InvalidSetting(setting, problem, hint="choose a shorter one")
    if not hasattr(socket, "AF_UNIX"):
        raise InvalidSetting(
            setting, "this system has no Unix sockets", hint="give a HOST:PORT instead"
        )
    return UnixAddress(path=Path(path), mode=mode)


class UnixListening:
    """A Unix socket that listens. What a program left that did not end in order is replaced.

    Attributes:
        socket: Listens already, non-blocking. Closing it is the owner's; then `remove` the file.

    Args:
        address: Where, and for whom.
        flag: What the path is set by, for the error: ``--listen``.

    Raises:
        AddressUnusable: Somebody listens there, something else has this name, or the folder cannot
            be written to.
    """

    def __init__(self, address: UnixAddress, *, flag: str) -> None:
        self._path = address.path
        try:
            _remove_stale(address.path, flag)
            self.socket = _open(address)
            self._identity = _identity(address.path)
        except OSError as error:
            raise _explained(error, address.path, flag) from error

    def remove(self) -> None:
        """Remove the file, unless it is another's by now."""
        with contextlib.suppress(OSError):
            if _identity(self._path) == self._identity:
                self._path.unlink()


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


def _remove_stale(path: Path, flag: str) -> None:
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise AddressUnusable(
            f"{path} exists, and is no socket", hint=f"choose another path with {flag}"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visitor:
        visitor.setblocking(False)
        try:
            visitor.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()  # Nobody listens any more.
        except BlockingIOError:
            raise _in_use(path, flag) from None  # Somebody does, and is busy.
        else:
            raise _in_use(path, flag)


def _open(address: UnixAddress) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        # From its first moment on, the file is not more open than it shall be.
        before = os.umask(0o777 & ~address.mode)
        try:
            sock.bind(str(address.path))
        finally:
            os.umask(before)
        address.path.chmod(address.mode)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _in_use(path: Path, flag: str) -> AddressUnusable:
    hint = f"end the program that listens there (sudo ss -xlp names it), or choose another {flag}"
    return AddressUnusable(f"{path} is in use", hint=hint)


def _explained(error: OSError, path: Path, flag: str) -> AddressUnusable:
    match error.errno:
        case errno.EADDRINUSE:
            return _in_use(path, flag)
        case errno.ENOENT:
            problem, hint = f"the folder {path.parent} does not exist", f"mkdir -p {path.parent}"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            problem = f"this user may not listen on {path}: {error.strerror}"
            hint = f"choose a folder that this user may write to, with {flag}"
        case _:
            problem = f"cannot listen on {path}: {error.strerror or error}"
            hint = f"choose another path with {flag}"
    return AddressUnusable(problem, hint=hint)
