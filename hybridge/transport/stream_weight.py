"""How much one of several connections over a rendezvous carries, and when that is much."""

from __future__ import annotations

import asyncio
from typing import Protocol

from hybridge.protocol.multiplex import (
    HEAVY_BYTES,
    HEAVY_SECONDS,
    MIN_LIVELY_SHARE,
    PIECE_WEIGHT_BYTES,
)


class Scale(Protocol):
    """What the connections of a rendezvous are weighed against."""

    pieces: int
    """Pieces of data that its connections have sent and received."""


class StreamWeight:
    """Counts what one connection carries.

    Args:
        scale: What they all carry; counted here too.
    """

    __slots__ = (
        "_bytes",
        "_carried",
        "_heavy_bytes",
        "_loop",
        "_pieces",
        "_pieces_before",
        "_scale",
        "_since",
    )

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._loop = asyncio.get_running_loop()
        self._heavy_bytes = HEAVY_BYTES
        self._since = self._loop.time()
        self._carried = 0
        """Bytes since then that were judged, and not enough by themselves."""
        self._bytes = 0
        self._pieces = 0
        self._pieces_before = scale.pieces

    def add(self, size: int) -> bool:
        """Count a piece of ``size`` bytes, sent or received.

        Returns:
            Whether it is much for its time, by now: `HEAVY_BYTES` within `HEAVY_SECONDS`. It says
            so once, and the next time at twice that.
        """
        self._scale.pieces += 1
        self._pieces += 1
        self._bytes += size
        if self._bytes + self._pieces * PIECE_WEIGHT_BYTES < self._heavy_bytes:
            return False
        return self._judge()

    def _judge(self) -> bool:
        now = self._loop.time()
        is_in_time = now - self._since <= HEAVY_SECONDS
        self._carried += self._bytes
        is_heavy = is_in_time and (
            # Where many converse, they are better off together: what they say leaves in one piece.
            self._carried >= self._heavy_bytes
            or self._pieces * MIN_LIVELY_SHARE >= self._scale.pieces - self._pieces_before
        )
        if is_heavy or not is_in_time:
            # Otherwise bytes count on: with the weight of pieces, they alone were never enough.
            self._since, self._carried = now, 0
        self._pieces_before = self._scale.pieces
        self._bytes = self._pieces = 0
        if is_heavy:
            self._heavy_bytes *= 2  # Where it cannot move, it does not try again and again.
        return is_heavy
