"""The command ``app-client hosts``."""

from __future__ import annotations

import asyncio
import json
import logging
import shlex
from pathlib import Path

import click

from app_client.forwarder import read_metadata
from app_client.hosts import Found, HostsEntry, count_lines, entries, lines, warn_of_others
from app_client.hosts_file import HostsFile, default_hosts_file
from app_client.local_port import LocalAddress
from app_client.placement import Placement
from app_client.settings import ClientSettings, ClientSources, Forward
from app_client.target_lookup import ask_for_target
from hybridge.program import logs
from hybridge.program.advice import advice
from hybridge.program.command_line import FILE
from hybridge.program.help_screen import Command
from hybridge.program.proxy_setting import given_proxy
from hybridge.program.sdk_options import (
    check_ca,
    config_option,
    connection_string_options,
    given_connection_strings,
    relay_options,
)
from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import RelayError
from hybridge.transport.unix_listening import UnixAddress

logger = logging.getLogger(__name__)


@click.command(
    cls=Command,
    epilog="""\b
Example:
  sudo app-client hosts --config client.json --apply""",
)
@config_option("APP_CLIENT")
@connection_string_options("APP_CLIENT", claim="Send")
@relay_options("APP_CLIENT", goes_on=False)
@click.option(
    "--apply", "applies", is_flag=True, help="Write them into the hosts file, as a block."
)
@click.option("--remove", "removes", is_flag=True, help="Take that block away.")
@click.option(
    "--file",
    type=FILE,
    metavar="FILE",
    envvar="APP_CLIENT_HOSTS_FILE",
    help="Another one than the system's.",
)
@click.option("--json", "as_json", is_flag=True, help="All that is known, as JSON.")
@click.pass_context
def hosts(
    context: click.Context,
    /,
    *,
    config: Path | None,
    ca: Path | None,
    connect_to: tuple[str, int] | None,
    proxy: str | None,
    applies: bool,
    removes: bool,
    file: Path | None,
    as_json: bool,
    **_: object,
) -> int:
    """Print the hosts lines with which an app reaches its targets by name."""
    logs.configure(program="app-client", log_format="text", verbose=False)
    if applies and removes:
        raise click.UsageError("--apply and --remove exclude each other", context)
    hosts_file = the_hosts_file(file, config, verb="hosts --remove" if removes else "hosts --apply")
    if removes:
        changed = hosts_file.write([])
        _say(as_json, hosts_file, [], "lines removed" if changed else "nothing to remove")
        return 0
    sources = ClientSources(
        config=config,
        connection_strings=given_connection_strings(context),
        ca=ca,
        connect_to=connect_to,
        proxy=given_proxy(proxy),
    )
    settings = sources.load()
    check_ca(settings.ca)
    told, failures = asyncio.run(_look_up(settings))
    found = lines(told)
    for entry in told:
        if entry.problem:
            _warn(f"{entry.hybrid_connection}: no line: {entry.problem}", entry.next_step)
    if applies:
        if failures:
            raise failures[0]
        for text in warn_of_others(hosts_file, told):
            _warn(text)
        changed = hosts_file.write(found)
        state = "written" if changed else "there already"
        _say(as_json, hosts_file, told, f"{count_lines(found)} {state}")
        return 0
    if as_json:
        click.echo(json.dumps({"hosts": [entry.to_fields() for entry in told]}, indent=2))
    else:
        for line in found:
            click.echo(line)
    if failures:
        raise failures[0]
    return 0


def the_hosts_file(
    path: Path | None, config: Path | None, *, verb: str = "hosts --apply"
) -> HostsFile:
    """Give the hosts file to work on, with the command that may write it as its advice."""
    words = [f"app-client {verb}"]
    if config is not None and "--apply" in verb:
        words.append(f"--config {shlex.quote(str(config))}")
    if path is not None:
        words.append(f"--file {shlex.quote(str(path))}")
    # sudo has a path and an environment of its own: neither may lose what this process was given.
    advice = f'sudo -E env "PATH=$PATH" {" ".join(words)}'
    return HostsFile(path or default_hosts_file(), advice=advice)


async def _look_up(settings: ClientSettings) -> tuple[list[HostsEntry], list[RelayError]]:
    """Ask the relay once for each target that is not known; give also why some are not."""

    async def target_of(forward: Forward) -> tuple[str, int] | RelayError:
        if forward.target is not None:
            return forward.target
        try:
            return await ask_for_target(lambda: read_metadata(forward, settings))
        except RelayError as error:
            return _named(error, forward)

    targets = await asyncio.gather(*(target_of(forward) for forward in settings.forwards))
    placement = Placement()
    found: list[Found] = []
    failures: list[RelayError] = []
    for forward, target in zip(settings.forwards, targets, strict=True):
        if isinstance(target, RelayError):
            failures.append(target)
        else:
            address = _address(forward, target, placement)
            found.append(Found(forward=forward, target=target, address=address))
    return entries(found), failures


def _address(forward: Forward, target: tuple[str, int], placement: Placement) -> LocalAddress:
    if forward.listen is None:
        return placement.place(forward, target)
    if isinstance(forward.listen, UnixAddress):
        return str(forward.listen.path), 0
    return forward.listen


def _named(error: RelayError, forward: Forward) -> RelayError:
    return RelayError(f"{forward.name}: {error}", hint=advice(error, claim=Claim.SEND))


def _say(as_json: bool, file: HostsFile, told: list[HostsEntry], text: str) -> None:
    if as_json:
        fields = {"file": str(file.path), "hosts": [entry.to_fields() for entry in told]}
        click.echo(json.dumps(fields, indent=2))
    else:
        click.echo(f"{file.path}: {text}")


def _warn(text: str, next_step: str = "") -> None:
    click.echo(f"app-client: warning: {text}", err=True)
    if next_step:
        click.echo(f"app-client: hint: {next_step}", err=True)
