"""``hcm test``, ``hcm logs`` and ``hcm version``."""

from __future__ import annotations

from pathlib import Path

import click

from hcm_agent.commands.endless import until_ended
from hcm_agent.commands.options import (
    PROGRAM,
    directory_of,
    json_option,
    print_json,
    service,
    state_option,
)
from hybridge.program.command_line import EXIT_DONE, EXIT_FAILED
from hybridge.program.help_screen import Command
from hybridge.program.sdk_options import check_ca, relay_options
from hybridge.protocol.errors import RelayError

DEFAULT_LINES = 100
"""Of the log, without ``--lines``."""


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  hcm test db.corp.local:5432
  hcm test contoso.servicebus.windows.net""",
)
@click.argument("endpoint")
@relay_options("HCM", goes_on=False)
@state_option
@json_option
def test(
    *,
    endpoint: str,
    ca: Path | None,
    connect_to: tuple[str, int] | None,
    proxy: str | None,
    state: Path | None,
    as_json: bool,
) -> int:
    """Try to reach an endpoint, as the service sees it.

    HOST:PORT is connected to by TCP. A namespace's host, or https://HOST:PORT, is asked for its
    root by HTTPS, which must answer 2xx. Where no service runs, this command tries by itself, with
    --ca, --connect-to and --proxy; a service has its own.
    """
    from hcm_agent.control.door import ServiceNotRunning

    try:
        found = service(state).post("/test", endpoint=endpoint)
        view = "service"
    except ServiceNotRunning:
        found = _try_here(endpoint, ca=ca, connect_to=connect_to, proxy=proxy)
        view = "command"
    if as_json:
        print_json({**found, "SeenFrom": view})
    else:
        _print_trial(found, view)
    return EXIT_DONE if found["Reachable"] else EXIT_FAILED


def _try_here(
    endpoint: str, *, ca: Path | None, connect_to: tuple[str, int] | None, proxy: str | None
) -> dict[str, object]:
    import asyncio

    from hcm_agent.endpoint_test import RelayRoute, try_endpoint
    from hybridge.program.proxy_setting import choose_proxy, given_proxy

    check_ca(ca)
    route = RelayRoute(
        ca=ca,
        connect_to=connect_to,
        proxy=choose_proxy(given_proxy(proxy), None, key="Proxy"),
    )
    return asyncio.run(try_endpoint(endpoint, route)).to_fields()


def _print_trial(found: dict[str, object], view: str) -> None:
    who = "the service" if view == "service" else "this command (no service runs)"
    where = f"{found['Endpoint']} from {who}, by {found['Kind']}"
    if not found["Reachable"]:
        raise RelayError(f"cannot reach {where}: {found['Error']}", hint=str(found["Hint"]))
    status = f", HTTP {found['HttpStatus']}" if found["HttpStatus"] else ""
    click.echo(f"reached {where}{status}, in {found['Milliseconds']} ms")


@click.command(
    "logs",
    cls=Command,
    epilog="""\b
Example:
  hcm logs --follow""",
)
@click.option("--lines", type=click.IntRange(1), default=DEFAULT_LINES, help="How many.  [100]")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes. Ctrl-C ends it.")
@state_option
@json_option
def logs_(*, lines: int, follow: bool, state: Path | None, as_json: bool) -> None:
    """Show the last lines of the service's log, at most 1,000.

    They are kept in its memory since it started. The whole log is where its standard error goes:
    the journal, or your container's log.
    """
    query = f"/logs?lines={lines}{'&follow' if follow else ''}{'&json' if as_json else ''}"
    with until_ended():
        for line in service(state).lines(query):
            click.echo(line)


@click.command("version", cls=Command)
@state_option
@json_option
def version_(*, state: Path | None, as_json: bool) -> None:
    """Show the version of this command and of the service that runs."""
    from importlib.metadata import version

    from hcm_agent.control.door import ServiceNotRunning

    ours = version("hybridge")
    found: dict[str, object] | None = None
    if directory_of(state) is not None:
        try:
            told = service(state).get("/version")
            found = told if isinstance(told, dict) else None
        except ServiceNotRunning:
            found = None
    if as_json:
        print_json({"Version": ours, "Service": found})
        return
    click.echo(f"{PROGRAM} {ours}")
    if found is None:
        click.echo("service: does not run")
    else:
        click.echo(f"service: {found['Version']}, process {found['Process']}")
