"""What is asked of each peer, and the figures that come of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks import load
from benchmarks.load import LoadFailed
from benchmarks.meter import Meter
from benchmarks.peers import Running

GIGABYTE = 1_000_000_000
MEBIBYTE = 1_048_576

MEMORY_SAMPLE_SECONDS = 0.1
"""How often memory is looked at while a reader stalls."""

SETTLE_SECONDS = 1.0
"""After connections were opened, before memory is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of everything one measure does."""

    bulk_bytes: int = 512 * MEBIBYTE
    round_trips: int = 5_000
    set_ups: int = 200
    connections: int = 400
    at_a_time: int = 8
    idle_connections: int = 1_000
    stall_seconds: float = 5.0
    stalled_bytes: int = 64 * MEBIBYTE


QUICK = Sizes(
    bulk_bytes=192 * MEBIBYTE,
    round_trips=1_000,
    set_ups=40,
    connections=100,
    idle_connections=100,
    stall_seconds=1.0,
)
"""For a first look, in less than a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row of the report."""

    key: str
    """Its name in the raw data."""

    title: str
    unit: str
    digits: int
    is_better_high: bool = False
    has_ratio: bool = True


FIGURES = (
    Figure(
        key="bulk_down", title="bulk down, 1 stream", unit="MB/s", digits=0, is_better_high=True
    ),
    Figure(key="bulk_up", title="bulk up, 1 stream", unit="MB/s", digits=0, is_better_high=True),
    Figure(key="cpu_down", title="CPU per GB down", unit="s", digits=2),
    Figure(key="cpu_up", title="CPU per GB up", unit="s", digits=2),
    Figure(key="round_trip_p50", title="round trip 64 B, p50", unit="µs", digits=0),
    Figure(key="round_trip_p99", title="round trip 64 B, p99", unit="µs", digits=0),
    Figure(key="set_up_p50", title="set-up, one after another, p50", unit="ms", digits=2),
    Figure(key="set_up_p99", title="set-up, one after another, p99", unit="ms", digits=2),
    Figure(
        key="connections",
        title="connections, 8 at a time",
        unit="1/s",
        digits=0,
        is_better_high=True,
    ),
    Figure(key="cpu_connection", title="CPU per connection", unit="ms", digits=2),
    Figure(key="idle_memory", title="memory per idle connection", unit="KiB", digits=1),
    Figure(
        key="idle_leaked",
        title="descriptors left after idle connections",
        unit="",
        digits=0,
        has_ratio=False,
    ),
    Figure(
        key="stalled_down",
        title="memory growth, stalled reader, down",
        unit="KiB",
        digits=0,
        has_ratio=False,
    ),
    Figure(
        key="stalled_up",
        title="memory growth, stalled reader, up",
        unit="KiB",
        digits=0,
        has_ratio=False,
    ),
)
"""All rows, in the order of the report."""

Values = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One thing that is asked of a peer."""

    name: str
    """As ``--measure`` takes it."""

    run: Callable[[Running, Sizes], Values]
    """Gives values by `Figure.key`. Raises `LoadFailed` or `OSError` where the peer fails."""

    needs_processes: bool = False
    """Whether it says nothing about the direct way."""


def bulk(peer: Running, sizes: Sizes) -> Values:
    """One stream down, then one up, after a short one each way."""
    for warm_up in (load.bulk_down, load.bulk_up):
        warm_up(peer.address, 8 * MEBIBYTE)
    gigabytes = sizes.bulk_bytes / GIGABYTE
    values = {}
    for way, carry in (("down", load.bulk_down), ("up", load.bulk_up)):
        before = peer.meter.cpu_seconds()
        seconds = carry(peer.address, sizes.bulk_bytes)
        values[f"bulk_{way}"] = gigabytes * 1_000 / seconds
        values[f"cpu_{way}"] = (peer.meter.cpu_seconds() - before) / gigabytes
    return values


def round_trip(peer: Running, sizes: Sizes) -> Values:
    """64 bytes there and back, one after another on one connection."""
    seconds = load.round_trips(peer.address, sizes.round_trips)
    return {
        "round_trip_p50": percentile(seconds, 50) * 1e6,
        "round_trip_p99": percentile(seconds, 99) * 1e6,
    }


def set_up(peer: Running, sizes: Sizes) -> Values:
    """From connect to the first byte back, one connection after another."""
    load.set_ups(peer.address, 5)
    seconds = load.set_ups(peer.address, sizes.set_ups)
    return {
        "set_up_p50": percentile(seconds, 50) * 1e3,
        "set_up_p99": percentile(seconds, 99) * 1e3,
    }


def connections(peer: Running, sizes: Sizes) -> Values:
    """How many connections a second are opened, used for one byte, and closed."""
    load.connections_per_second(peer.address, sizes.at_a_time * 2, at_a_time=sizes.at_a_time)
    before = peer.meter.cpu_seconds()
    rate = load.connections_per_second(peer.address, sizes.connections, at_a_time=sizes.at_a_time)
    return {
        "connections": rate,
        "cpu_connection": (peer.meter.cpu_seconds() - before) / sizes.connections * 1e3,
    }


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


def percentile(values: list[float], percent: int) -> float:
    """Give the value below which ``percent`` of all lie.

    Raises:
        ValueError: There are no values, or the percentage is not between 1 and 99.
    """
    if not values or not 1 <= percent <= 99:
        raise ValueError(f"no percentile {percent} of {len(values)} values")
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


MEASURES = (
    Measure(name="bulk", run=bulk),
    Measure(name="round-trip", run=round_trip),
    Measure(name="set-up", run=set_up),
    Measure(name="connections", run=connections),
    Measure(name="stalled", run=stalled, needs_processes=True),
    Measure(name="idle", run=idle, needs_processes=True),
)
"""All measures, in the order they are made in.

Memory is judged on warm processes; stalls before many connections, whose freed memory would hide
what a stall takes.
"""
