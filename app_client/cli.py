"""The command ``app-client``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import click

from app_client.client import Client
from app_client.local_port import LocalPort
from app_client.settings import UDP_SCHEME, ClientSources
from hybridge.program import lifetime, logs
from hybridge.program.command_line import announce, run_command
from hybridge.program.completion import completion
from hybridge.program.help_screen import Group
from hybridge.program.host_port import format_host_port
from hybridge.program.limits import raise_descriptor_limit
from hybridge.program.proxy_setting import given_proxy
from hybridge.program.sdk_options import (
    check_ca,
    config_option,
    connection_string_options,
    given_connection_strings,
    relay_options,
)

PROGRAM = "app-client"

DESCRIPTORS_PER_CONNECTION = 3
"""The application, the relay, and the reset watch while the relay is dialled."""

LogFormat = Literal["text", "json"]

logger = logging.getLogger(__name__)


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Example, on the application's computer:
  app-client forward --connection-string "$ORDERS" --listen localhost:5432""",
)
@click.version_option(package_name="hybridge", prog_name=PROGRAM)
def cli() -> None:
    """Open local ports that lead to targets behind Azure Relay hybrid connections."""


@cli.command(
    epilog="""\b
Example:
  app-client forward --connection-string "$ORDERS" --listen localhost:5432"""
)
@connection_string_options("APP_CLIENT", claim="Send", is_repeatable=False)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    envvar="APP_CLIENT_LISTEN",
    help="Local address.  [127.0.0.1:target's port]",
)
@click.option(
    "--azbridge",
    is_flag=True,
    envvar="APP_CLIENT_AZBRIDGE",
    help="The other end speaks azbridge.",
)
@click.option(
    "--port-name",
    metavar="NAME",
    envvar="APP_CLIENT_PORT_NAME",
    help="What to ask azbridge for.  [local port]",
)
@relay_options("APP_CLIENT")
@click.pass_context
def forward(
    context: click.Context,
    /,
    *,
    listen: str | None,
    azbridge: bool,
    port_name: str | None,
    ca: Path | None,
    connect_to: tuple[str, int] | None,
    proxy: str | None,
    ready_file: Path | None,
    log_format: LogFormat,
    verbose: bool,
    **_: object,
) -> int:
    """Open one local port that leads to one hybrid connection's target."""
    logs.configure(program=PROGRAM, log_format=log_format, verbose=verbose)
    given = given_connection_strings(context)
    sources = ClientSources(
        connection_strings=given,
        listen=listen,
        azbridge=azbridge,
        port_name=port_name,
        ca=ca,
        connect_to=connect_to,
        proxy=given_proxy(proxy),
    )
    if len(given.texts) + len(given.files) > 1:
        raise click.UsageError("forward takes one connection string; use run for several", context)
    return _serve(sources, ready_file=ready_file, log_format=log_format)


@cli.command(
    epilog="""\b
Example:
  app-client run --config client.json"""
)
@config_option("APP_CLIENT")
@connection_string_options("APP_CLIENT", claim="Send")
@relay_options("APP_CLIENT")
@click.pass_context
def run(
    context: click.Context,
    /,
    *,
    config: Path | None,
    ca: Path | None,
    connect_to: tuple[str, int] | None,
    proxy: str | None,
    ready_file: Path | None,
    log_format: LogFormat,
    verbose: bool,
    **_: object,
) -> int:
    """Open a local port for each of several hybrid connections.

    Connection strings given here take the place of the file's.
    """
    logs.configure(program=PROGRAM, log_format=log_format, verbose=verbose)
    sources = ClientSources(
        config=config,
        connection_strings=given_connection_strings(context),
        ca=ca,
        connect_to=connect_to,
        proxy=given_proxy(proxy),
    )
    return _serve(sources, ready_file=ready_file, log_format=log_format)


def _serve(sources: ClientSources, *, ready_file: Path | None, log_format: LogFormat) -> int:
    settings = sources.load()
    check_ca(settings.ca)
    max_connections = raise_descriptor_limit(descriptors_per_connection=DESCRIPTORS_PER_CONNECTION)
    logger.info(
        "room for %d connections",
        max_connections,
        extra={"event": "limits", "max_connections": max_connections},
    )

    def tell(local: LocalPort, address: tuple[str, int]) -> None:
        host, port = address
        scheme = UDP_SCHEME if local.protocol == "udp" else ""
        announce(
            log_format,
            f"{local.name}: listening on {scheme}{format_host_port(host, port)}",
            event="listening",
            hybrid_connection=local.name,
            protocol=local.protocol,
            host=host,
            port=port,
        )

    async def serve(life: lifetime.Lifetime) -> None:
        client = Client(
            settings, max_connections=max_connections, announce=tell, ready_file=ready_file
        )
        await client.run(life)

    return lifetime.run(serve)


cli.add_command(completion)


def main() -> None:
    """Run ``app-client``."""
    run_command(cli, PROGRAM)
