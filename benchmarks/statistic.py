"""The little arithmetic that the benchmarks need."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def percentile(values: Sequence[float], percent: int) -> float:
    """Give the value below which ``percent`` of all lie.

    Raises:
        ValueError: There are no values, or the percentage is not between 1 and 99.
    """
    if not values or not 1 <= percent <= 99:
        raise ValueError(f"no percentile {percent} of {len(values)} values")
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float | None:
    """Fit ``cost = a * size ** b``, give ``b``; None for fewer than two sizes that cost something.

    0 is a cost that does not grow, 1 one that grows in proportion.
    """
    points = [
        (math.log(size), math.log(cost))
        for size, cost in zip(sizes, costs, strict=True)
        if size > 0 and cost > 0
    ]
    if len({x for x, _ in points}) < 2:
        return None
    fit = statistics.linear_regression([x for x, _ in points], [y for _, y in points])
    return fit.slope


def line(sizes: Sequence[float], costs: Sequence[float]) -> tuple[float, float] | None:
    """Fit ``cost = fixed + slope * size``, give both; None for fewer than two sizes."""
    if len(set(sizes)) < 2:
        return None
    fit = statistics.linear_regression(sizes, costs)
    return fit.intercept, fit.slope
