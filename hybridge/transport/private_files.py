"""Files that hold keys: nobody else reads them, and a crash leaves the old or the new."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from typing import TYPE_CHECKING

from hybridge.protocol.errors import RelayError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRIVATE_FILE = 0o600
PUBLIC_FILE = 0o644
PRIVATE_DIRECTORY = 0o700
PARENT_DIRECTORY = 0o755
"""At most: who may write into it could put another directory in the place of ours."""

_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)

_UNFINISHED = ".tmp"
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}

MAX_FILE_BYTES = 16_777_216
"""Larger files are not ours."""


class UnusableFile(RelayError):
    """A file of ours cannot be written, read or trusted. The error names it and the next step."""

    def __init__(self, path: Path, problem: str, *, hint: str) -> None:
        super().__init__(f"{path}: {problem}", hint=hint)
        self.path = path


_MAKE_NEW_KEYS = "if somebody may have read it, delete it: new keys are made"


def make_private_directory(path: Path) -> None:
    """Make a directory that only this user can enter, or check the one that is there.

    Raises:
        UnusableFile: It cannot be made, is not a directory, or others may write into it.
    """
    try:
        for missing in reversed([each for each in path.parents if not each.exists()]):
            missing.mkdir(mode=PARENT_DIRECTORY, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=PRIVATE_DIRECTORY)
        mode = path.stat().st_mode
    except OSError as error:
        raise UnusableFile(
            path,
            f"the directory cannot be made: {error.strerror}",
            hint="choose a directory that this user can write",
        ) from error
    if not stat.S_ISDIR(mode):
        raise UnusableFile(path, "is not a directory", hint="choose another directory")
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnusableFile(
            path,
            f"others may write into this directory (mode {stat.S_IMODE(mode):04o})",
            hint=f"chmod 700 {path}",
        )


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other processes from changing the files of a directory meanwhile.

    Two programs that start at once would both make keys, and one of them would go on with keys that
    the files no longer hold.

    Raises:
        UnusableFile: The lock file cannot be made.
    """
    path = directory / ".lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _CLOEXEC | _NOFOLLOW, PRIVATE_FILE)
    except OSError as error:
        raise _not_writable(path, error) from error
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_private(path: Path, *, if_exposed: str = _MAKE_NEW_KEYS) -> bytes | None:
    """Read a file that holds keys; None when there is none.

    Args:
        path: The file.
        if_exposed: What to do besides closing it, when others may read it.

    Raises:
        UnusableFile: It is a symbolic link, not a file, readable by others, or cannot be read.
    """
    try:
        # O_NONBLOCK: opening a named pipe would wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | _CLOEXEC | _NOFOLLOW | _NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        if path.is_symlink():
            raise UnusableFile(
                path, "is a symbolic link", hint="put the file itself there: links are not followed"
            ) from error
        raise UnusableFile(
            path, f"cannot be read: {error.strerror}", hint="check its owner and permissions"
        ) from error
    try:
        return _read_checked(path, descriptor, if_exposed)
    finally:
        os.close(descriptor)


def _read_checked(path: Path, descriptor: int, if_exposed: str) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise UnusableFile(path, "is not a file", hint="move it away")
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UnusableFile(
            path,
            f"holds keys and others may read it (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"chmod 600 {path}; {if_exposed}",
        )
    if status.st_size > MAX_FILE_BYTES:
        raise UnusableFile(path, "is too large to be ours", hint="move it away")
    try:
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    except OSError as error:
        raise UnusableFile(
            path, f"cannot be read: {error.strerror}", hint="check the disk"
        ) from error


def write_atomically(path: Path, data: bytes, *, mode: int = PRIVATE_FILE) -> None:
    """Write a file so that a crash leaves its old or its new content.

    Args:
        path: The file. What stands there is replaced, a symbolic link too.
        data: The new content.
        mode: Its permissions, whatever the umask says.

    Raises:
        UnusableFile: It cannot be written; the old file is unharmed.
    """
    beside = path.with_name(f"{_beside(path)}{secrets.token_hex(8)}{_UNFINISHED}")
    try:
        descriptor = os.open(
            beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _CLOEXEC | _NOFOLLOW, mode
        )
        try:
            with open(descriptor, "wb") as file:
                if hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise _not_writable(path, error) from error


def remove_unfinished(path: Path) -> None:
    """Remove what a process that was killed in the midst of `write_atomically` left: it holds keys.

    The caller sees to it that nobody writes the file meanwhile. What cannot be removed stays.
    """
    with contextlib.suppress(OSError):
        for left in path.parent.iterdir():
            if left.name.startswith(_beside(path)) and left.name.endswith(_UNFINISHED):
                left.unlink()


def _beside(path: Path) -> str:
    return f".{path.name[:100]}."


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a crash of the machine, where a system can."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _CLOEXEC)
    try:
        # Some network and container file systems cannot do this for a directory.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _not_writable(path: Path, error: OSError) -> UnusableFile:
    return UnusableFile(
        path,
        f"cannot be written: {error.strerror}",
        hint="make room on the disk"
        if error.errno in _FULL
        else f"make {path.parent} writable for this user, or choose another directory",
    )
