"""What the demo looks like: numbered steps, arrows between the parties, tables.

Made for a projector: short lines, one event each. Colours only on a terminal, and plain arrows
where the terminal knows no others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

import click

INDENT = "      "
PARTY_WIDTH = 11
"""Room for the longest name of a party."""


class Screen:
    """Writes the demo's page.

    Args:
        output: Where to; colours are left out where it is no terminal.
    """

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._color = output.isatty() and "NO_COLOR" not in os.environ
        encoding = (getattr(output, "encoding", None) or "utf-8").lower().replace("-", "")
        self._symbols = encoding.startswith("utf")
        self._step = 0

    def line(self, text: str = "", **style: object) -> None:
        """One line as it stands."""
        if not self._symbols:
            text = text.translate(_PLAIN)
        click.echo(click.style(text, **style) if style else text, self._output, color=self._color)  # type: ignore[arg-type] # style's keywords, passed on

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A numbered step: its title at once, then what happens in it, then how long it took."""
        self._step += 1
        self.line()
        self.line(f" {self._step:>2}   {title}", bold=True)
        started = time.perf_counter()
        yield
        self.line(f"{INDENT}{seconds(time.perf_counter() - started)}", dim=True)

    def note(self, text: str) -> None:
        """Something about the step."""
        self.line(f"{INDENT}{text}")

    def arrow(self, source: str, target: str, text: str, *, at: str = "") -> None:
        """Who did what with whom.

        Args:
            source: The party that acts: who dials, who sends.
            target: The other one.
            text: What.
            at: When, at the start of the line.
        """
        left = f"{at:>9}   " if at else INDENT
        parties = f"{source:<{PARTY_WIDTH}} ──▶ {target:<{PARTY_WIDTH}}"
        if self._color:
            parties = click.style(parties, fg="cyan")
        self.line(f"{left}{parties} {text}")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Rows under their column names, numbers to the right."""
        texts = [[str(cell) for cell in row] for row in rows]
        widths = [
            max([len(name), *(len(row[index]) for row in texts)])
            for index, name in enumerate(columns)
        ]
        right = [
            bool(rows) and not isinstance(rows[0][index], str) for index in range(len(columns))
        ]

        def joined(cells: Sequence[str]) -> str:
            return "   ".join(
                cell.rjust(width) if is_right else cell.ljust(width)
                for cell, width, is_right in zip(cells, widths, right, strict=True)
            ).rstrip()

        self.line(f"{INDENT}{joined(list(columns))}", dim=True)
        for row in texts:
            self.line(f"{INDENT}{joined(row)}", fg="green")


def seconds(duration: float) -> str:
    """A duration as people read it: ``840 µs``, ``12.3 ms``, ``1.52 s``."""
    if duration < 0.001:
        return f"{duration * 1_000_000:.0f} µs"
    if duration < 1:
        return f"{duration * 1_000:.1f} ms"
    return f"{duration:.2f} s"


_PLAIN = str.maketrans({"─": "-", "▶": ">", "◀": "<", "µ": "u", "·": "-", "┊": "|"})
