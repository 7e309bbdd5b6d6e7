"""What signals do while a program is still being imported and set up.

That takes a third of a second. Without this, SIGTERM then is exit code -15, SIGINT a traceback out
of somebody's import, and SIGHUP, which shall reload, the end. Imports nothing that takes time.
"""

from __future__ import annotations

import os
import signal
from typing import Any

_replaced: dict[signal.Signals, Any] = {}


def install() -> None:
    """Until `hybridge.program.lifetime` takes over: stop with exit code 0, or do not reload yet."""
    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
        _replace(name, _leave)
    _replace("SIGHUP", signal.SIG_IGN)


def restore() -> None:
    """Put back what was there, for a command that answers and ends: cut off, it has not done so."""
    while _replaced:
        number, handler = _replaced.popitem()
        signal.signal(number, handler)


def _replace(name: str, handler: Any) -> None:
    number: signal.Signals | None = getattr(signal, name, None)  # Windows lacks some.
    if number is not None:
        _replaced[number] = signal.signal(number, handler)


def _leave(*_: object) -> None:
    # Not sys.exit: it would unwind an import, which may take that for an error of its own.
    os._exit(0)
