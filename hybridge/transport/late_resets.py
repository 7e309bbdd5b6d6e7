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
    """The streams of a thread that have read lately, and the time to look at them.

    Loops of one thread may take turns, and each looks at its own streams.
    """

    __slots__ = ("_suspects",)

    def __init__(self) -> None:
        self._suspects: dict[asyncio.AbstractEventLoop, set[Suspect]] = {}
        """Of each loop that is going to look."""

    def add(self, stream: Suspect) -> None:
        """Look at a stream within `LOOK_SECONDS`."""
        suspects = self._suspects.get(stream.loop)
        if suspects is None:
            suspects = self._look_soon(stream.loop)
        suspects.add(stream)

    def discard(self, stream: Suspect) -> None:
        """Forget a stream that is gone."""
        if suspects := self._suspects.get(stream.loop):
            suspects.discard(stream)

    def _look_soon(self, loop: asyncio.AbstractEventLoop) -> set[Suspect]:
        # A loop that has ended does not look any more.
        for ended in [each for each in self._suspects if each.is_closed()]:
            del self._suspects[ended]
        loop.call_later(LOOK_SECONDS, self._look, loop)
        suspects = self._suspects[loop] = set()
        return suspects

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        for stream in self._suspects.pop(loop, ()):
            stream.look_for_reset()
