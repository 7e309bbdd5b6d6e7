"""The command ``hcm``."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Literal

import click

from hcm_agent.commands.entries import add, remove, restart
from hcm_agent.commands.options import PROGRAM, state_option
from hcm_agent.commands.service_verbs import logs_, test, version_
from hcm_agent.commands.views import list_, show
from hcm_agent.state_directory import find_state_directory
from hybridge.program import early_signals, logs
from hybridge.program.command_line import OnePerLine, run_command
from hybridge.program.completion import completion
from hybridge.program.help_screen import Group
from hybridge.program.proxy_setting import given_proxy
from hybridge.program.sdk_options import (
    check_ca,
    config_option,
    connection_string_options,
    given_connection_strings,
    relay_options,
)

__all__ = ["PROGRAM", "cli", "main"]


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Example, on the computer that reaches db.corp.local:
  hcm run --connection-string "$ORDERS_LISTEN" --target db.corp.local:5432""",
)
@click.version_option(package_name="hybridge", prog_name=PROGRAM)
@click.pass_context
def cli(context: click.Context, /) -> None:
    """Connect TCP services on this network to Azure Relay hybrid connections."""
    if context.invoked_subcommand != run.name:
        early_signals.restore()  # A verb that is cut off has not done what it was asked for.


@cli.command(
    epilog="""\b
Example:
  hcm run --connection-string "$ORDERS_LISTEN" --target db.corp.local:5432"""
)
@config_option("HCM")
@connection_string_options("HCM", claim="Listen")
@click.option(
    "--target",
    "targets",
    type=OnePerLine(),
    multiple=True,
    metavar="HOST:PORT",
    envvar="HCM_TARGET",
    help="Where to; http[s]://HOST:PORT/PATH for HTTP.",
)
@click.option(
    "--azbridge",
    is_flag=True,
    envvar="HCM_AZBRIDGE",
    help="For azbridge senders; --target NAME/HOST:PORT",
)
@click.option(
    "--allow-target",
    "allow_targets",
    type=OnePerLine(),
    multiple=True,
    metavar="HOST:PORT",
    envvar="HCM_ALLOW_TARGET",
    help="Go nowhere else: *.corp.local:*; repeatable.",
)
@state_option
@click.option(
    "--keys",
    type=click.Choice(["file", "keyring"]),
    default="file",
    envvar="HCM_KEYS",
    help="Where 'hcm add' keeps keys.  [file]",
)
@click.option(
    "--control",
    type=click.Choice(["socket", "loopback"]),
    default="socket" if hasattr(socket, "AF_UNIX") else "loopback",
    envvar="HCM_CONTROL",
    help="How the verbs reach it.  [socket]",
)
@relay_options("HCM")
@click.pass_context
def run(
    context: click.Context,
    /,
    *,
    config: Path | None,
    targets: tuple[str, ...],
    azbridge: bool,
    allow_targets: tuple[str, ...],
    state: Path | None,
    keys: str,
    control: str,
    ca: Path | None,
    connect_to: tuple[str, int] | None,
    proxy: str | None,
    ready_file: Path | None,
    log_format: Literal["text", "json"],
    verbose: bool,
    **_: object,
) -> int:
    """Connect TCP services on this network to hybrid connections. Dials out only."""
    # This is what takes the time, and the verbs do without.
    from hcm_agent.control.door import Door
    from hcm_agent.key_storage import Keys
    from hcm_agent.running import run_service
    from hcm_agent.settings import AgentSources

    logs.configure(program=PROGRAM, log_format=log_format, verbose=verbose)
    sources = AgentSources(
        config=config,
        connection_strings=given_connection_strings(context),
        targets=targets,
        azbridge=azbridge,
        allow_targets=allow_targets,
        ca=ca,
        connect_to=connect_to,
        proxy=given_proxy(proxy),
    )
    check_ca(ca)
    return run_service(
        sources,
        program=PROGRAM,
        state=find_state_directory(state, environment=os.environ),
        keys=Keys(keys),
        door=Door(control),
        ready_file=ready_file,
    )


for verb in (add, list_, show, remove, restart, test, logs_, version_, completion):
    cli.add_command(verb)


def main() -> None:
    """Run ``hcm``."""
    run_command(cli, PROGRAM)
