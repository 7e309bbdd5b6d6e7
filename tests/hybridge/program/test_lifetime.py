from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys

import pytest

from hybridge.program import lifetime
from hybridge.program.lifetime import (
    MAX_REMEMBERED_ERRORS,
    MIDDLE_COLLECTIONS_BEFORE_FULL,
    ErrorLimiter,
    Lifetime,
)
from hybridge.protocol.errors import InvalidSetting, Unreachable
from tests.support.loops import UnwatchingLoop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_to_stop_and_the_exit_code_is_0(number: signal.Signals) -> None:
    async def main(life: Lifetime) -> None:
        os.kill(os.getpid(), number)
        await life.stopping.wait()

    assert lifetime.run(main) == 0


def test_a_main_that_ends_by_itself_is_exit_code_0() -> None:
    async def main(life: Lifetime) -> None:
        assert not life.stopping.is_set()

    assert lifetime.run(main) == 0


def test_everything_is_looked_at_seldom_while_a_program_runs_and_as_before_afterwards() -> None:
    before = gc.get_threshold()

    async def main(life: Lifetime) -> None:
        assert gc.get_threshold() == (*before[:2], MIDDLE_COLLECTIONS_BEFORE_FULL)
        assert gc.get_freeze_count()

    lifetime.run(main)

    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_a_second_signal_ends_the_process_at_once_with_1() -> None:
    code = """
import asyncio, os, signal
from hybridge.program import lifetime

async def main(life):
    os.kill(os.getpid(), signal.SIGTERM)
    await life.stopping.wait()
    print("stopping", end="")
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.Event().wait()

lifetime.run(main)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30)  # noqa: S603

    assert (ended.returncode, ended.stdout, ended.stderr) == (1, b"stopping", b"")


def test_sighup_reloads() -> None:
    calls: list[str] = []

    async def main(life: Lifetime) -> None:
        def on_reload() -> None:
            calls.append("reload")
            life.stop()

        life.on_reload = on_reload
        os.kill(os.getpid(), signal.SIGHUP)
        await life.stopping.wait()

    assert lifetime.run(main) == 0
    assert calls == ["reload"]


def test_sighup_stops_a_program_that_cannot_reload() -> None:
    async def main(life: Lifetime) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        await life.stopping.wait()

    assert lifetime.run(main) == 0


def test_an_error_of_main_reaches_the_caller() -> None:
    async def main(life: Lifetime) -> None:
        raise Unreachable("no")

    with pytest.raises(Unreachable):
        lifetime.run(main)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_repeated_loop_error_is_logged_once_in_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    limiter = ErrorLimiter(clock=clock)
    loop = asyncio.get_running_loop()

    for number in range(1_000):
        limiter(loop, {"message": f"out of resource on 0x{number:x}", "exception": OSError(24)})
    limiter(loop, {"message": "something else"})
    assert len(caplog.records) == 2

    clock.now = 6.0
    limiter(loop, {"message": "out of resource on 0x1", "exception": OSError(24)})
    assert [record.levelno for record in caplog.records[2:]] == [logging.WARNING, logging.ERROR]
    assert "999 more times" in caplog.records[2].getMessage()


async def test_what_the_limiter_remembers_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    limiter = ErrorLimiter(clock=Clock())

    for number in range(MAX_REMEMBERED_ERRORS * 2):
        limiter(asyncio.get_running_loop(), {"message": f"error {number}"})

    assert len(caplog.records) == MAX_REMEMBERED_ERRORS * 2
    assert len(limiter._last) <= MAX_REMEMBERED_ERRORS


@pytest.mark.parametrize(("choice", "module"), [("asyncio", "asyncio"), ("UVLOOP", "uvloop")])
def test_the_environment_names_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, choice: str, module: str
) -> None:
    monkeypatch.setenv(lifetime.EVENT_LOOP_VARIABLE, choice)
    seen: list[str] = []

    async def main(life: Lifetime) -> None:
        seen.append(type(asyncio.get_running_loop()).__module__.partition(".")[0])

    lifetime.run(main)

    assert seen == [module]


def test_an_event_loop_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lifetime.EVENT_LOOP_VARIABLE, "twisted")

    async def main(life: Lifetime) -> None:
        raise AssertionError("not reached")

    with pytest.raises(InvalidSetting, match="'twisted' is no event loop"):
        lifetime.run(main)


def test_uvloop_that_is_wanted_and_absent_is_an_error_and_else_asyncio_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    seen: list[str] = []

    async def main(life: Lifetime) -> None:
        seen.append(type(asyncio.get_running_loop()).__module__.partition(".")[0])

    monkeypatch.delenv(lifetime.EVENT_LOOP_VARIABLE, raising=False)
    lifetime.run(main)
    monkeypatch.setenv(lifetime.EVENT_LOOP_VARIABLE, "uvloop")
    with pytest.raises(InvalidSetting, match="uvloop is not installed"):
        lifetime.run(main)

    assert seen == ["asyncio"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_heard_on_a_loop_that_takes_no_handlers(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(life: Lifetime) -> None:
        os.kill(os.getpid(), number)
        await life.stopping.wait()

    known = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    before = [signal.getsignal(each) for each in known]
    monkeypatch.setattr(lifetime, "_loop_factory", lambda _: UnwatchingLoop)
    try:
        assert lifetime.run(main) == 0
    finally:
        for each, handler in zip(known, before, strict=True):
            signal.signal(each, handler)


def test_a_system_without_sighup_can_still_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(life: Lifetime) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await life.stopping.wait()

    monkeypatch.delattr(signal, "SIGHUP")

    assert lifetime.run(main) == 0
