"""Run one test on every kind of event loop: its own streams, uvloop's, and a loop like Windows'."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import pytest
import uvloop


class UnwatchingLoop(asyncio.SelectorEventLoop):
    """Refuses to watch sockets and signals, as the proactor of Windows does."""

    def add_reader(self, *_: object) -> NoReturn:
        raise NotImplementedError

    def remove_reader(self, *_: object) -> NoReturn:
        raise NotImplementedError

    def add_writer(self, *_: object) -> NoReturn:
        raise NotImplementedError

    def remove_writer(self, *_: object) -> NoReturn:
        raise NotImplementedError

    def add_signal_handler(self, *_: object) -> NoReturn:
        raise NotImplementedError

    # The selector loop's sock_accept and the like end their watching by the public methods.

    def _sock_read_done(self, fd: int, _done: object, handle: Any = None) -> None:
        if handle is None or not handle.cancelled():
            self._remove_reader(fd)  # type: ignore[attr-defined] # not in typeshed

    def _sock_write_done(self, fd: int, _done: object, handle: Any = None) -> None:
        if handle is None or not handle.cancelled():
            self._remove_writer(fd)  # type: ignore[attr-defined] # not in typeshed


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
    "unwatching": UnwatchingLoop,
}

DEADLINE_SECONDS = 30.0


def run_on(loop: str, test: Callable[[], Awaitable[None]]) -> None:
    """Run a test on one kind of loop. What the loop had to report is an error."""
    reports: list[str] = []

    async def guarded() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reports.append(f"{context.get('message')} {context}")
        )
        async with asyncio.timeout(DEADLINE_SECONDS):
            await test()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(guarded())
    assert reports == []


def on_every_loop(test: Callable[[], Awaitable[None]]) -> Callable[[str], None]:
    """Make a test of a coroutine function, run once on each kind of loop."""

    @pytest.mark.parametrize("loop", LOOPS)
    def run(loop: str) -> None:
        run_on(loop, test)

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run
