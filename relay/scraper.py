"""What the relay shows of itself at ``/metrics``, at the moment that somebody asks."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from relay.core.tally import Attempt, Labels, Side

if TYPE_CHECKING:
    from relay.gateway import Gateway
    from relay.loop_lag import LoopLag


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Every number of a relay at one moment."""

    served: Sequence[Labels]
    """The hybrid connections that are configured."""

    connections: Mapping[Labels, int]
    """Joined now, and HTTP requests that are under way."""

    listeners: Mapping[Labels, int]
    """Online now."""

    transferred: Mapping[Labels, int]
    """Payload bytes, those of live connections included."""

    attempts: Mapping[Attempt, int]
    disconnects: Mapping[tuple[Side, Labels], int]
    waiting: int
    """Senders that wait for a listener."""

    held_bytes: int
    lag: Sequence[tuple[float, int]]
    """Of the event loop: see `relay.loop_lag.LoopLag.cumulative`."""

    lag_seconds: float


class Scraper:
    """The numbers of one relay, for the admin port.

    Args:
        gateway: Counts, and what is live.
        lag: Of the event loop that the gateway runs in.
    """

    def __init__(self, gateway: Gateway, lag: LoopLag) -> None:
        self._gateway = gateway
        self._lag = lag
        self._one_at_a_time = asyncio.Lock()

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """Give the metrics as they are now, and their content type, for an ``Accept`` header.

        They are written down in a thread: with thousands of hybrid connections that takes long
        enough to hold up everybody, and so does the library's import by the first scrape.
        """
        async with self._one_at_a_time:
            return await asyncio.to_thread(_write, self.read(), accept)

    def read(self) -> Reading:
        """Take every number, in one turn of the event loop."""
        tally, websockets, http = self._gateway.tally, self._gateway.websockets, self._gateway.http
        connections: Counter[Labels] = Counter()
        transferred = Counter(tally.bytes_transferred)
        for entity, payload_bytes in chain(websockets.pairs.live(), http.live()):
            labels = tally.labels(entity)
            connections[labels] += 1
            transferred[labels] += payload_bytes
        listeners: Counter[Labels] = Counter()
        for entity in self._gateway.listeners.entities():
            listeners[tally.labels(entity)] += self._gateway.listeners.count(entity)
        return Reading(
            served=[labels for _, labels in tally.configured],
            connections=connections,
            listeners=listeners,
            transferred=transferred,
            attempts=dict(tally.attempts),
            disconnects=dict(tally.disconnects),
            waiting=websockets.waiting_count,
            held_bytes=websockets.pairs.held_bytes + http.held_bytes,
            lag=self._lag.cumulative,
            lag_seconds=self._lag.total_seconds,
        )


def _write(reading: Reading, accept: str) -> tuple[bytes, str]:
    # Some 30 ms at its first time, and a relay that nobody scrapes does without.
    from relay.exposition import write

    return write(reading, accept)
