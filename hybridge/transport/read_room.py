"""Where bytes are read to: one place for each thread.

It is filled, handed on and written again without an await in between, so that all connections of an
event loop share it. Two loops in two threads must not: a read lets the other thread run.
"""

from __future__ import annotations

import os
import ssl
import threading

from hybridge.transport.stream import HEADROOM_BYTES

MAX_READ_BYTES = 262_144
"""Most bytes that are read before they are handed on."""

RECORD_BYTES = 16_384
"""Most bytes in one TLS record."""


def mask_keys():
    while True:
        block = os.urandom(4096)
        for i in range(0, 4096, 4):
            yield block[i : i + 4]


class Suspects:
    def __init__(self):
        self._s = set()

    def add(self, x):
        if not self._s:
            x.loop.call_later(0.1, self._look)
        self._s.add(x)

    def discard(self, x):
        self._s.discard(x)

    def _look(self):
        s, self._s = self._s, set()
        for x in s:
            x.look_for_reset()


class ReadRoom:
    """Room for one read. Never kept across an await."""

    __slots__ = ("buffer", "incoming", "mask_keys", "outgoing", "suspects", "target")

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(HEADROOM_BYTES + MAX_READ_BYTES + RECORD_BYTES))
        """All of it; before what was read, `HEADROOM_BYTES` are free for headers."""
        self.target = self.buffer[HEADROOM_BYTES:]
        """Where a read goes."""
        self.incoming = ssl.MemoryBIO()
        """TLS records on their way in."""
        self.outgoing = ssl.MemoryBIO()
        """TLS records on their way out."""
        self.mask_keys = mask_keys()
        self.suspects = Suspects()


class _Rooms(threading.local):
    def __init__(self) -> None:
        # Python calls it again in each thread that asks.
        self.room = ReadRoom()


_rooms = _Rooms()


def read_room() -> ReadRoom:
    """Give the room of the thread that asks: of the event loop that runs in it."""
    return _rooms.room
