"""``hcm add``, ``hcm remove`` and ``hcm restart``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hcm_agent.commands.options import (
    json_option,
    name_options,
    print_json,
    service,
    state_option,
)
from hybridge.program.command_line import FILE, OnePerLine
from hybridge.program.help_screen import Command
from hybridge.protocol.errors import InvalidSetting

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_INPUT_CHARACTERS = 65_536
"""Longest standard input that is looked into."""


@click.command(
    cls=Command,
    short_help="Serve one more hybrid connection.",
    epilog="""\b
Examples:
  hcm add --connection-string-file orders.txt
  vault read -field=value orders | hcm add - --target db.corp.local:5432""",
)
@click.argument("connection_string", required=False, envvar="HCM_CONNECTION_STRING")
@click.option(
    "--connection-string-file",
    "file",
    type=FILE,
    metavar="FILE",
    envvar="HCM_CONNECTION_STRING_FILE",
    help="The same from a file.",
)
@click.option(
    "--target",
    "targets",
    type=OnePerLine(),
    multiple=True,
    metavar="HOST:PORT",
    help="Where to; otherwise as the relay says.",
)
@click.option("--azbridge", is_flag=True, help="For azbridge senders; --target NAME/HOST:PORT")
@state_option
@json_option
def add(
    *,
    connection_string: str | None,
    file: Path | None,
    targets: tuple[str, ...],
    azbridge: bool,
    state: Path | None,
    as_json: bool,
) -> None:
    """Serve one more hybrid connection, from now on and after restarts.

    CONNECTION_STRING is that of a rule with Listen; - reads it from standard input. On a command
    line others on this machine can see it.
    """
    text = _given(connection_string, file)
    found = service(state).post(
        "/add", connectionString=text, targets=list(targets), azbridge=azbridge
    )
    _tell(found, "added", as_json=as_json)


def _given(text: str | None, file: Path | None) -> str:
    """Give the connection string, checked before anything is asked of the service."""
    from hybridge.program.connection_strings import parse_for_one, parse_one
    from hybridge.protocol.connection_string import serialize

    context = click.get_current_context()
    source = context.get_parameter_source("connection_string")
    if file is not None and source is not click.core.ParameterSource.COMMANDLINE:
        text = None
    if text is None and file is None:
        raise InvalidSetting(
            "connection string",
            "none is given",
            hint="name a file with --connection-string-file, or pipe it into 'hcm add -'",
        )
    if text is not None and context.get_parameter_source("file") is source:
        raise InvalidSetting(
            "connection string",
            "is given twice, and in a file",
            hint="leave one of them out: the file is the one that nobody else sees",
        )
    if text is None:
        parsed = parse_one(None, file)
        if parsed is None:
            raise AssertionError("a file gives one or raises")
        text = serialize(parsed)
    if text.strip() == "-":
        text = _standard_input()
    return serialize(parse_for_one(text.strip(), source="connection string"))


def _standard_input() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Connection string", hide_input=True, err=True))
    try:
        return sys.stdin.read(MAX_INPUT_CHARACTERS)
    except UnicodeDecodeError:
        raise InvalidSetting(
            "connection string",
            "standard input is no text",
            hint="pipe in what the portal shows, as UTF-8",
        ) from None


@click.command(
    cls=Command,
    epilog="""\b
Example:
  hcm remove -ns contoso -n orders""",
)
@name_options
@state_option
@json_option
def remove(*, namespace: str, name: str, state: Path | None, as_json: bool) -> None:
    """Stop serving a hybrid connection that was added.

    Connections that run go on until they end.
    """
    found = service(state).post("/remove", namespace=namespace, name=name)
    if as_json:
        print_json(found)
    else:
        click.echo(f"removed: {found['Name']} in {found['Namespace']}")


@click.command(
    cls=Command,
    epilog="""\b
Example:
  hcm restart -ns contoso -n orders""",
)
@name_options
@state_option
@json_option
def restart(*, namespace: str, name: str, state: Path | None, as_json: bool) -> None:
    """Close the listener of a hybrid connection and open it again.

    Connections that run are not touched.
    """
    found = service(state).post("/restart", namespace=namespace, name=name)
    _tell(found, "restarted", as_json=as_json)


def _tell(found: Mapping[str, object], what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    click.echo(f"{what}: {found['Name']} in {found['Namespace']}, {found['Status']}")
    if found["LastError"]:
        click.echo(f"the service tries again: {found['LastError']}")
        click.echo(f"hint: {found['Hint']}")
