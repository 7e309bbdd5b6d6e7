"""Shells in which the commands of a page are typed, and what they print."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

DEADLINE_SECONDS = 40.0
"""How long a command may take, and anything that it shall print."""

LOOK_AGAIN_SECONDS = 0.02

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_CLOCK = re.compile(r"\b\d\d:\d\d:\d\dZ")


class Terminal:
    """One shell, from start to end of the ``with`` block. What it printed is kept.

    Args:
        folder: Where it begins.
        environment: The whole environment.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = dict(environment)
        self._lines: list[str] = []
        self._typed = 0

    def __enter__(self) -> Self:
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],  # noqa: S607 - the reader's shell
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        try:
            self._shell.wait(DEADLINE_SECONDS if error is None else 0)
        except subprocess.TimeoutExpired:
            os.killpg(self._shell.pid, signal.SIGKILL)
            self._shell.wait()
        self._reader.join()
        assert self._shell.stdout is not None
        self._shell.stdout.close()

    def type(self, commands: str, *, wait: bool) -> int:
        """Type commands.

        Args:
            commands: One or more lines.
            wait: Until the shell has done them, whatever they ended with.

        Returns:
            How many lines stood there before.
        """
        self._typed += 1
        before = len(self._lines)
        end = f"--- done {self._typed}"
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{commands}\n" + (f"echo; echo '{end}'\n" if wait else ""))
        self._shell.stdin.flush()
        if wait:
            _until(lambda: end in self._lines, f"{commands!r} to end", self.text)
        return before

    def interrupt(self) -> None:
        """Press Ctrl-C: what runs in the foreground gets SIGINT."""
        for child in psutil.Process(self._shell.pid).children():
            child.send_signal(signal.SIGINT)
            child.wait(DEADLINE_SECONDS)

    @property
    def line_count(self) -> int:
        return len(self._lines)

    def text(self) -> str:
        """All that it printed."""
        return "\n".join(self._lines)

    def has(self, shown: str, *, since: int) -> bool:
        """Whether the lines that a page shows were printed: in this order, but for a program's log.

        What several tasks log at the same moment comes in any order.
        """
        printed = [_squeeze(line) for line in self._lines[since:]]
        in_order = iter(printed)
        for line in shown.splitlines():
            is_line = _pattern(line).fullmatch
            if not any(is_line(each) for each in (printed if _is_log(line) else in_order)):
                return False
        return True

    def _read(self) -> None:
        assert self._shell.stdout is not None
        for line in self._shell.stdout:
            self._lines.append(line.rstrip())


def wait_for(shown: str, terminals: Mapping[int, Terminal], since: Mapping[int, int]) -> None:
    """Wait until one of the terminals has printed what a page shows."""

    def everything() -> str:
        return "\n".join(f"[terminal {n}]\n{each.text()}" for n, each in terminals.items())

    _until(
        lambda: any(each.has(shown, since=since[n]) for n, each in terminals.items()),
        f"these lines:\n{shown}",
        everything,
    )


def _is_log(line: str) -> bool:
    return _TIME.match(line) is not None or line.startswith(("INFO", "WARNING", "ERROR"))


def _pattern(line: str) -> re.Pattern[str]:
    """What a printed line must be: ``...`` is anything, and so is the time of a log line.

    How wide a column is depends on what stands in it: any number of spaces is like any other.
    """
    if _is_log(line):
        line = f"... {_TIME.sub('', line).strip()}"
    parts = _squeeze(_CLOCK.sub("...", line)).split("...")
    return re.compile(".*".join(re.escape(part) for part in parts))


def _squeeze(line: str) -> str:
    return re.sub(r"([ ─])\1+", r"\1", line.rstrip())


def _until(happened: Callable[[], bool], what: str, printed: Callable[[], str]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not happened():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited for {what}; there was:\n{printed()}")
        time.sleep(LOOK_AGAIN_SECONDS)
