"""Take connections from listening sockets, never more than there is room for."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

from hybridge.transport.sockets import set_no_delay

_logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.5
"""How long accepting rests when the machine has no descriptor or memory left."""

WARN_SECONDS = 10.0
"""From one warning that there is no room to the next."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


async def accept_connections(
    sockets: Sequence[socket.socket],
    handle: Callable[[socket.socket], Awaitable[None]],
    *,
    max_connections: int,
    name: str,
    stopping: asyncio.Event,
) -> None:
    """Run ``handle`` for each connection, in a task of its own.

    When ``stopping`` is set, the sockets are closed and nothing more is accepted; this returns when
    the last connection has ended. Cancelled, it ends the connections too. Over ``max_connections``
    nothing is accepted: the kernel's backlog makes the next ones wait. The handler owns its socket.
    An exception that it lets through is logged, and ends that connection only.
    """
    acceptor = _Acceptor(handle, max_connections=max_connections, name=name)
    try:
        async with asyncio.TaskGroup() as tasks:
            accepting = [
                tasks.create_task(acceptor.accept(sock, tasks), name=f"{name} accept")
                for sock in sockets
            ]
            await stopping.wait()
            for task in accepting:
                task.cancel()
            give_back(sockets)
    finally:
        _close(sockets)


def give_back(sockets: Sequence[socket.socket]) -> None:
    """Close listening sockets now, also while connections are accepted from them.

    The loop forgets them at once: the next socket may get the number of a closed one. A task that
    is cancelled does that only in the loop's next turn, and takes what comes until then for a bug.
    """
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # The loop of Windows watches no descriptors.
        for sock in sockets:
            if sock.fileno() >= 0:
                loop.remove_reader(sock)
    _close(sockets)


def _close(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


class _Acceptor:
    def __init__(
        self,
        handle: Callable[[socket.socket], Awaitable[None]],
        *,
        max_connections: int,
        name: str,
    ) -> None:
        self._handle = handle
        self._max_connections = max_connections
        self._name = name
        self._room = asyncio.Semaphore(max_connections)
        self._loop = asyncio.get_running_loop()
        self._quiet_until = 0.0

    async def accept(self, listening: socket.socket, tasks: asyncio.TaskGroup) -> None:
        while True:
            if self._room.locked():
                self._warn(f"{self._max_connections} connections are open: the next ones wait")
            await self._room.acquire()
            sock: socket.socket | None = None
            try:
                sock, _ = await self._loop.sock_accept(listening)
                set_no_delay(sock)
            except OSError as error:
                # Of this one connection, or of the machine; never of the listening socket.
                if sock is not None:
                    sock.close()
                self._room.release()
                if listening.fileno() < 0:
                    return  # It was given back.
                if error.errno in _EXHAUSTED:
                    self._warn(f"cannot accept a connection now: {error.strerror}")
                    await asyncio.sleep(PAUSE_SECONDS)
                continue
            except BaseException:
                self._room.release()
                raise
            tasks.create_task(self._handled(sock), name=f"{self._name} connection")

    async def _handled(self, sock: socket.socket) -> None:
        try:
            await self._handle(sock)
        except Exception:
            _logger.exception("error in a connection", extra={"event": "bug"})
        finally:
            sock.close()
            self._room.release()

    def _warn(self, text: str) -> None:
        now = self._loop.time()
        if now >= self._quiet_until:
            self._quiet_until = now + WARN_SECONDS
            _logger.warning("%s", text, extra={"event": "no_room"})
