"""The near end of the load generator: blocking sockets, so that a kernel call is all it costs."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from benchmarks.target import receive, send_pattern
from benchmarks.wire import DONE, Kind, Order, PatternCheck

DEADLINE_SECONDS = 60.0
"""A peer that does nothing for this long has failed."""

WARM_UP_ROUND_TRIPS = 100
"""Round trips that are made before those that count."""

Address = tuple[str, int]


class LoadFailed(Exception):
    """A peer did not carry what it was given."""


def dial(address: Address) -> socket.socket:
    """Connect, without Nagle's delay."""
    sock = socket.create_connection(address, timeout=DEADLINE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def bulk_down(address: Address, size: int, *, streams: int = 1) -> float:
    """Read ``size`` bytes in all, over ``streams`` connections at a time; give the seconds."""
    return _bulk(address, size, streams, Kind.DOWN)


def bulk_up(address: Address, size: int, *, streams: int = 1) -> float:
    """Send ``size`` bytes in all, until the target has read the last; give the seconds."""
    return _bulk(address, size, streams, Kind.UP)


def _bulk(address: Address, size: int, streams: int, kind: Kind) -> float:
    share = size // streams
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(open_echo(address, kind, share)) for _ in range(streams)]
        begin = threading.Barrier(streams + 1)

        def carry(sock: socket.socket) -> None:
            begin.wait()
            if kind is Kind.DOWN:
                complete = receive(sock, share)
            else:
                send_pattern(sock, share)
                complete = sock.recv(1) == DONE
            if not complete:
                raise LoadFailed("a bulk transfer was not complete")

        with ThreadPoolExecutor(streams) as pool:
            running = [pool.submit(carry, sock) for sock in socks]
            begin.wait()
            if kind is Kind.DOWN:
                started = _order_all(socks, Order(kind=kind, size=share))
            else:
                started = time.perf_counter()
            for each in running:
                each.result()
            return time.perf_counter() - started


def _order_all(socks: list[socket.socket], order: Order) -> float:
    started = time.perf_counter()
    for sock in socks:
        sock.sendall(order.serialize())
    return started


def open_echo(address: Address, kind: Kind = Kind.ECHO, size: int = 0) -> socket.socket:
    """Open a connection, and for an echo or an upload give its order.

    A download is ordered when the clock runs. Returns once the peer has taken the connection; an
    echo has answered one byte, so it is through.

    Raises:
        LoadFailed: The echo did not answer.
    """
    sock = dial(address)
    try:
        if kind is Kind.ECHO:
            sock.sendall(Order(kind=kind).serialize() + b"!")
            if sock.recv(1) != b"!":
                raise LoadFailed("a connection ended before its first byte")
        elif kind is not Kind.DOWN:
            sock.sendall(Order(kind=kind, size=size).serialize())
    except BaseException:
        sock.close()
        raise
    return sock


def is_through(address: Address) -> bool:
    """Tell whether a connection gets through to the target."""
    try:
        open_echo(address).close()
    except (OSError, LoadFailed):
        return False
    return True


def round_trips(address: Address, count: int, *, size: int = 64) -> list[float]:
    """Send ``size`` bytes and wait for them, ``count`` times; give the seconds of each."""
    message = bytes(size)
    answer = bytearray(size)
    seconds = []
    with open_echo(address) as sock:
        for turn in range(-WARM_UP_ROUND_TRIPS, count):
            started = time.perf_counter()
            sock.sendall(message)
            left = size
            while left:
                got = sock.recv_into(answer, left)
                if not got:
                    raise LoadFailed("a round trip broke off")
                left -= got
            if turn >= 0:
                seconds.append(time.perf_counter() - started)
    return seconds


def set_ups(address: Address, count: int) -> list[float]:
    """Open connections one after another; give the seconds from connect to the first byte back."""
    return [_set_up(address) for _ in range(count)]


def paced_set_ups(address: Address, count: int, *, every_seconds: float) -> list[float]:
    """Open a connection now and then, as people do; give the seconds of each."""
    seconds = []
    due = time.perf_counter()
    for _ in range(count):
        time.sleep(max(0.0, due - time.perf_counter()))
        seconds.append(_set_up(address))
        due += every_seconds
    return seconds


def _set_up(address: Address) -> float:
    started = time.perf_counter()
    with open_echo(address):
        return time.perf_counter() - started


def connections_per_second(address: Address, count: int, *, at_a_time: int) -> float:
    """Open and close ``count`` connections, ``at_a_time`` at a time; give how many a second."""
    with ThreadPoolExecutor(at_a_time) as pool:
        started = time.perf_counter()
        for _ in pool.map(lambda _: _set_up(address), range(count)):
            pass
        return count / (time.perf_counter() - started)


@contextlib.contextmanager
def idle_connections(address: Address, count: int, *, at_a_time: int = 8) -> Iterator[None]:
    """Hold ``count`` connections open that do nothing, after one byte each way."""
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(at_a_time) as pool:
        for sock in pool.map(lambda _: open_echo(address), range(count)):
            stack.enter_context(sock)
        yield


def stalled_download(address: Address, size: int, while_stalled: Callable[[], None]) -> bool:
    """Order bytes, read none during ``while_stalled``, then all; tell if they are right."""
    with dial(address) as sock:
        sock.sendall(Order(kind=Kind.DOWN, size=size).serialize())
        while_stalled()
        check = PatternCheck()
        return receive(sock, size, check) and check.is_right


def stalled_upload(
    address: Address, size: int, pause_seconds: float, while_stalled: Callable[[], None]
) -> bool:
    """Send ``size`` bytes to a target that first reads nothing; tell if they arrived right.

    ``while_stalled`` is called meanwhile, and has to come back within ``pause_seconds``.
    """
    order = Order(kind=Kind.CHECK, size=size, pause_ms=round(pause_seconds * 1_000))
    with dial(address) as sock, ThreadPoolExecutor(1) as pool:
        sock.settimeout(DEADLINE_SECONDS + pause_seconds)
        sock.sendall(order.serialize())
        sending = pool.submit(send_pattern, sock, size)
        while_stalled()
        sending.result()
        return sock.recv(1) == DONE
