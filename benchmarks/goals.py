"""The figures to reach: ratios against what a user would pick instead, in the same run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.figures import BY_KEY


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """What is compared with: one peer, or the best of several."""

    title: str
    peers: Sequence[str]


OPENSSH = Rival(title="OpenSSH aes128-gcm", peers=("openssh",))
CHAIN = Rival(title="the C chain", peers=("c-chain",))
TUNNELS = Rival(title="the best of frp and chisel", peers=("frp", "chisel"))
RIVALS = (OPENSSH, CHAIN, TUNNELS)

GOALS: dict[str, tuple[float, float, float]] = {
    "bulk_down": (1.0, 0.90, 3.0),
    "bulk_up": (1.0, 0.90, 3.0),
    "bulk_many_down": (1.4, 0.85, 2.0),
    "bulk_many_up": (1.4, 0.85, 2.0),
    "cpu_down": (0.9, 1.15, 0.4),
    "cpu_up": (0.9, 1.15, 0.4),
    "round_trip_p50": (0.85, 1.10, 0.6),
    "requests": (1.0, 0.9, 2.5),
    "pgbench_1": (1.05, 0.8, 1.3),
    "pgbench_8": (1.05, 0.8, 1.9),
    "paced_p50": (0.2, 0.6, 0.85),
    "connections": (4.0, 1.0, 1.0),
    "idle_memory": (0.65, 1.2, 0.65),
}
"""By figure: the ratio against each of `RIVALS`, at least or at most as the figure is better."""

STALLED_KIB = 1_024.0
"""Most that memory may grow in each direction while a reader stalls."""

GENERATOR_FACTOR = 3.0
"""How far ahead of any peer the direct way must be, so that the load generator is not the limit."""

GENERATOR_KEYS = (
    "bulk_down", "bulk_up", "bulk_many_down", "bulk_many_up", "round_trip_p50", "requests",
    "set_up_p50", "paced_p50", "connections",
)  # fmt: skip
"""The figures for which that is asked. pgbench is no load generator of ours."""


def is_reached(key: str, ratios: Sequence[float], goal: float) -> bool:
    """Tell whether the median of some ratios reaches a goal."""
    median = statistics.median(ratios)
    return median >= goal if BY_KEY[key].is_better_high else median <= goal


def wanted(key: str, goal: float) -> str:
    """Write a goal."""
    return f"{'≥' if BY_KEY[key].is_better_high else '≤'} {goal:g}"
