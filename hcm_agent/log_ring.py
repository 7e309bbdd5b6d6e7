"""The last lines of this process's log, in memory: what ``hcm logs`` shows."""

from __future__ import annotations

import copy
import logging
from collections import deque
from typing import TYPE_CHECKING

from hybridge.program.logs import TextFormatter, json_formatter

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_LINES = 1_000
"""Older ones are forgotten here; what the platform keeps is not touched."""

MAX_MESSAGE_CHARACTERS = 4_096
"""Of a message, and of a traceback: the rest is in the log itself."""


class LogRing(logging.Handler):
    """Keeps the last `MAX_LINES` records, numbered from 1.

    Args:
        program: As for `hybridge.program.logs.configure`.
    """

    def __init__(self, program: str) -> None:
        super().__init__()
        self._program = program
        self._kept: deque[tuple[int, logging.LogRecord]] = deque(maxlen=MAX_LINES)
        self._text = TextFormatter()
        self._json: logging.Formatter | None = None
        self.count = 0
        """How many records there were."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a copy that holds no live objects: a traceback would keep its frames."""
        kept = copy.copy(record)
        kept.msg, kept.args = record.getMessage()[:MAX_MESSAGE_CHARACTERS], None
        if record.exc_info:
            kept.exc_text = self._text.formatException(record.exc_info)[-MAX_MESSAGE_CHARACTERS:]
            kept.exc_info = None
        self.count += 1
        self._kept.append((self.count, kept))

    def after(self, number: int, *, limit: int = MAX_LINES, as_json: bool) -> Sequence[str]:
        """Give the lines after one, at most the last ``limit``.

        Args:
            number: The last one that is known; 0 for all.
            limit: How many, at least 1.
            as_json: One object each, instead of text.
        """
        wanted = [record for n, record in list(self._kept) if n > number][-limit:]
        formatter = self._json_formatter() if as_json else self._text
        return [formatter.format(record) for record in wanted]

    def _json_formatter(self) -> logging.Formatter:
        if self._json is None:
            self._json = json_formatter(self._program)
        return self._json
