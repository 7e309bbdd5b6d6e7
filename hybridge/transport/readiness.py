"""Wait until a socket can be read or written, where no stream drives it yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hybridge.transport.sockets import has_input, has_room

FIRST_LOOK_SECONDS = 0.001
"""How soon a socket is looked at again, on a loop that cannot watch it; then twice that."""

MAX_LOOK_SECONDS = 0.05
"""The longest time between two looks."""

_NO_DESCRIPTOR = 2**31 - 1

_known: dict[type[asyncio.AbstractEventLoop], bool] = {}


def has_readiness(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a loop can watch sockets: Windows' proactor cannot."""
    kind = type(loop)
    if kind not in _known:
        _known[kind] = _asked(loop)
    return _known[kind]


def _asked(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        # Nothing is registered under this number, so nothing happens.
        loop.remove_reader(_NO_DESCRIPTOR)
    except NotImplementedError:
        return False
    return True


async def wait_readable(fd: int) -> None:
    """Return when reading would not block. A deadline is the caller's."""
    loop = asyncio.get_running_loop()
    if not has_readiness(loop):
        await _look_until(has_input, fd)
        return
    ready = loop.create_future()
    loop.add_reader(fd, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


async def wait_writable(fd: int) -> None:
    """Return when writing would not block. A deadline is the caller's."""
    loop = asyncio.get_running_loop()
    if not has_readiness(loop):
        await _look_until(has_room, fd)
        return
    ready = loop.create_future()
    loop.add_writer(fd, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


async def _look_until(is_ready: Callable[[int], bool], fd: int) -> None:
    delay = FIRST_LOOK_SECONDS
    while not is_ready(fd):
        await asyncio.sleep(delay)
        delay = min(2 * delay, MAX_LOOK_SECONDS)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
