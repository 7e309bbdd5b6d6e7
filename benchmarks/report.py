"""From the values of all rounds to Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence

from benchmarks.figures import BY_KEY, FIGURES, Figure
from benchmarks.goals import (
    CHAIN,
    GENERATOR_FACTOR,
    GENERATOR_KEYS,
    GOALS,
    OPENSSH,
    RIVALS,
    STALLED_KIB,
    Rival,
    is_reached,
    wanted,
)
from benchmarks.growth import SERIES, Series
from benchmarks.results import Results
from benchmarks.statistic import exponent, line

DIRECT = "direct"
"""The way without a peer."""

OURS = "hybridge-"
"""How the names of our own peers begin."""

PLAIN = "-plain"
"""How the name of the one ends that is not as users have it: no goals are set for it."""

FLAT, LINEAR = 0.1, 0.15
"""How near to 0 and to 1 an exponent has these names."""


def spread(values: Sequence[float], digits: int) -> str:
    """Write the median, and in brackets the lowest and the highest where there is a choice."""
    if not values:
        return "-"
    median = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return median
    return f"{median} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def yes_or_no(values: Sequence[float]) -> str:
    """Write a truth: what all rounds say, or how many of them say yes."""
    if not values:
        return "-"
    right = sum(value > 0 for value in values)
    if right in (0, len(values)):
        return "yes" if right else "no"
    return f"yes in {right} of {len(values)}"


def markdown(results: Results) -> str:
    """Write the report: what it ran on, the figures, the goals, the ratios, how cost grows."""
    lines = ["# Benchmarks", ""]
    lines += [f"- {name}: {value}" for name, value in results.machine.items()]
    lines += [f"- not here: {name}, {why}" for name, why in results.skipped.items()]
    lines += [f"- failed: {failure}" for failure in results.failures]
    lines += [f"- {text}" for text in generator_check(results)]
    names = list(results.labels)
    rows = [each for each in FIGURES if any(results.values(name, each.key) for name in names)]
    if rows:
        lines += ["", f"## Figures: {_how_many(len(results.rounds))}", ""]
        lines += _table(
            ["", *(results.labels[name] for name in names)],
            (_figure_row(results, figure, names) for figure in rows),
        )
    for name in names:
        if name.startswith(OURS) and not name.endswith(PLAIN):
            lines += _goals(results, name)
    for rival in (OPENSSH, CHAIN):
        lines += _ratios(results, rival, rows)
    for name in names:
        lines += _growth(results, name)
    return "\n".join([*lines, ""])


def generator_check(results: Results) -> Iterator[str]:
    """Say how far ahead of every peer the direct way is, and warn where that is not enough."""
    least: list[tuple[float, str]] = []
    for key in GENERATOR_KEYS:
        factors = list(_lead(results, key))
        if factors:
            factor, peer = min(factors)
            least.append((factor, f"{BY_KEY[key].title}, {peer}"))
    near = [each for each in least if each[0] < GENERATOR_FACTOR]
    for factor, where in near:
        yield (
            f"warning: the load generator may be the limit: {where}:"
            f" the direct way is only {factor:.1f} times as fast"
        )
    if least and not near:
        factor, where = min(least)
        yield f"the load generator is not the limit: {factor:.1f} times any peer ({where})"


def _lead(results: Results, key: str) -> Iterator[tuple[float, str]]:
    """Give how many times as fast as each peer the direct way is."""
    direct = results.values(DIRECT, key)
    for name, label in results.labels.items():
        values = results.values(name, key)
        if name == DIRECT or not direct or not all(values) or not values:
            continue
        factor = statistics.median(direct) / statistics.median(values)
        yield (factor if BY_KEY[key].is_better_high else 1 / factor), label


def _how_many(rounds: int) -> str:
    return "one round" if rounds == 1 else f"median of {rounds} rounds (lowest to highest)"


def _figure_row(results: Results, figure: Figure, names: Iterable[str]) -> list[str]:
    title = f"{figure.title}, {figure.unit}" if figure.unit else figure.title
    all_values = (results.values(name, figure.key) for name in names)
    if figure.is_truth:
        return [title, *(yes_or_no(values) for values in all_values)]
    return [title, *(spread(values, figure.digits) for values in all_values)]


def _goals(results: Results, name: str) -> list[str]:
    """Write the table of the figures to reach, for one of our own peers."""
    rows = [_goal_row(results, name, key) for key in GOALS if results.values(name, key)]
    for key in ("stalled_down", "stalled_up"):
        if values := results.values(name, key):
            verdict = _verdict(statistics.median(values) <= STALLED_KIB)
            kib = f"{spread(values, 0)} KiB, ≤ {STALLED_KIB:.0f}: {verdict}"
            rows.append([BY_KEY[key].title, kib, "", ""])
    if not rows:
        return []
    head = ["", *(f"against {rival.title}" for rival in RIVALS)]
    return ["", f"## Figures to reach: {results.labels[name]}", "", *_table(head, rows)]


def _goal_row(results: Results, name: str, key: str) -> list[str]:
    cells = []
    for rival, goal in zip(RIVALS, GOALS[key], strict=True):
        ratios = results.ratios(name, key, rival.peers)
        verdict = _verdict(is_reached(key, ratios, goal)) if ratios else "not compared"
        cells.append(f"{spread(ratios, 2)}, {wanted(key, goal)}: {verdict}")
    return [BY_KEY[key].title, *cells]


def _verdict(reached: bool) -> str:
    return "reached" if reached else "**missed**"


def _ratios(results: Results, rival: Rival, rows: Sequence[Figure]) -> list[str]:
    (baseline,) = rival.peers
    if baseline not in results.labels:
        return []
    compared = [name for name in results.labels if name not in (baseline, DIRECT)]
    rows = [figure for figure in rows if figure.has_ratio and results.values(baseline, figure.key)]
    if not compared or not rows:
        return []
    head = ["", *(results.labels[name] for name in compared)]
    body = (_ratio_row(results, figure, compared, rival) for figure in rows)
    title = f"## Against {results.labels[baseline]} in the same round"
    return ["", title, "", *_table(head, body)]


def _ratio_row(results: Results, figure: Figure, names: Iterable[str], rival: Rival) -> list[str]:
    better = "higher is better" if figure.is_better_high else "lower is better"
    title = f"{figure.title} ({better})"
    return [title, *(spread(results.ratios(name, figure.key, rival.peers), 2) for name in names)]


def _growth(results: Results, name: str) -> list[str]:
    """Write how the cost of one peer grows: a table for each kind of size, and the slopes."""
    lines: list[str] = []
    for of in dict.fromkeys(each.of for each in SERIES):
        columns = [each for each in SERIES if each.of == of]
        sizes = sorted({size for each in columns for size in results.sizes(name, each.key)})
        if not sizes:
            continue
        rows = [
            [
                str(size),
                *(spread(results.values(name, each.at(size)), each.digits) for each in columns),
            ]
            for size in sizes
        ]
        rows.append(["slope", *(_slope(results, name, each) for each in columns)])
        head = [of, *(f"{each.title}, {each.unit}" for each in columns)]
        lines += ["", *_table(head, rows)]
    return ["", f"## How cost grows: {results.labels[name]}", *lines] if lines else []


def _slope(results: Results, name: str, series: Series) -> str:
    sizes = results.sizes(name, series.key)
    costs = [statistics.median(results.values(name, series.at(size))) for size in sizes]
    power, straight = exponent(sizes, costs), line(sizes, costs)
    if power is None or straight is None:
        return "-"
    kind = ""
    if abs(power) <= FLAT:
        kind = ", flat"
    elif abs(power - 1) <= LINEAR:
        kind = ", linear"
    fixed, each = straight
    return f"n^{power:.2f}{kind}; {fixed:.3g} {series.unit} + {each:.3g} each"


def _table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Write a Markdown table whose columns also line up on a terminal."""
    body = list(rows)
    widths = [max(len(row[column]) for row in (head, *body)) for column in range(len(head))]

    def row_line(cells: list[str]) -> str:
        first = cells[0].ljust(widths[0])
        others = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return f"| {' | '.join((first, *others))} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [row_line(head), row_line(rule), *(row_line(row) for row in body)]
