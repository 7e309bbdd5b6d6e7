"""Hear that the application has given up, while its bytes must still be left alone.

Until the relay has answered, nothing may be read from the application's socket: what it sends, and
its half-close, belong to the connection that is being made. So reading cannot tell a reset. An
epoll that is asked for no event still reports errors and hang-ups, and an event loop can watch it.

Only Linux has epoll; elsewhere a reset is noticed when the relay has answered.
"""

from __future__ import annotations

import asyncio
import select
import socket
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self


class ResetWatch:
    """While entered, calls ``on_reset`` once if the peer of a socket resets the connection."""

    def __init__(self, sock: socket.socket, on_reset: Callable[[], None]) -> None:
        self._sock = sock
        self._on_reset = on_reset
        self.was_reset = False

    if sys.platform == "linux":

        def __enter__(self) -> Self:
            self._epoll = select.epoll()
            self._epoll.register(self._sock.fileno(), select.EPOLLERR | select.EPOLLHUP)
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._heard)
            return self

        def __exit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            trace: TracebackType | None,
        ) -> None:
            if not self._epoll.closed:
                self._stop()

        def _heard(self) -> None:
            if self._epoll.poll(0):
                self.was_reset = True
                self._stop()
                self._on_reset()

        def _stop(self) -> None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()

    else:

        def __enter__(self) -> Self:
            return self

        def __exit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            trace: TracebackType | None,
        ) -> None:
            return
