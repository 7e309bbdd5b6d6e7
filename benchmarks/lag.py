"""How late the relay's event loop was between two looks at its ``/metrics``."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from prometheus_client.parser import text_string_to_metric_families

LAG = "hybridge_event_loop_lag_seconds_bucket"
LISTENERS = "ActiveListeners"
CONNECTIONS = "ActiveConnections"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the relay said at one time."""

    lag: Mapping[float, float]
    """Upper bound in seconds, and how many times it was at most that late; since the start."""

    listeners: int
    connections: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an exposition."""
        lag: dict[float, float] = {}
        totals = {LISTENERS: 0.0, CONNECTIONS: 0.0}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == LAG:
                    lag[float(sample.labels["le"])] = sample.value
                elif sample.name in totals:
                    totals[sample.name] += sample.value
        return cls(lag=lag, listeners=int(totals[LISTENERS]), connections=int(totals[CONNECTIONS]))

    @classmethod
    def take(cls, host: str, port: int) -> Self:
        """Ask a relay's admin port."""
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=30) as response:
            return cls.parse(response.read().decode())


def percentile_between(before: Look, after: Look, percent: float) -> tuple[float, float]:
    """Give the bucket, from and to in seconds, in which a percentile of the lag lies.

    Raises:
        ValueError: Nothing was measured in between.
    """
    counts = {bound: after.lag[bound] - before.lag.get(bound, 0.0) for bound in sorted(after.lag)}
    total = max(counts.values(), default=0.0)
    if not total:
        raise ValueError("the relay measured no lag in between")
    lower = 0.0
    for bound, count in counts.items():
        if count >= total * percent / 100:
            return lower, bound
        lower = bound
    raise AssertionError("the last bucket has all")
