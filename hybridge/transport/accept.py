"""Take connections from listening sockets, never more than there is room for."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

from hybridge.transport.tcp import set_no_delay

_logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.5
"""How long accepting rests when the machine has no descriptor or memory left."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


async def accept_connections(
    sockets: Sequence[socket.socket],
    handle: Callable[[socket.socket], Awaitable[None]],
    *,
    max_connections: int,
    name: str,
) -> None:
    """Run ``handle`` for each connection, in a task of its own, until cancelled.

    Over ``max_connections`` nothing is accepted: the kernel's backlog makes the next ones wait.
    The handler owns its socket. An exception that it lets through is logged, and ends that
    connection only.
    """
    room = asyncio.Semaphore(max_connections)

    async with asyncio.TaskGroup() as tasks:

        async def handled(sock: socket.socket) -> None:
            try:
                await handle(sock)
            except Exception:
                _logger.exception("error in a connection", extra={"event": "connection_error"})
            finally:
                sock.close()
                room.release()

        async def accept(listening: socket.socket) -> None:
            loop = asyncio.get_running_loop()
            while True:
                if room.locked():
                    _logger.warning(
                        "%d connections are open, which is all that fit: the next ones wait",
                        max_connections,
                    )
                await room.acquire()
                try:
                    sock, _ = await loop.sock_accept(listening)
                except OSError as error:
                    room.release()
                    if error.errno in _EXHAUSTED:
                        _logger.warning("cannot accept a connection now: %s", error.strerror)
                        await asyncio.sleep(PAUSE_SECONDS)
                    elif listening.fileno() < 0:
                        return
                    continue
                except BaseException:
                    room.release()
                    raise
                set_no_delay(sock)
                tasks.create_task(handled(sock), name=f"{name} connection")

        for listening in sockets:
            tasks.create_task(accept(listening), name=f"{name} accept")
