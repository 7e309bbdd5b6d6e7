"""Connection strings as a program is given them: on the command line, in files, one per line."""

from __future__ import annotations

import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from hybridge.protocol import connection_string
from hybridge.protocol.connection_string import ConnectionString
from hybridge.protocol.errors import InvalidSetting

logger = logging.getLogger(__name__)

_MESSAGE_PREFIX = "connection string: "


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenConnectionStrings:
    """Connection strings from outside the configuration file, not yet read or parsed."""

    texts: tuple[str, ...] = ()
    """Connection strings themselves."""

    files: tuple[Path, ...] = ()
    """Files with one connection string per line."""

    def __bool__(self) -> bool:
        return bool(self.texts or self.files)

    def __repr__(self) -> str:
        return f"GivenConnectionStrings({len(self.texts)} texts, files={self.files!r})"

    def read(self) -> list[str]:
        """Read all of them as they are written, texts first, whether they can be parsed or not.

        Raises:
            InvalidSetting: A file cannot be read, or holds none.
        """
        return [*self.texts, *(line for path in self.files for _, line in _lines(path))]

    def parse(self) -> list[ConnectionString]:
        """Read and parse all of them, texts first.

        Raises:
            InvalidSetting: One is malformed, names no hybrid connection, or a file cannot be read.
        """
        several = len(self.texts) > 1
        found = [
            parse_for_one(text, source=f"connection string {n}" if several else "connection string")
            for n, text in enumerate(self.texts, start=1)
        ]
        for path in self.files:
            found.extend(_parse_file(path))
        return found


def parse_for_one(text: str, *, source: str) -> ConnectionString:
    """Parse a connection string that must name one hybrid connection.

    Args:
        text: The connection string.
        source: Where it stands, for the error: a file and a key, or "connection string".

    Raises:
        InvalidSetting: It is malformed or has no ``EntityPath``. The message never shows the text.
    """
    parsed = _parse(text, source=source)
    if not parsed.path:
        raise InvalidSetting(
            source,
            "names no hybrid connection",
            hint="append ;EntityPath=NAME, or copy the string of the hybrid connection itself",
        )
    return parsed


def parse_one(text: str | None, file: Path | None) -> ConnectionString | None:
    """Parse one connection string, also that of a whole namespace, from a text or a file.

    Returns:
        The text's, or else that of the file's one line; None if neither is given.

    Raises:
        InvalidSetting: It is malformed, the file cannot be read, or has several. The message never
            shows the text.
    """
    if text is not None:
        return _parse(text, source="connection string")
    if file is None:
        return None
    lines = _lines(file)
    if len(lines) > 1:
        raise InvalidSetting(
            str(file), "holds several connection strings", hint="name a file with one of them"
        )
    source, line = lines[0]
    return _parse(line, source=source)


def _parse(text: str, *, source: str) -> ConnectionString:
    try:
        return connection_string.parse(text)
    except InvalidSetting as error:
        problem = str(error).removeprefix(_MESSAGE_PREFIX)
        raise InvalidSetting(source, problem, hint=error.hint) from None


def warn_if_others_can_read(path: Path) -> None:
    """Log a warning when other users of this machine can read a file that holds keys."""
    if os.name != "posix":
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        logger.warning(
            "%s holds keys and other users can read it (mode %04o): chmod 600 %s",
            path,
            mode,
            path,
            extra={"event": "readable_by_others", "path": str(path)},
        )


def _parse_file(path: Path) -> list[ConnectionString]:
    found = [parse_for_one(line, source=source) for source, line in _lines(path)]
    if any(not parsed.is_anonymous for parsed in found):
        warn_if_others_can_read(path)
    return found


def _lines(path: Path) -> list[tuple[str, str]]:
    """Give the connection strings of a file, each with where it stands; at least one."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidSetting(
            str(path), f"cannot be read: {problem}", hint="name a file with one connection string"
        ) from None
    found = [
        (f"{path}:{number}", line.strip())
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not found:
        raise InvalidSetting(
            str(path),
            "holds no connection string",
            hint="write one connection string per line",
        )
    return found
