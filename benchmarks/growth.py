"""How cost grows with the number of connections, and with the size of a message."""

from __future__ import annotations

import contextlib
import select
import socket
import statistics
import time
from dataclasses import dataclass

from benchmarks import load
from benchmarks.load import DEADLINE_SECONDS, LoadFailed
from benchmarks.memory import SETTLE_SECONDS
from benchmarks.peers import Running
from benchmarks.sizes import Sizes, Values

ROUND_TRIPS = 300
"""Of one small message, beside idle connections."""

MESSAGE_BYTES = 16_777_216
"""How many bytes the messages of one size have together, roughly."""

MOST_MESSAGES = 1_000
FEWEST_MESSAGES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One cost at several sizes."""

    key: str
    """Its values are `key` with ``@`` and the size."""

    title: str
    unit: str
    digits: int

    of: str
    """What the sizes count."""

    def at(self, size: int) -> str:
        """Give the key of the value at one size."""
        return f"{self.key}@{size}"


OPEN_CPU = Series(
    key="growth_open_cpu", title="CPU to open them", unit="ms", digits=1, of="connections"
)
MEMORY = Series(key="growth_memory", title="memory", unit="KiB", digits=0, of="connections")
BESIDE = Series(
    key="growth_beside",
    title="round trip 64 B beside them, p50",
    unit="µs",
    digits=0,
    of="connections",
)
MESSAGE = Series(
    key="growth_message", title="there and back, p50", unit="µs", digits=0, of="bytes a message"
)
MESSAGE_CPU = Series(
    key="growth_message_cpu",
    title="CPU there and back",
    unit="µs",
    digits=0,
    of="bytes a message",
)
SERIES = (OPEN_CPU, MEMORY, BESIDE, MESSAGE, MESSAGE_CPU)


def growth(peer: Running, sizes: Sizes) -> Values:
    """Measure all series."""
    with load.idle_connections(peer.address, 16):
        pass
    values: dict[str, float] = {}
    for count in sizes.growth_connections:
        values |= _connections(peer, count)
    for size in sizes.growth_messages:
        values |= _messages(peer, size)
    return values


def _connections(peer: Running, count: int) -> Values:
    meter = peer.meter
    descriptors = meter.descriptors()
    memory, cpu = sum(meter.resident_bytes().values()), meter.cpu_seconds()
    with load.idle_connections(peer.address, count):
        spent = meter.cpu_seconds() - cpu
        time.sleep(SETTLE_SECONDS)
        grown = sum(meter.resident_bytes().values()) - memory
        beside = load.round_trips(peer.address, ROUND_TRIPS)
    # What has not closed yet would be in the way of the next number.
    meter.settled_descriptors(descriptors)
    return {
        OPEN_CPU.at(count): spent * 1e3,
        MEMORY.at(count): grown / 1024,
        BESIDE.at(count): statistics.median(beside) * 1e6,
    }


def _messages(peer: Running, size: int) -> Values:
    count = max(FEWEST_MESSAGES, min(MOST_MESSAGES, MESSAGE_BYTES // size))
    message = memoryview(bytes(size))
    seconds = []
    with load.open_echo(peer.address) as sock:
        sock.setblocking(False)
        for _ in range(3):
            exchange(sock, message)
        cpu = peer.meter.cpu_seconds()
        for _ in range(count):
            started = time.perf_counter()
            exchange(sock, message)
            seconds.append(time.perf_counter() - started)
        spent = peer.meter.cpu_seconds() - cpu
    return {
        MESSAGE.at(size): statistics.median(seconds) * 1e6,
        MESSAGE_CPU.at(size): spent / count * 1e6,
    }


def exchange(sock: socket.socket, message: memoryview) -> None:
    """Send a message on a non-blocking socket while reading it back, whatever its size.

    Raises:
        LoadFailed: The connection ended, or nothing moved for `DEADLINE_SECONDS`.
    """
    buffer = bytearray(len(message))
    unsent, missing = message, len(message)
    while missing:
        with contextlib.suppress(BlockingIOError):
            if unsent:
                unsent = unsent[sock.send(unsent) :]
        with contextlib.suppress(BlockingIOError):
            count = sock.recv_into(buffer, missing)
            if not count:
                raise LoadFailed("a connection ended in the middle of a message")
            missing -= count
            continue
        ready = select.select([sock], [sock] if unsent else [], [], DEADLINE_SECONDS)
        if not any(ready):
            raise LoadFailed(f"a message stood still for {DEADLINE_SECONDS:g} s")
