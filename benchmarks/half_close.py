"""Half-close: whether one direction of a connection can end while the other goes on."""

from __future__ import annotations

import secrets
import socket

from benchmarks.load import Address, dial
from benchmarks.target import send_pattern
from benchmarks.wire import COUNT, DONE, Kind, Order, PatternCheck

SIZE = 1_000_000
"""Bytes that have to come after the other direction has ended: more than sits in one buffer."""

DEADLINE_SECONDS = 5.0
"""A peer that passes no end of a stream on within this time does not pass it on."""


def near_ends_first(address: Address) -> bool:
    """End our side; tell whether the target sees it, and all that it then sends still comes."""
    try:
        with _connection(address, Order(kind=Kind.AFTER_END, size=SIZE)) as sock:
            sock.shutdown(socket.SHUT_WR)
            check = PatternCheck()
            buffer = memoryview(bytearray(65_536))
            while count := sock.recv_into(buffer):
                check.feed(buffer[:count])
            return check.is_right and check.position == SIZE
    except OSError:
        return False


def far_ends_first(address: Address) -> bool:
    """Let the target end its side; tell whether we see it, and it gets all that we then send."""
    number = secrets.randbits(63)
    try:
        with _connection(address, Order(kind=Kind.ENDS_FIRST, size=number)) as sock:
            if sock.recv(1) != DONE or sock.recv(1):
                return False
            send_pattern(sock, SIZE)
            sock.shutdown(socket.SHUT_WR)
            # Only for as long as the bytes take: what is closed now may be lost to a reset.
            with _connection(address, Order(kind=Kind.COUNTED, size=number)) as asking:
                answer = asking.recv(COUNT.size, socket.MSG_WAITALL)
    except OSError:
        return False
    return answer == COUNT.pack(SIZE)


def _connection(address: Address, order: Order) -> socket.socket:
    sock = dial(address)
    sock.settimeout(DEADLINE_SECONDS)
    sock.sendall(order.serialize())
    return sock
