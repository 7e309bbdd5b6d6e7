"""Hear that the application has given up, while its bytes must still be left alone.

Until the relay has answered, nothing may be read from the application's socket: what it sends, and
its half-close, belong to the connection that is being made. So reading cannot tell a reset. An
epoll that is asked for no event still reports errors and hang-ups, and an event loop can watch it.

A Unix socket is left alone: there a hang-up is also how an application ends in order that sends its
last words and does not wait for an answer.

Only Linux has epoll; elsewhere, and on an event loop that cannot watch it, a reset is noticed when
the relay has answered.
"""

from __future__ import annotations

import asyncio
import select
import socket
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self

from hybridge.transport.readiness import has_readiness

LOOK_AFTER_SECONDS = 0.05
"""Nearly every answer comes sooner; until then nobody looks, as looking costs time too."""


class ResetWatch:
    """While entered, calls ``on_reset`` once if the peer of a socket resets the connection."""

    def __init__(self, sock: socket.socket, on_reset: Callable[[], None]) -> None:
        self._sock = sock
        self._on_reset = on_reset
        self.was_reset = False
        self._epoll: select.epoll | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        is_tcp = self._sock.family in (socket.AF_INET, socket.AF_INET6)
        if sys.platform == "linux" and is_tcp and has_readiness(loop):
            self._timer = loop.call_later(LOOK_AFTER_SECONDS, self._look)
        return self

    def _look(self) -> None:
        self._epoll = select.epoll()
        self._epoll.register(self._sock.fileno(), select.EPOLLERR | select.EPOLLHUP)
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._heard)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _heard(self) -> None:
        if self._epoll is not None and self._epoll.poll(0):
            self.was_reset = True
            self._stop()
            self._on_reset()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        epoll, self._epoll = self._epoll, None
        if epoll is not None:
            asyncio.get_running_loop().remove_reader(epoll.fileno())
            epoll.close()
