"""The page that `hybridge doctor` writes on a terminal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

import click

from devstack.doctor.report import Lines, title

if TYPE_CHECKING:
    from devstack.doctor.examination import Examination
    from devstack.doctor.finding import Finding


class Paper:
    """Writes findings as they come; colours only on a terminal.

    Args:
        output: Where to; what it cannot show is written in ASCII. None, as Python has it where
            standard output is closed: nowhere.
        is_silent: Whether it is kept blank, because something else is printed.
    """

    def __init__(self, output: TextIO | None, *, is_silent: bool = False) -> None:
        self._output = output
        self._is_silent = is_silent or output is None
        self._encoding = (getattr(output, "encoding", None) or "utf-8").lower()
        is_terminal = output is not None and output.isatty()
        self._has_color = is_terminal and "NO_COLOR" not in os.environ
        self._lines = Lines(has_symbols=self._encoding.startswith("utf"))
        self._is_empty = True

    def line(self, text: str = "") -> None:
        """Print a line, whatever its characters."""
        if not self._is_silent:
            shown = text.encode(self._encoding, "backslashreplace").decode(self._encoding)
            click.echo(shown, self._output)

    def heading(self, examination: Examination) -> None:
        """Say what is examined, and leave a line blank in front of it."""
        if not self._is_empty:
            self.line()
        self._is_empty = False
        text = title(examination, role=examination.case.role)
        self.line(click.style(text, bold=True) if self._has_color else text)
        self.line()

    def finding(self, finding: Finding) -> None:
        """Print a finding."""
        mark, color = self._lines.mark(finding.verdict)
        if self._has_color and color:
            mark = click.style(mark, fg=color)
        first, *rest = self._lines.body(finding)
        self.line(f" {mark}  {first}")
        for line in rest:
            self.line(f"{self._lines.indent()}{line}")
