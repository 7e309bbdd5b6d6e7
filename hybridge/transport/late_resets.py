"""Resets that an event loop told of once, together with bytes.

libuv stops watching a socket at its error, after one call, in which bytes may come first. To ask
the socket after each read whether that was so cost 5 % of the time of a round trip. It is asked a
little later, once for all reads since.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

LOOK_SECONDS = 0.1
"""How long a reset behind bytes may go unseen."""


class Suspect(Protocol):
    """A stream that has read bytes, behind which an error may wait."""

    loop: asyncio.AbstractEventLoop

    def look_for_reset(self) -> None:
        """Ask the socket."""


class LateResets:
    """The streams of a thread that have read lately, and the time to look at them."""

    __slots__ = ("_loop", "_suspects")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._suspects: set[Suspect] = set()

    def add(self, stream: Suspect) -> None:
        """Look at a stream within `LOOK_SECONDS`."""
        if self._loop is not stream.loop:
            # A loop that has ended does not look any more.
            self._suspects.clear()
            self._loop = stream.loop
        if not self._suspects:
            stream.loop.call_later(LOOK_SECONDS, self._look)
        self._suspects.add(stream)

    def discard(self, stream: Suspect) -> None:
        """Forget a stream that is gone."""
        self._suspects.discard(stream)

    def _look(self) -> None:
        suspects, self._suspects = self._suspects, set()
        for stream in suspects:
            stream.look_for_reset()
