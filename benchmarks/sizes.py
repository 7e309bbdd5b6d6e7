"""How much of everything a run does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GIGABYTE = 1_000_000_000
MEBIBYTE = 1_048_576

Values = Mapping[str, float]
"""What one measure found, by `Figure.key`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of everything one measure does."""

    bulk_bytes: int = 512 * MEBIBYTE
    streams: int = 16
    round_trips: int = 5_000
    requests: int = 20_000
    set_ups: int = 100
    paced_set_ups: int = 60
    pace_seconds: float = 0.05
    connections: int = 400
    at_a_time: int = 8
    idle_connections: int = 1_000
    stall_seconds: float = 5.0
    stalled_bytes: int = 64 * MEBIBYTE
    pgbench_seconds: int = 3
    growth_connections: tuple[int, ...] = (1, 10, 100, 1_000, 5_000)
    growth_messages: tuple[int, ...] = (64, 1_024, 16_384, 65_536, 262_144, MEBIBYTE)


QUICK = Sizes(
    bulk_bytes=96 * MEBIBYTE,
    round_trips=1_000,
    requests=3_000,
    set_ups=20,
    paced_set_ups=20,
    connections=100,
    idle_connections=100,
    stall_seconds=0.5,
    pgbench_seconds=1,
    growth_connections=(1, 10, 100),
    growth_messages=(64, 16_384, MEBIBYTE),
)
"""For a first look, in three minutes."""
