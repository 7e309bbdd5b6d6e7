"""What is asked of each peer, and the figures that come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import half_close, load
from benchmarks.growth import growth
from benchmarks.memory import idle, stalled
from benchmarks.peers import Running
from benchmarks.requests import requests_per_second
from benchmarks.sizes import GIGABYTE, MEBIBYTE, Sizes, Values
from benchmarks.statistic import percentile


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One thing that is asked of a peer."""

    name: str
    """As ``--measure`` takes it."""

    run: Callable[[Running, Sizes], Values]
    """Gives values by `Figure.key`. Raises `LoadFailed` or `OSError` where the peer fails."""

    needs_processes: bool = False
    """Whether it says nothing about the direct way."""

    is_default: bool = True
    """Whether it is made unless somebody asks for others."""


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


def bulk_many(peer: Running, sizes: Sizes) -> Values:
    """As many bytes as `bulk`, shared among streams that run at the same time."""
    gigabytes = sizes.bulk_bytes / GIGABYTE
    values = {}
    for way, carry in (("down", load.bulk_down), ("up", load.bulk_up)):
        seconds = carry(peer.address, sizes.bulk_bytes, streams=sizes.streams)
        values[f"bulk_many_{way}"] = gigabytes * 1_000 / seconds
    return values


def round_trip(peer: Running, sizes: Sizes) -> Values:
    """64 bytes there and back, one after another on one connection."""
    seconds = load.round_trips(peer.address, sizes.round_trips)
    return {
        "round_trip_p50": percentile(seconds, 50) * 1e6,
        "round_trip_p99": percentile(seconds, 99) * 1e6,
    }


def requests(peer: Running, sizes: Sizes) -> Values:
    """64 bytes there and back, over 32 connections at the same time."""
    return {"requests": requests_per_second(peer.address, sizes.requests)}


def set_up(peer: Running, sizes: Sizes) -> Values:
    """From connect to the first byte back, one connection after another."""
    load.set_ups(peer.address, 5)
    seconds = load.set_ups(peer.address, sizes.set_ups)
    return {
        "set_up_p50": percentile(seconds, 50) * 1e3,
        "set_up_p99": percentile(seconds, 99) * 1e3,
    }


def paced(peer: Running, sizes: Sizes) -> Values:
    """From connect to the first byte back, with time to rest between two connections."""
    seconds = load.paced_set_ups(
        peer.address, sizes.paced_set_ups, every_seconds=sizes.pace_seconds
    )
    return {
        "paced_p50": percentile(seconds, 50) * 1e3,
        "paced_p99": percentile(seconds, 99) * 1e3,
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


def half_closes(peer: Running, sizes: Sizes) -> Values:
    """Whether each direction ends on its own."""
    return {
        "near_end": float(half_close.near_ends_first(peer.address)),
        "far_end": float(half_close.far_ends_first(peer.address)),
    }


MEASURES = (
    Measure(name="half-close", run=half_closes),
    Measure(name="bulk", run=bulk),
    Measure(name="bulk-16", run=bulk_many),
    Measure(name="round-trip", run=round_trip),
    Measure(name="requests", run=requests),
    Measure(name="set-up", run=set_up),
    Measure(name="paced", run=paced),
    Measure(name="connections", run=connections),
    Measure(name="stalled", run=stalled, needs_processes=True),
    Measure(name="idle", run=idle, needs_processes=True),
    Measure(name="growth", run=growth, needs_processes=True, is_default=False),
)
"""All measures, in the order they are made in.

Memory is judged on warm processes; stalls before many connections, whose freed memory would hide
what a stall takes.
"""
