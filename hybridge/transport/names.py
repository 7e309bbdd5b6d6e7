"""The addresses of a host: looked up in threads for which nobody waits at the end.

The system's resolver cannot be interrupted, and takes half a minute where DNS does not answer. The
event loop's own threads would keep other names waiting meanwhile, there are few of them, and the
program from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import queue
import socket
import threading
from collections.abc import Callable, Collection, Sequence

from hybridge.protocol.errors import TargetRefused

MAX_THREADS = 64
"""Names that are looked up at a time in the process; further ones wait."""

AddressInfo = tuple[
    socket.AddressFamily,
    socket.SocketKind,
    int,
    str,
    tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes],
]
"""What `socket.getaddrinfo` gives for each address."""

Admit = Callable[[Collection[str]], Collection[str]]
"""Chooses which of a name's addresses may be used; raises a `RelayError` where it is none."""


async def resolve(
    host: str, port: int, kind: socket.SocketKind, *, admit: Admit | None = None
) -> Sequence[AddressInfo]:
    """Give the addresses of a host, as `socket.getaddrinfo` does, or those that ``admit`` chooses.

    A deadline is the caller's.

    Raises:
        TargetRefused: The name is unknown.
    """
    found: Sequence[AddressInfo]
    try:
        if is_address(host):
            found = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_NUMERICHOST)
        else:
            found = await look_up(host, port, kind)
    except (socket.gaierror, ValueError) as error:
        raise TargetRefused(
            f"the name {host!r} cannot be resolved",
            hint="check the name, and the DNS of the machine that this runs on",
        ) from error
    if admit is None:
        return found
    # In their order, each once.
    admitted = admit(list(dict.fromkeys(str(each[4][0]) for each in found)))
    return [each for each in found if each[4][0] in admitted]


def is_address(host: str) -> bool:
    """Whether a host is an IP address, for which nothing need be looked up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def look_up(host: str, port: int, kind: socket.SocketKind) -> Sequence[AddressInfo]:
    """Ask the system for a name's addresses.

    Raises:
        OSError: What `socket.getaddrinfo` raises.
        ValueError: The name cannot be one.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Sequence[AddressInfo]] = loop.create_future()

    def settle(found: Sequence[AddressInfo] | Exception) -> None:
        if answer.done():
            return  # Nobody waits any more.
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def work() -> None:
        if answer.done():
            return
        found: Sequence[AddressInfo] | Exception
        try:
            found = socket.getaddrinfo(host, port, type=kind)
        except (OSError, ValueError) as error:
            found = error
        with contextlib.suppress(RuntimeError):  # The loop has closed.
            loop.call_soon_threadsafe(settle, found)

    _threads.submit(work)
    return await answer


class _Threads:
    """At most `MAX_THREADS`, started when they are needed; the process ends without them."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._count = 0

    def submit(self, job: Callable[[], None]) -> None:
        self._jobs.put(job)
        if not self._idle.acquire(blocking=False) and self._count < MAX_THREADS:
            self._count += 1
            threading.Thread(target=self._run, name=f"names {self._count}", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._jobs.get()()
            self._idle.release()


_threads = _Threads()
