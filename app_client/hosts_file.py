"""Our block in a hosts file: put in, replaced, taken away, and nothing else touched.

    # BEGIN hybridge: written by app-client, which replaces and removes it
    127.83.12.7  db.corp.local  # hybrid connection orders-db in contoso.servicebus.windows.net
    # END hybridge

Own code, because everything outside the block must stay as it is, byte for byte; libraries for
hosts files parse all of it and write it anew.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hybridge.protocol.errors import RelayError

BEGIN = b"# BEGIN hybridge"
END = b"# END hybridge"

_BEGIN_LINE = BEGIN + b": written by app-client, which replaces and removes it"
_LINE_END_ADDED = b" (with the line end above)"
"""Ends the first line where the line before it had no end: removal takes that away too."""

MAX_FILE_BYTES = 16_777_216
"""Larger files are not hosts files."""

_IN_PLACE = (errno.EBUSY, errno.EACCES, errno.EPERM, errno.EXDEV, errno.EROFS)
"""How a rename fails where the file itself may be written: it is mounted, or the folder is not."""


def default_hosts_file() -> Path:
    """Where this system has its hosts file."""
    if sys.platform == "win32":
        return Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32/drivers/etc/hosts")
    return Path("/etc/hosts")


class HostsFileUnusable(RelayError):
    """A hosts file cannot be read or written, or its block is not whole."""


@dataclass(frozen=True, slots=True)
class OtherLine:
    """A line outside our block that gives a name an address."""

    number: int
    address: str


class HostsFile:
    """A hosts file with at most one block of ours.

    Args:
        path: Where it is; a symbolic link is followed.
        advice: What to try where it may not be written, for the error.
    """

    def __init__(self, path: Path, *, advice: str = "") -> None:
        self.path = path
        self._advice = advice or "run this as a user who may write it"

    def lines(self) -> list[str]:
        """Give the lines of our block; none where there is no block.

        Raises:
            HostsFileUnusable: The file cannot be read, or its block has no end.
        """
        _, block, _ = self._split(self._read())
        lines = [line.rstrip(b"\r\n") for line in block.splitlines(keepends=True)]
        kept = [line for line in lines if line and not line.startswith((BEGIN, END))]
        return [line.decode(errors="replace") for line in kept]

    def write(self, lines: Sequence[str]) -> bool:
        """Make these the lines of our block; without lines there is no block.

        Returns:
            Whether the file had to be changed.

        Raises:
            HostsFileUnusable: It cannot be read or written, or its block has no end. It is as it
                was.
        """
        content = self._read()
        before, block, after = self._split(content)
        if block and _LINE_END_ADDED in block.splitlines()[0]:
            before = before.removesuffix(b"\n")
        if lines:
            # A block stays where it is; a new one comes last.
            fresh = _with_block(before, lines, after, line_end=_line_end(content))
        else:
            fresh = _without_block(before, after)
        if fresh == content:
            return False
        self._replace(fresh)
        return True

    def check_writable(self) -> None:
        """Find out before it matters whether the file may be written.

        Raises:
            HostsFileUnusable: It may not, it cannot be read, or its block has no end.
        """
        self._split(self._read())
        if not os.access(self.path, os.W_OK):
            raise self._unwritable("Permission denied")

    def others(self, name: str) -> list[OtherLine]:
        """Find the lines outside our block that give ``name`` an address.

        Raises:
            HostsFileUnusable: The file cannot be read, or its block has no end.
        """
        content = self._read()
        before, block, after = self._split(content)
        found: list[OtherLine] = []
        first_after = len((before + block).splitlines()) + 1
        for start, part in ((1, before), (first_after, after)):
            for number, line in enumerate(part.splitlines(), start):
                words = line.partition(b"#")[0].decode(errors="replace").lower().split()
                if name.lower() in words[1:]:
                    found.append(OtherLine(number, words[0]))
        return found

    # --- bytes --------------------------------------------------------------------------------

    def _read(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise HostsFileUnusable(
                f"{self.path} cannot be read: {error.strerror}",
                hint="name the hosts file of this machine",
            ) from error
        if len(content) > MAX_FILE_BYTES:
            raise HostsFileUnusable(
                f"{self.path} is larger than a hosts file", hint="name another file"
            )
        return content

    def _split(self, content: bytes) -> tuple[bytes, bytes, bytes]:
        """Give what stands before our block, the block, and what stands after it."""
        lines = content.splitlines(keepends=True)
        begins = [number for number, line in enumerate(lines) if line.startswith(BEGIN)]
        ends = [number for number, line in enumerate(lines) if line.startswith(END)]
        if not begins and not ends:
            return content, b"", b""
        if len(begins) != 1 or len(ends) != 1 or ends[0] < begins[0]:
            number = (begins or ends)[0] + 1
            raise HostsFileUnusable(
                f"{self.path}, line {number}: the block of hybridge does not begin and end once",
                hint=f"remove the lines with {BEGIN.decode()} and {END.decode()} by hand",
            )
        start, stop = begins[0], ends[0] + 1
        parts = lines[:start], lines[start:stop], lines[stop:]
        before, block, after = (b"".join(part) for part in parts)
        return before, block, after

    def _replace(self, content: bytes) -> None:
        path = Path(os.path.realpath(self.path))
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            try:
                _write_beside(path, draft, content)
                draft.replace(path)
            except OSError as error:
                if error.errno not in _IN_PLACE:
                    raise
                _write_in_place(path, content)
        except OSError as error:
            raise self._unwritable(error.strerror or str(error)) from error
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()

    def _unwritable(self, reason: str) -> HostsFileUnusable:
        return HostsFileUnusable(f"{self.path} cannot be written: {reason}", hint=self._advice)


def _line_end(content: bytes) -> bytes:
    return b"\r\n" if b"\r\n" in content else b"\n"


def _with_block(before: bytes, lines: Sequence[str], after: bytes, *, line_end: bytes) -> bytes:
    begin = _BEGIN_LINE
    if before and not before.endswith(b"\n"):
        before += b"\n"
        begin += _LINE_END_ADDED
    block = [begin, *(line.encode() for line in lines), END]
    return before + b"".join(line + line_end for line in block) + after


def _without_block(before: bytes, after: bytes) -> bytes:
    """Join what stands around the block, and never two lines into one."""
    is_open = before and not before.endswith((b"\n", b"\r"))
    if is_open and after and not after.startswith((b"\n", b"\r")):
        return before + b"\n" + after  # Somebody has written below our block meanwhile.
    return before + after


def _write_beside(path: Path, draft: Path, content: bytes) -> None:
    """Write a file that can take the place of another: the same owner, mode and attributes."""
    owner = path.stat()
    with draft.open("xb") as file:
        shutil.copystat(path, draft)
        if hasattr(os, "chown"):
            os.chown(draft, owner.st_uid, owner.st_gid)
            draft.chmod(owner.st_mode & 0o7777)  # A change of the owner takes bits away.
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.utime(draft)  # Resolvers that keep names look at the time.


def _write_in_place(path: Path, content: bytes) -> None:
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
