"""A file that exists while a program is ready: for health checks and scripts that wait."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from hybridge.protocol.errors import InvalidSetting


class ReadyFile:
    """Exists while the program is ready, and says in JSON what is.

    It appears whole or not at all. What an earlier run left is removed at once.

    Args:
        path: Where, or None for no file.

    Raises:
        InvalidSetting: The file cannot be written there.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        if path is not None and not path.parent.is_dir():
            raise InvalidSetting(
                "--ready-file",
                f"{path.parent} is not a folder",
                hint="name a file in a folder that exists",
            )
        self.remove()

    def write(self, content: object) -> None:
        """Make the file appear, or replace what it says."""
        if self._path is None:
            return
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            draft.write_text(json.dumps(content) + "\n", encoding="utf-8")
            draft.replace(self._path)
        except OSError as error:
            raise self._cannot("written", error) from error

    def remove(self) -> None:
        """Make the file disappear."""
        if self._path is None:
            return
        try:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
        except OSError as error:
            raise self._cannot("removed", error) from error

    def _cannot(self, verb: str, error: OSError) -> InvalidSetting:
        return InvalidSetting(
            "--ready-file",
            f"{self._path} cannot be {verb}: {error.strerror}",
            hint="name a file that this program may write",
        )
