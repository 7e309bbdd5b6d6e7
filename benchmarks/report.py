"""From the values of all rounds to a table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.figures import FIGURES, Figure

BASELINE = "openssh"
"""The peer that ratios are against."""


@dataclass(kw_only=True)
class Results:
    """All that one run has measured."""

    machine: Mapping[str, str]
    """What it ran on: cores, versions, load. No names of hosts, users or folders."""

    labels: Mapping[str, str]
    """Peers that ran, in order: name and label."""

    skipped: Mapping[str, str] = field(default_factory=dict)
    """Peers that did not run, and why."""

    rounds: list[dict[str, dict[str, float]]] = field(default_factory=list)
    """For each round, peer and figure: the value."""

    failures: list[str] = field(default_factory=list)
    """What did not work."""

    def values(self, peer: str, key: str) -> list[float]:
        """One figure of one peer, from each round that has it."""
        return [each[peer][key] for each in self.rounds if key in each.get(peer, {})]

    def ratios(self, peer: str, key: str) -> list[float]:
        """The same against `BASELINE` of the same round."""
        return [
            each[peer][key] / each[BASELINE][key]
            for each in self.rounds
            if key in each.get(peer, {}) and each.get(BASELINE, {}).get(key)
        ]

    def to_fields(self) -> dict[str, object]:
        """All of it, for JSON."""
        return {
            "machine": dict(self.machine),
            "peers": dict(self.labels),
            "skipped": dict(self.skipped),
            "failures": self.failures,
            "rounds": self.rounds,
        }


def spread(values: Sequence[float], digits: int) -> str:
    """Write the median, and in brackets the lowest and the highest where there is a choice."""
    if not values:
        return "-"
    median = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return median
    return f"{median} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def markdown(results: Results) -> str:
    """Write the report: what it ran on, the figures, the ratios."""
    lines = ["# Benchmarks", ""]
    lines += [f"- {name}: {value}" for name, value in results.machine.items()]
    lines += [f"- not here: {name}, {why}" for name, why in results.skipped.items()]
    lines += [f"- failed: {failure}" for failure in results.failures]
    names = list(results.labels)
    rows = [each for each in FIGURES if any(results.values(name, each.key) for name in names)]
    lines += ["", f"## Figures: {_how_many(len(results.rounds))}", ""]
    lines += _table(
        ["", *(results.labels[name] for name in names)],
        (_figure_row(results, figure, names) for figure in rows),
    )
    compared = [name for name in names if name not in (BASELINE, "direct")]
    if BASELINE in names and compared:
        lines += ["", f"## Against {results.labels[BASELINE]} in the same round", ""]
        lines += _table(
            ["", *(results.labels[name] for name in compared)],
            (_ratio_row(results, figure, compared) for figure in rows if figure.has_ratio),
        )
    return "\n".join([*lines, ""])


def _how_many(rounds: int) -> str:
    return "one round" if rounds == 1 else f"median of {rounds} rounds (lowest to highest)"


def _figure_row(results: Results, figure: Figure, names: Iterable[str]) -> list[str]:
    title = f"{figure.title}, {figure.unit}" if figure.unit else figure.title
    return [title, *(spread(results.values(name, figure.key), figure.digits) for name in names)]


def _ratio_row(results: Results, figure: Figure, names: Iterable[str]) -> list[str]:
    better = "higher is better" if figure.is_better_high else "lower is better"
    title = f"{figure.title} ({better})"
    return [title, *(spread(results.ratios(name, figure.key), 2) for name in names)]


def _table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Write a Markdown table whose columns also line up on a terminal."""
    body = list(rows)
    widths = [max(len(row[column]) for row in (head, *body)) for column in range(len(head))]

    def line(cells: list[str]) -> str:
        first = cells[0].ljust(widths[0])
        others = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return f"| {' | '.join((first, *others))} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [line(head), line(rule), *(line(row) for row in body)]
