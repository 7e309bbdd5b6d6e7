"""What connections cost in memory: those that do nothing, and those whose reader has stalled."""

from __future__ import annotations

import time

from benchmarks import load
from benchmarks.load import LoadFailed
from benchmarks.meter import Meter
from benchmarks.peers import Running
from benchmarks.sizes import MEBIBYTE, Sizes, Values

MEMORY_SAMPLE_SECONDS = 0.1
"""How often memory is looked at while a reader stalls."""

SETTLE_SECONDS = 1.0
"""After connections were opened, before memory is read."""


def idle(peer: Running, sizes: Sizes) -> Values:
    """Connections that do nothing: memory of each, and what is left after they have closed."""
    with load.idle_connections(peer.address, 16):
        pass
    meter = peer.meter
    time.sleep(SETTLE_SECONDS)
    descriptors = meter.descriptors()
    before = sum(meter.resident_bytes().values())
    with load.idle_connections(peer.address, sizes.idle_connections):
        time.sleep(SETTLE_SECONDS)
        grown = sum(meter.resident_bytes().values()) - before
    left = meter.settled_descriptors(descriptors) - descriptors
    return {
        "idle_memory": grown / sizes.idle_connections / 1024,
        "idle_leaked": float(max(0, left)),
    }


def stalled(peer: Running, sizes: Sizes) -> Values:
    """A reader that reads nothing for a while, each way; then every byte has to come."""
    for warm_up in (load.bulk_down, load.bulk_up):
        warm_up(peer.address, 8 * MEBIBYTE)
    watch = _MemoryWatch(peer.meter, sizes.stall_seconds)
    if not load.stalled_download(peer.address, sizes.stalled_bytes, watch.run):
        raise LoadFailed("after a stall, what came down was not what was sent")
    values = {"stalled_down": watch.growth_bytes / 1024}
    watch = _MemoryWatch(peer.meter, sizes.stall_seconds)
    pause_seconds = sizes.stall_seconds + 1.0
    if not load.stalled_upload(peer.address, sizes.stalled_bytes, pause_seconds, watch.run):
        raise LoadFailed("after a stall, what went up was not what was sent")
    return {**values, "stalled_up": watch.growth_bytes / 1024}


class _MemoryWatch:
    """Looks for a while how far the memory of all processes of a peer grows."""

    def __init__(self, meter: Meter, seconds: float) -> None:
        self._meter = meter
        self._seconds = seconds
        self._before = self._resident()
        self.growth_bytes = 0

    def _resident(self) -> int:
        return sum(self._meter.resident_bytes().values())

    def run(self) -> None:
        deadline = time.monotonic() + self._seconds
        while time.monotonic() < deadline:
            time.sleep(MEMORY_SAMPLE_SECONDS)
            self.growth_bytes = max(self.growth_bytes, self._resident() - self._before)
