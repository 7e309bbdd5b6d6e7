"""From start to exit code: the event loop, the signals, and errors nobody waits for."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import NoReturn

from hybridge.protocol.errors import InvalidSetting

logger = logging.getLogger(__name__)

REPEAT_QUIET_SECONDS = 5.0
"""The same unhandled error of the event loop is logged once in this time."""

MAX_REMEMBERED_ERRORS = 64
"""Different unhandled errors that the limiter tells apart."""

MIDDLE_COLLECTIONS_BEFORE_FULL = 1_000
"""Collections of the middle generation before one of everything: some 7 million new containers that
nothing has freed, where Python's own default is 70,000."""

EVENT_LOOP_VARIABLE = "HYBRIDGE_EVENT_LOOP"
"""Environment variable that names the event loop: ``uvloop``, ``asyncio``, or nothing for uvloop
where it is installed. For all three programs alike; meant for measuring and for finding faults."""


class Lifetime:
    """What the outside asks of a running program."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        """Set by SIGTERM or SIGINT: take no new work, finish what runs, return."""

        self.on_reload: Callable[[], None] | None = None
        """Called on SIGHUP, in the event loop. Where it is None, SIGHUP asks to stop: the terminal
        was closed."""

    def stop(self) -> None:
        """Ask the program to end in order."""
        self.stopping.set()


def run(main: Callable[[Lifetime], Awaitable[None]]) -> int:
    """Run a program's ``main`` in a new event loop until it returns.

    SIGTERM and SIGINT ask it to end in order, a second one ends the process at once with exit
    code 1. uvloop is used where it is installed, unless `EVENT_LOOP_VARIABLE` says otherwise.

    Returns:
        The exit code 0.

    Raises:
        InvalidSetting: `EVENT_LOOP_VARIABLE` names no event loop, or one that is not installed.
        RelayError: ``main`` failed; `run_command` turns that into two lines.
    """
    choice = os.environ.get(EVENT_LOOP_VARIABLE, "").strip().lower()
    with _seldom_full_collections(), asyncio.Runner(loop_factory=_loop_factory(choice)) as runner:
        runner.run(_live(main))
    return 0


@contextlib.contextmanager
def _seldom_full_collections() -> Iterator[None]:
    """Let the garbage collector look at the young often, and seldom at everything.

    Looking at everything stops a relay with 7,000 connections for half a second, and by default it
    comes each time that their number has grown by a quarter. What is over is freed without it.
    """
    young, middle, full = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(young, middle, MIDDLE_COLLECTIONS_BEFORE_FULL)
    try:
        yield
    finally:
        gc.set_threshold(young, middle, full)
        gc.unfreeze()


def _loop_factory(choice: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if choice == "asyncio":
        return None
    if choice not in ("", "uvloop"):
        raise InvalidSetting(
            EVENT_LOOP_VARIABLE, f"{choice!r} is no event loop", hint="write asyncio or uvloop"
        )
    try:
        import uvloop
    except ImportError:
        if not choice:
            return None
        raise InvalidSetting(
            EVENT_LOOP_VARIABLE,
            "uvloop is not installed",
            hint="install hybridge[fast], or leave this variable out",
        ) from None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _live(main: Callable[[Lifetime], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    lifetime = Lifetime()

    def on_stop() -> None:
        if lifetime.stopping.is_set():
            _leave_at_once()
        lifetime.stop()

    def on_hang_up() -> None:
        if lifetime.on_reload is None:
            on_stop()
        else:
            lifetime.on_reload()

    # Not removed here: they must still answer while the loop shuts down, and it removes them.
    _handle(loop, "SIGTERM", on_stop)
    _handle(loop, "SIGINT", on_stop)
    _handle(loop, "SIGBREAK", on_stop)
    _handle(loop, "SIGHUP", on_hang_up)
    loop.set_exception_handler(ErrorLimiter(clock=time.monotonic))
    await main(lifetime)


def _handle(loop: asyncio.AbstractEventLoop, name: str, answer: Callable[[], None]) -> None:
    """Call ``answer`` in the loop on a signal, where this system has it."""
    number: signal.Signals | None = getattr(signal, name, None)
    if number is None:
        return
    try:
        loop.add_signal_handler(number, answer)
    except NotImplementedError:  # Windows

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            if loop.is_closed():
                _leave_at_once()
            loop.call_soon_threadsafe(answer)

        signal.signal(number, on_signal)


def _leave_at_once() -> NoReturn:
    # Not sys.exit: that would wait for whatever does not end.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(1)


class ErrorLimiter:
    """The event loop's exception handler: the same trouble is logged once in five seconds.

    Without descriptors asyncio's accept loop reports thousands of errors in seconds.
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: dict[tuple[object, type | None], tuple[float, int]] = {}

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        # Messages name single objects, by address; the words before the first number tell enough.
        message = str(context.get("message", "")).partition("0x")[0]
        kind = (message, type(error) if error is not None else None)
        now = self._clock()
        since, suppressed = self._last.get(kind, (None, 0))
        if since is not None and now - since < REPEAT_QUIET_SECONDS:
            self._last[kind] = (since, suppressed + 1)
            return
        if len(self._last) >= MAX_REMEMBERED_ERRORS:
            self._last.clear()
        self._last[kind] = (now, 0)
        if suppressed:
            logger.warning(
                "the next error came %d more times in %.0f s", suppressed, now - (since or now)
            )
        loop.default_exception_handler(context)
