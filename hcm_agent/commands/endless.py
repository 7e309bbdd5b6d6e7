"""Commands that go on until somebody ends them, and the ways to do that."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import sys
import threading
from typing import TYPE_CHECKING, Any

from hybridge.program.command_line import EXIT_FAILED

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOK_AGAIN_MILLISECONDS = 500
"""How often a command that has ended otherwise is looked for, by who waits for its reader."""


@contextlib.contextmanager
def until_ended() -> Iterator[None]:
    """Let Ctrl-C, signals and a reader that leaves end a block, and with it the command.

    Ctrl-C ends the block, which is how such a command is ended. SIGTERM and SIGHUP end the process
    with 128 and their number, and what has been done to the terminal is undone. Where standard
    output is a pipe and nobody reads it any more (``| head -1``), the process ends with
    `EXIT_FAILED`: the next line, which would find that out, may be long in coming.

    Raises:
        SystemExit: A signal came.
    """
    ended = threading.Event()
    _end_without_reader(ended)
    before = _handle_signals()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        ended.set()
        for number, handler in before.items():
            signal.signal(number, handler)


def _handle_signals() -> dict[int, Any]:
    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        return {}
    found = (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP"))  # Windows lacks one.
    return {number: signal.signal(number, leave) for number in found if number is not None}


def _end_without_reader(ended: threading.Event) -> None:
    try:
        output = sys.stdout.fileno()
        is_pipe = stat.S_ISFIFO(os.fstat(output).st_mode)
    except (OSError, ValueError):
        return  # It is no file.
    if is_pipe and hasattr(select, "poll"):
        threading.Thread(target=_wait_for_leaving, args=(output, ended), daemon=True).start()


def _wait_for_leaving(output: int, ended: threading.Event) -> None:
    reader = select.poll()
    reader.register(output, 0)
    while not reader.poll(LOOK_AGAIN_MILLISECONDS):
        if ended.is_set():
            return
    os._exit(EXIT_FAILED)
