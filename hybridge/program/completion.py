"""The command ``completion`` that each program has: what a shell needs to complete its words."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command("completion", short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, /, *, shell: str) -> None:
    """Print the completion script of a shell; docs/configuration.md says where to put it."""
    root = context.find_root()
    program = root.info_name or ""
    found = get_completion_class(shell)
    if found is None:  # pragma: no cover - click knows all three
        raise click.UsageError(f"click knows no completion for {shell}", context)
    variable = f"_{program}_complete".replace("-", "_").upper()
    click.echo(found(root.command, {}, program, variable).source())
