"""Small requests over many connections at once, from one loop on bare descriptors.

A thread for each connection would spend its time on the interpreter's lock.
"""

from __future__ import annotations

import contextlib
import os
import select
import time

from benchmarks.load import DEADLINE_SECONDS, Address, LoadFailed, open_echo

WARM_UP = 0.1
"""Share of the requests that is made before those that count."""


def requests_per_second(
    address: Address, count: int, *, connections: int = 32, size: int = 64
) -> float:
    """Send ``count`` requests, one at a time on each connection; give how many a second.

    Raises:
        LoadFailed: A connection ended, or nothing came for `DEADLINE_SECONDS`.
    """
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(select.epoll())
        left: dict[int, int] = {}
        for _ in range(connections):
            sock = stack.enter_context(open_echo(address))
            sock.setblocking(False)
            left[sock.fileno()] = size
            loop.register(sock.fileno(), select.EPOLLIN)
        message = bytes(size)
        for descriptor in left:
            os.write(descriptor, message)
        _answer(loop, left, message, max(connections, int(count * WARM_UP)))
        started = time.perf_counter()
        answered = _answer(loop, left, message, count)
        return answered / (time.perf_counter() - started)


def _answer(loop: select.epoll, left: dict[int, int], message: bytes, count: int) -> int:
    """Take answers, sending the next request after each, until ``count`` have come."""
    answered = 0
    size = len(message)
    while answered < count:
        ready = loop.poll(DEADLINE_SECONDS)
        if not ready:
            raise LoadFailed(f"no answer for {DEADLINE_SECONDS:g} s")
        for descriptor, _ in ready:
            missing = left[descriptor]
            got = len(os.read(descriptor, missing))
            if not got:
                raise LoadFailed("a connection ended between requests")
            if got < missing:
                left[descriptor] = missing - got
                continue
            left[descriptor] = size
            answered += 1
            # Nothing else is on its way, so there is always room.
            os.write(descriptor, message)
    return answered
