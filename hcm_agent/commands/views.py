"""``hcm list`` and ``hcm show``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hcm_agent.commands.endless import until_ended
from hcm_agent.commands.options import (
    json_option,
    name_options,
    print_json,
    service,
    state_option,
)
from hybridge.program.help_screen import Command
from hybridge.protocol.errors import RelayError


@click.command(
    "list",
    cls=Command,
    short_help="Show every hybrid connection and its endpoint.",
    epilog="""\b
Examples:
  hcm list --watch
  hcm list --json""",
)
@click.option("--watch", is_flag=True, help="Go on, and show each change. Ctrl-C ends it.")
@state_option
@json_option
def list_(*, watch: bool, state: Path | None, as_json: bool) -> None:
    """Show every hybrid connection, and whether its endpoint can be reached.

    The second line of each is what the relay's status does not tell. With --watch and --json each
    change is one line.
    """
    if watch:
        _watch(state, as_json=as_json)
        return
    found = service(state).get("/hybrid-connections")
    if as_json:
        print_json(found)
    else:
        from hcm_agent.commands import table

        table.print_list(found)


def _watch(state: Path | None, *, as_json: bool) -> None:
    lines = service(state).lines("/changes")
    with until_ended():
        if as_json:
            for line in lines:
                click.echo(line)
        else:
            from hcm_agent.commands import table

            table.show_live(json.loads(line) for line in lines)
        raise RelayError(
            "the service has ended", hint="'hcm run' or your service manager starts it"
        )


@click.command(
    cls=Command,
    epilog="""\b
Example:
  hcm show -ns contoso -n orders""",
)
@name_options
@state_option
@json_option
def show(*, namespace: str, name: str, state: Path | None, as_json: bool) -> None:
    """Show all that is known of one hybrid connection."""
    found = service(state).post("/show", namespace=namespace, name=name)
    if as_json:
        print_json(found)
    else:
        from hcm_agent.commands import table

        table.print_one(found)
