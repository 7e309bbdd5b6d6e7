"""Child processes that are started, read and ended with certainty.

A `Process` has a process group of its own, so that nothing it starts outlives it and a Ctrl-C at
the terminal reaches only us; its output is read all the time, so that it never blocks on a full
pipe and its last lines are there to show when it fails.

An exception may come out of a signal handler between any two steps of the main thread, also where
it has just taken a lock and not yet noted that it must give it back. So the main thread and the one
that reads share no lock of Python's: single values, each written by one of them, and a queue of C.
"""

from __future__ import annotations

import _thread
import collections
import contextlib
import os
import queue
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

from hybridge.protocol.errors import RelayError

KEPT_LINES = 2_000
"""How many lines of a process's output are kept; older ones are forgotten."""

SHOWN_LINES = 12
"""How many of them an error shows."""

STOP_SECONDS = 5.0
"""How long a process may take to end after it was asked to, before it is killed."""

LOOK_AGAIN_SECONDS = 0.25
"""How long it takes at most to see news that another waiter was told of."""

T = TypeVar("T")


class ProcessFailed(RelayError):
    """A child process could not start, ended early, or did not do in time what it was started for.

    The message is one line; `last_lines` is what the process said last.
    """

    def __init__(self, message: str, *, last_lines: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.last_lines = tuple(last_lines)


class Process:
    """One child process, from start to end of the ``with`` block.

    Args:
        name: What errors call it.
        command: Program and arguments. No secrets: everybody on the machine can read them.
        environment: The whole environment of the process.
        user: Run as this user id, and as `group`; None keeps ours.
        group: Group id that belongs to `user`.
        stop_signal: Sent to the process when the block ends; SIGKILL follows to the whole group.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        user: int | None = None,
        group: int | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self._command = list(command)
        self._environment = dict(environment)
        self._user = user
        self._group = group
        self._stop_signal = stop_signal
        # Written by the reading thread only.
        self._lines: collections.deque[tuple[int, str]] = collections.deque(maxlen=KEPT_LINES)
        self._is_settled = False
        self._output_ended = False
        self._start_error: OSError | None = None
        self._process: subprocess.Popen[str] | None = None
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()
        # Written by the main thread only.
        self._is_entered = False

    def __enter__(self) -> Self:
        # Started in a thread of its own: Python handles signals in the main thread only, so a
        # Ctrl-C cannot come between the start and our knowing of it.
        self._is_entered = True
        try:
            _thread.start_new_thread(self._run, ())
            self._wait_until(lambda: self._is_settled, timeout_seconds=None)
        except BaseException:
            self.stop()
            raise
        if self._start_error is not None:
            problem = self._start_error.strerror or self._start_error
            raise ProcessFailed(
                f"{self.name} does not start: {self._command[0]}: {problem}"
            ) from self._start_error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id, which is also that of its group."""
        return self._started().pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._started().poll()

    @property
    def line_count(self) -> int:
        """How many lines it has written so far: a position for `wait_for`."""
        return self._lines[-1][0] + 1 if self._lines else 0

    @property
    def last_lines(self) -> list[str]:
        """The end of its output, at most `SHOWN_LINES` lines."""
        return [line for _, line in list(self._lines)[-SHOWN_LINES:]]

    def lines_since(self, position: int) -> list[str]:
        """The lines written after `position`, as far as they are kept."""
        return [line for _, line in self._numbered_since(position)]

    def wait_for(
        self,
        what: str,
        find: Callable[[str], T | None],
        *,
        timeout_seconds: float,
        since: int = 0,
    ) -> T:
        """Wait for a line of output, and give what `find` makes of it.

        Args:
            what: The thing waited for, as errors say it: "a listening address".
            find: Called with each line; None means "not this one".
            timeout_seconds: How long to wait.
            since: Look only at lines after this `line_count`.

        Raises:
            ProcessFailed: The process ended first, or the time is over.
        """
        deadline = time.monotonic() + timeout_seconds
        position = since
        while True:
            # Asked first: there are no lines then but those that are there already.
            ended = self._output_ended
            lines = self._numbered_since(position)
            for number, line in lines:
                position = number + 1
                found = find(line)
                if found is not None:
                    return found
            rest = deadline - time.monotonic()
            if ended and not lines:
                raise self.failure(f"ended before {what}")
            if rest <= 0:
                raise self.failure(f"{what} did not come within {timeout_seconds:g} s")
            if not lines:
                self._wait_for_news(rest)

    def _numbered_since(self, position: int) -> list[tuple[int, str]]:
        return [entry for entry in list(self._lines) if entry[0] >= position]

    def failure(self, problem: str) -> ProcessFailed:
        """An error that names this process, its exit code if it has one, and its last lines."""
        process = self._process
        if process is not None and self._output_ended:
            # Its output has ended, so it is about to end itself, if it has not yet.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=STOP_SECONDS)
        if process is not None and process.poll() is not None:
            self._wait_until(lambda: self._output_ended, timeout_seconds=STOP_SECONDS)
            problem = f"{problem} (exit code {process.returncode})"
        hint = "its last lines stand above" if self.last_lines else ""
        return ProcessFailed(f"{self.name}: {problem}", last_lines=self.last_lines, hint=hint)

    def terminate(self) -> None:
        """Ask it to end, and return at once; `stop` waits."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self._stop_signal)

    def wait(self, *, timeout_seconds: float) -> int:
        """Wait for its end, and give the exit code.

        Raises:
            ProcessFailed: It still runs when the time is over.
        """
        try:
            return self._started().wait(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            raise self.failure(f"still runs after {timeout_seconds:g} s") from None

    def stop(self) -> None:
        """End it and everything that it started: ask, wait `STOP_SECONDS`, then kill."""
        if not self._is_entered:
            return
        self._wait_until(lambda: self._is_settled, timeout_seconds=STOP_SECONDS)
        if self._process is not None:
            self.terminate()
            try:
                self._process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                pass
            finally:
                self._kill_group()
                self._process.wait()
            self._wait_until(lambda: self._output_ended, timeout_seconds=STOP_SECONDS)
        self._is_entered = False

    def _kill_group(self) -> None:
        try:
            os.killpg(self._started().pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # Nobody is left.

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise ProcessFailed(f"{self.name} was not started")
        return self._process

    def _wait_until(self, happened: Callable[[], bool], *, timeout_seconds: float | None) -> None:
        """Wait for what the reading thread does; return also when the time is over."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while not happened():
            rest = LOOK_AGAIN_SECONDS if deadline is None else deadline - time.monotonic()
            if rest <= 0:
                return
            self._wait_for_news(rest)

    def _wait_for_news(self, seconds: float) -> None:
        with contextlib.suppress(queue.Empty):
            self._news.get(timeout=min(seconds, LOOK_AGAIN_SECONDS))

    def _tell(self) -> None:
        # One piece of news is enough to make the other thread look.
        if self._news.empty():
            self._news.put(None)

    def _run(self) -> None:
        try:
            self._process = process = subprocess.Popen(  # noqa: S603 - our own programs, no shell
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
                # Another user may not be allowed to look at our working directory.
                cwd=None if self._user is None else "/",
                user=self._user,
                group=self._group,
                extra_groups=None if self._user is None else (),
            )
        except OSError as error:
            self._start_error = error
            return
        finally:
            self._is_settled = True
            self._tell()
        output = process.stdout
        try:
            for number, line in enumerate(output or ()):
                self._lines.append((number, line.rstrip("\n")))
                self._tell()
        finally:
            if output is not None:
                output.close()
            self._output_ended = True
            self._tell()
