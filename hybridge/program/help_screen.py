"""How ``--help`` looks: one screen of 24 lines and 80 columns for each command."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDEST_OPTION = 34
"""Columns that an option with its value may take before its text goes to the next line."""


class _Formatter(click.HelpFormatter):
    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = WIDEST_OPTION, col_spacing: int = 2
    ) -> None:
        super().write_dl(list(rows), col_max, col_spacing)


class _Context(click.Context):
    formatter_class = _Formatter


class _Screen(click.Command):
    """Tells of the environment twins once for all options, and not once for each."""

    context_class = _Context

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        shown = [each for each in self.get_params(ctx) if isinstance(each, click.Option)]
        rows = [row for row in (each.get_help_record(ctx) for each in shown) if row]
        if rows:
            with formatter.section(self._heading()):
                formatter.write_dl(rows)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self._twins() and self._without_twin():
            sample = _shortest(self._twins())
            flags = ", ".join(each.opts[0] for each in self._twins())
            text = f"In the environment too, as {_variable(sample)}: {flags}."
            formatter.write_paragraph()
            for line in textwrap.wrap(text, formatter.width - 2, break_on_hyphens=False):
                formatter.write(f"  {line}\n")
        super().format_epilog(ctx, formatter)

    def _heading(self) -> str:
        if not self._twins() or self._without_twin():
            return "Options"
        sample = _shortest(self._twins())
        return f"Options, each with an environment twin ({sample.opts[0]} is {_variable(sample)})"

    def _twins(self) -> list[click.Option]:
        return [each for each in self._options() if each.envvar]

    def _without_twin(self) -> list[click.Option]:
        # --version and --help hand no value to the command, and need none.
        return [each for each in self._options() if not each.envvar and each.expose_value]

    def _options(self) -> list[click.Option]:
        return [each for each in self.params if isinstance(each, click.Option) and not each.hidden]


class Command(_Screen):
    """A command whose help fits one screen."""


class Group(_Screen, click.Group):
    """A group whose help, and that of all commands below it, fits one screen."""

    command_class = Command
    group_class = type


def _shortest(options: list[click.Option]) -> click.Option:
    return min(options, key=lambda each: len(each.opts[0]))


def _variable(option: click.Option) -> str:
    """Give the first of an option's environment twins: the one of this command's own."""
    twin = option.envvar
    return twin if isinstance(twin, str) else next(iter(twin or ()))
