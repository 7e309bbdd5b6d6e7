"""What the two ends of the load generator say to each other: one order per connection."""

from __future__ import annotations

import enum
import random
import struct
from dataclasses import dataclass
from typing import Self

READ_BYTES = 262_144
"""Most bytes of one read or write of the load generator."""

_FORMAT = struct.Struct(">cQI")

ORDER_BYTES = _FORMAT.size
"""Length of an order on the wire."""


class Kind(enum.Enum):
    """What the target does with a connection."""

    ECHO = b"E"
    """Sends back all that comes."""

    DOWN = b"D"
    """Sends a number of bytes of the pattern."""

    UP = b"U"
    """Reads a number of bytes, then answers `DONE`."""

    CHECK = b"C"
    """As UP, and compares them with the pattern: answers `DONE` or `WRONG`."""

    AFTER_END = b"A"
    """Reads to the end of the stream, and only then sends a number of bytes of the pattern."""

    ENDS_FIRST = b"F"
    """Sends `DONE` and the end of its stream, then counts what still comes, under the number."""

    COUNTED = b"R"
    """Answers what `ENDS_FIRST` counted under the number, as `COUNT` packs it."""


COUNT = struct.Struct(">Q")
"""An answer that is a number."""

DONE = b"k"
WRONG = b"x"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The first bytes of a connection to the target."""

    kind: Kind

    size: int = 0
    """Bytes to send or to read; for `ENDS_FIRST` and `COUNTED` the number of the count."""

    pause_ms: int = 0
    """How long the target waits before it begins to read."""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read an order of `ORDER_BYTES`.

        Raises:
            ValueError: It is none.
        """
        kind, size, pause_ms = _FORMAT.unpack(data)
        return cls(kind=Kind(kind), size=size, pause_ms=pause_ms)

    def serialize(self) -> bytes:
        return _FORMAT.pack(self.kind.value, self.size, self.pause_ms)


PATTERN = random.Random(2).randbytes(READ_BYTES)  # noqa: S311 - the same bytes at both ends
"""What is sent, again and again."""


class PatternCheck:
    """Compares a stream of bytes with the pattern, wherever it is cut."""

    def __init__(self) -> None:
        self.position = 0
        self.is_right = True

    def feed(self, data: memoryview) -> None:
        """Take the next bytes."""
        done = 0
        while done < len(data) and self.is_right:
            begin = self.position % len(PATTERN)
            count = min(len(data) - done, len(PATTERN) - begin)
            self.is_right = data[done : done + count] == PATTERN[begin : begin + count]
            done += count
            self.position += count
