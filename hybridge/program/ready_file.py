"""A file that exists while a program is ready: for health checks and scripts that wait."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from hybridge.protocol.errors import InvalidSetting

logger = logging.getLogger(__name__)


class ReadyFile:
    """Exists while the program is ready, and says in JSON what is.

    It appears whole or not at all. What an earlier run left is removed at once. Trouble with it
    later on is a warning in the log: it must not end what works.

    Args:
        path: Where, or None for no file.

    Raises:
        InvalidSetting: The file cannot be written there.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        if path is None:
            return
        try:
            self._replace(path, None)
            path.unlink()
        except OSError as error:
            raise InvalidSetting(
                "--ready-file",
                f"{path} cannot be written: {error.strerror}",
                hint="name a file in a folder that this program may write to",
            ) from None

    def write(self, content: object) -> None:
        """Make the file appear, or replace what it says."""
        if self._path is not None:
            with _trouble_logged(self._path):
                self._replace(self._path, content)

    def remove(self) -> None:
        """Make the file disappear."""
        if self._path is not None:
            with _trouble_logged(self._path), contextlib.suppress(FileNotFoundError):
                self._path.unlink()

    def _replace(self, path: Path, content: object) -> None:
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(json.dumps(content) + "\n", encoding="utf-8")
        draft.replace(path)


@contextlib.contextmanager
def _trouble_logged(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        logger.warning("%s: %s", path, error.strerror, extra={"event": "ready_file"})
