"""What the report shows of each peer: one figure, one row."""

from __future__ import annotations

from dataclasses import dataclass


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

    is_truth: bool = False
    """Whether it is yes (1) or no (0)."""


FIGURES = (
    Figure(
        key="bulk_down", title="bulk down, 1 stream", unit="MB/s", digits=0, is_better_high=True
    ),
    Figure(key="bulk_up", title="bulk up, 1 stream", unit="MB/s", digits=0, is_better_high=True),
    Figure(
        key="bulk_many_down",
        title="bulk down, 16 streams",
        unit="MB/s",
        digits=0,
        is_better_high=True,
    ),
    Figure(
        key="bulk_many_up", title="bulk up, 16 streams", unit="MB/s", digits=0, is_better_high=True
    ),
    Figure(key="cpu_down", title="CPU per GB down", unit="s", digits=2),
    Figure(key="cpu_up", title="CPU per GB up", unit="s", digits=2),
    Figure(key="round_trip_p50", title="round trip 64 B, p50", unit="µs", digits=0),
    Figure(key="round_trip_p99", title="round trip 64 B, p99", unit="µs", digits=0),
    Figure(
        key="requests",
        title="requests of 64 B, 32 connections",
        unit="1/s",
        digits=0,
        is_better_high=True,
    ),
    Figure(key="set_up_p50", title="set-up, one after another, p50", unit="ms", digits=2),
    Figure(key="set_up_p99", title="set-up, one after another, p99", unit="ms", digits=2),
    Figure(key="paced_p50", title="set-up, one every 50 ms, p50", unit="ms", digits=2),
    Figure(key="paced_p99", title="set-up, one every 50 ms, p99", unit="ms", digits=2),
    Figure(
        key="connections",
        title="connections, 8 at a time",
        unit="1/s",
        digits=0,
        is_better_high=True,
    ),
    Figure(key="cpu_connection", title="CPU per connection", unit="ms", digits=2),
    Figure(
        key="pgbench_1", title="pgbench -S, 1 client", unit="1/s", digits=0, is_better_high=True
    ),
    Figure(
        key="pgbench_8", title="pgbench -S, 8 clients", unit="1/s", digits=0, is_better_high=True
    ),
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
    Figure(
        key="near_end",
        title="the near end's end passes, alone",
        unit="",
        digits=0,
        has_ratio=False,
        is_truth=True,
    ),
    Figure(
        key="far_end",
        title="the far end's end passes, alone",
        unit="",
        digits=0,
        has_ratio=False,
        is_truth=True,
    ),
)
"""All rows, in the order of the report."""

BY_KEY = {figure.key: figure for figure in FIGURES}
