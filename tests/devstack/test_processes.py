"""Child processes are read, waited for, and ended with everything they started."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import psutil
import pytest

from devstack import processes
from devstack.processes import Process, ProcessFailed

if TYPE_CHECKING:
    from _typeshed import TraceFunction


def python(script: str, *, name: str = "child") -> Process:
    return Process(name, [sys.executable, "-u", "-c", script], environment=dict(os.environ))


def test_a_line_is_waited_for_on_either_output() -> None:
    script = (
        "import sys, time; print('out 1'); print('err 2', file=sys.stderr); sys.stdin.read(); "
        "time.sleep(60)"
    )

    with python(script) as child:
        first = child.wait_for("out", lambda line: line[4:] or None, timeout_seconds=20)
        second = child.wait_for(
            "err", lambda line: line[4:] if line.startswith("err") else None, timeout_seconds=20
        )

    assert (first, second) == ("1", "2")


def test_only_lines_after_the_given_position_count() -> None:
    with python("print('a'); print('a'); print('b'); input()") as child:
        child.wait_for("b", lambda line: line == "b" or None, timeout_seconds=20)

        with pytest.raises(ProcessFailed):
            child.wait_for("a", lambda line: line == "a" or None, timeout_seconds=20, since=2)


def test_an_early_end_is_reported_with_its_exit_code_and_last_lines() -> None:
    with (
        python("print('cannot bind'); raise SystemExit(3)", name="relay") as child,
        pytest.raises(
            ProcessFailed, match=r"^relay: ended before it listens \(exit code 3\)$"
        ) as caught,
    ):
        child.wait_for("it listens", lambda line: None, timeout_seconds=20)

    assert caught.value.last_lines == ("cannot bind",)


def test_a_wait_ends_at_its_deadline() -> None:
    with (
        python("import time; print('alive'); time.sleep(60)", name="hcm") as child,
        pytest.raises(ProcessFailed, match=r"^hcm: an event did not come within 0\.2 s$"),
    ):
        child.wait_for("an event", lambda line: None, timeout_seconds=0.2)


def test_a_program_that_does_not_exist_is_an_error_not_a_traceback() -> None:
    child = Process("ghost", ["/nonexistent/ghost"], environment={})

    with pytest.raises(ProcessFailed, match="ghost does not start: /nonexistent/ghost: No such"):
        child.__enter__()


def test_the_end_of_the_block_ends_what_the_process_started_too() -> None:
    script = (
        "import subprocess, sys\n"
        "command = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "print('grandchild', subprocess.Popen(command).pid)\n"
        "sys.stdin.read(); import time; time.sleep(600)"
    )

    with python(script) as child:
        grandchild = child.wait_for(
            "a process id",
            lambda line: int(line.split()[1]) if line.startswith("grandchild") else None,
            timeout_seconds=20,
        )

    psutil.wait_procs([p for p in psutil.process_iter() if p.pid == grandchild], timeout=30)
    assert child.exit_code is not None
    assert child.exit_code < 0
    assert not psutil.pid_exists(grandchild) or (
        psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE
    )


def test_a_process_that_ignores_the_request_to_end_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.2)
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); "
        "time.sleep(600)"
    )

    with python(script) as child:
        child.wait_for("deaf", lambda line: line == "deaf" or None, timeout_seconds=20)
        asked_at = time.monotonic()

    assert child.exit_code == -9
    assert time.monotonic() - asked_at < 30


class Interrupted(BaseException):
    """What a signal handler may raise between any two steps of the main thread."""


@contextmanager
def interrupted_after(steps: int) -> Iterator[None]:
    """Raise `Interrupted` once this many steps have been taken below the block."""

    def trace(frame: FrameType, event: str, _: object) -> TraceFunction:
        nonlocal steps
        steps -= 1
        if steps == 0:
            raise Interrupted
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("first", range(1, 40, 10))
def test_an_interruption_at_any_step_of_a_wait_leaves_an_end_that_comes(first: int) -> None:
    command = ["/bin/sh", "-c", "while echo tick; do sleep 0.005; done"]
    for steps in range(first, first + 10):
        with Process("ticker", command, environment={}) as child:
            child.wait_for("a line", lambda line: line, timeout_seconds=20)
            with pytest.raises(Interrupted), interrupted_after(steps):
                child.wait_for("what never comes", lambda line: None, timeout_seconds=20)
        assert child.exit_code is not None


def test_more_output_than_is_kept_does_not_block_the_process() -> None:
    with python("[print('x' * 99) for _ in range(20_000)]; print('done')") as child:
        child.wait_for("done", lambda line: line == "done" or None, timeout_seconds=30)

        assert child.line_count == 20_001
        assert len(child.last_lines) == processes.SHOWN_LINES
