"""What the relay shows of itself at ``/metrics``, from the first time that somebody asks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay.exposition import Exposition
    from relay.gateway import Gateway
    from relay.loop_lag import LoopLag


class Scraper:
    """The numbers of one relay, for the admin port.

    Args:
        gateway: Counts, and what is live.
        lag: Of the event loop that the gateway runs in.
    """

    def __init__(self, gateway: Gateway, lag: LoopLag) -> None:
        self._gateway = gateway
        self._lag = lag
        self._exposition: Exposition | None = None

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """Give the metrics as they are now, and their content type, for an ``Accept`` header."""
        if self._exposition is None:
            # The library's import is not to hold up the connections of this loop.
            made = await asyncio.to_thread(_exposition)
            self._exposition = made(self._gateway, self._lag)
        return self._exposition.write(accept)


def _exposition() -> type[Exposition]:
    from relay.exposition import Exposition

    return Exposition
