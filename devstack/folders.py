"""Temporary folders that are gone afterwards, whenever we are interrupted."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

REMOVE_SECONDS = 5.0
"""How long processes that were just killed may still write files into a folder."""


def temporary_folder(stack: ExitStack, *, prefix: str) -> Path:
    """Make a folder that only we can enter; it is removed when ``stack`` is closed.

    Unlike with ``mkdtemp``, its removal is arranged before it is made: no interruption can come
    between the two.

    Args:
        stack: Whose end is the folder's.
        prefix: How its name begins.
    """
    folder = Path(tempfile.gettempdir(), f"{prefix}{secrets.token_hex(8)}")
    stack.callback(_remove, folder)
    folder.mkdir(mode=0o700)
    return folder


def _remove(folder: Path) -> None:
    deadline = time.monotonic() + REMOVE_SECONDS
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists() or time.monotonic() > deadline:
            return
        time.sleep(0.02)
