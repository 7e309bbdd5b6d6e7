"""The command ``hcm``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import click

from hcm_agent.agent import Agent
from hcm_agent.settings import AgentSources, require_some
from hybridge.program import lifetime, logs
from hybridge.program.command_line import OnePerLine, run_command
from hybridge.program.completion import completion
from hybridge.program.help_screen import Group
from hybridge.program.limits import raise_descriptor_limit
from hybridge.program.proxy_setting import given_proxy
from hybridge.program.sdk_options import (
    check_ca,
    config_option,
    connection_string_options,
    given_connection_strings,
    relay_options,
)

PROGRAM = "hcm"

DESCRIPTORS_PER_CONNECTION = 2
"""The rendezvous and the target."""

RESERVED_DESCRIPTORS = 256
"""For control channels, metadata, refusals over the limit, and the log."""

logger = logging.getLogger(__name__)


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Example, on the computer that reaches db.corp.local:
  hcm run --connection-string "$ORDERS_LISTEN" --target db.corp.local:5432""",
)
@click.version_option(package_name="hybridge", prog_name=PROGRAM)
def cli() -> None:
    """Connect TCP services on this network to Azure Relay hybrid connections."""


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
    ca: Path | None,
    connect_to: tuple[str, int] | None,
    proxy: str | None,
    ready_file: Path | None,
    log_format: Literal["text", "json"],
    verbose: bool,
    **_: object,
) -> int:
    """Connect TCP services on this network to hybrid connections. Dials out only.

    Without --target a connection goes where the relay's metadata says. Connection strings given
    here take the place of the file's.
    """
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
    settings = require_some(sources.load())
    check_ca(ca)
    max_connections = raise_descriptor_limit(
        descriptors_per_connection=DESCRIPTORS_PER_CONNECTION, reserve=RESERVED_DESCRIPTORS
    )
    logger.info(
        "room for %d connections",
        max_connections,
        extra={"event": "limits", "max_connections": max_connections},
    )

    async def serve(life: lifetime.Lifetime) -> None:
        agent = Agent(
            settings,
            load=lambda: require_some(sources.load()),
            max_connections=max_connections,
            ready_file=ready_file,
        )
        await agent.run(life)

    return lifetime.run(serve)


cli.add_command(completion)


def main() -> None:
    """Run ``hcm``."""
    run_command(cli, PROGRAM)
