"""What all connections of an event loop share, so that none of them has it for itself while idle.

Bytes are read, handed on and written again without an await in between: one place to read to, and
one for TLS records, serve them all. Two loops in two threads must not share them: a read lets the
other thread run. So each thread has its own.
"""

from __future__ import annotations

import ssl
import threading

from hybridge.protocol.mask import mask_keys
from hybridge.transport.late_resets import LateResets
from hybridge.transport.stream import HEADROOM_BYTES

MAX_READ_BYTES = 262_144
"""Most bytes that are read before they are handed on."""

RECORD_BYTES = 16_384
"""Most bytes in one TLS record."""


class LoopRoom:
    """Room for one read, and more that need not be there for each connection."""

    __slots__ = ("buffer", "incoming", "late_resets", "mask_keys", "outgoing", "target")

    def __init__(self) -> None:
        # Of an earlier read, TLS may still have a record that was not whole.
        size = HEADROOM_BYTES + MAX_READ_BYTES + RECORD_BYTES
        self.buffer = memoryview(bytearray(size))
        """Before what was read, `HEADROOM_BYTES` are free for headers. Not kept across an await."""
        self.target = self.buffer[HEADROOM_BYTES:]
        """Where a read goes."""
        self.incoming = ssl.MemoryBIO()
        """TLS records on their way in. Whoever puts some there takes all of them out."""
        self.outgoing = ssl.MemoryBIO()
        """TLS records on their way out. Whoever puts some there takes all of them out."""
        self.mask_keys = mask_keys()
        """Keys for frames that a client sends."""
        self.late_resets = LateResets()


class _Rooms(threading.local):
    def __init__(self) -> None:
        # Python calls it again in each thread that asks.
        self.room = LoopRoom()


_rooms = _Rooms()


def loop_room() -> LoopRoom:
    """Give the room of the thread that asks: of the event loop that runs in it."""
    return _rooms.room
