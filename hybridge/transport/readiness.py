"""Wait until a socket can be read or written, where no stream drives it yet."""

from __future__ import annotations

import asyncio


async def wait_readable(fd: int) -> None:
    """Return when reading would not block. A deadline is the caller's."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(fd, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


async def wait_writable(fd: int) -> None:
    """Return when writing would not block. A deadline is the caller's."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(fd, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
