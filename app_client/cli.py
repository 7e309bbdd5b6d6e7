"""The command ``app-client``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from app_client.client import Client
from app_client.hosts import HostsKeeper
from app_client.hosts_cli import hosts, the_hosts_file
from app_client.hosts_file import HostsFile
from app_client.local_port import (
    LocalAddress,
    LocalPort,
    local_address_fields,
    show_local_address,
)
from app_client.settings import DEFAULT_LISTEN_HOST, ClientSources
from hybridge.program import lifetime, logs
from hybridge.program.command_line import FILE, announce, run_command
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
        default_host=DEFAULT_LISTEN_HOST,
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
@click.option(
    "--hosts",
    "keeps_hosts",
    is_flag=True,
    envvar="APP_CLIENT_HOSTS",
    help="Keep the targets' names in the hosts file.",
)
@click.option(
    "--hosts-file",
    type=FILE,
    metavar="FILE",
    envvar="APP_CLIENT_HOSTS_FILE",
    help="Another one than the system's.",
)
@relay_options("APP_CLIENT")
@click.pass_context
def run(
    context: click.Context,
    /,
    *,
    config: Path | None,
    keeps_hosts: bool,
    hosts_file: Path | None,
    ca: Path | None,
    connect_to: tuple[str, int] | None,
    proxy: str | None,
    ready_file: Path | None,
    log_format: LogFormat,
    verbose: bool,
    **_: object,
) -> int:
    """Open a local port for each hybrid connection, at an address of its own.

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
    file = None
    if keeps_hosts or hosts_file is not None:
        file = the_hosts_file(hosts_file, config)
    return _serve(sources, ready_file=ready_file, log_format=log_format, file=file)


def _serve(
    sources: ClientSources,
    *,
    ready_file: Path | None,
    log_format: LogFormat,
    file: HostsFile | None = None,
) -> int:
    settings = sources.load()
    check_ca(settings.ca)
    max_connections = raise_descriptor_limit(descriptors_per_connection=DESCRIPTORS_PER_CONNECTION)

    def tell(local: LocalPort, address: LocalAddress) -> None:
        text = f"{local.name}: listening on {show_local_address(local.protocol, address)}"
        fields = local_address_fields(local.protocol, address)
        if local.target is not None:
            fields["endpoint"] = format_host_port(*local.target)
            text += f", leads to {fields['endpoint']}"
        announce(log_format, text, event="listening", hybrid_connection=local.name, **fields)

    async def serve(life: lifetime.Lifetime) -> None:
        client = Client(
            settings,
            max_connections=max_connections,
            announce=tell,
            load=sources.load,
            ready_file=ready_file,
            hosts=HostsKeeper(file) if file is not None else None,
        )
        await client.run(life)

    return lifetime.run(serve)


cli.add_command(completion)


cli.add_command(hosts)


def main() -> None:
    """Run ``app-client``."""
    run_command(cli, PROGRAM)
