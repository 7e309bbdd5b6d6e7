"""The command ``hybridge doctor``."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from hybridge.program.command_line import EXIT_DONE, EXIT_FAILED, FILE, OnePerLine
from hybridge.program.help_screen import Command
from hybridge.program.host_port import TARGET
from hybridge.program.sdk_options import (
    check_ca,
    given_connection_strings,
)
from hybridge.protocol.errors import InvalidSetting

if TYPE_CHECKING:
    from devstack.doctor.case import Case


def twins(name: str) -> list[str]:
    """Give the variables of an option: its own, and those that the agent or the client has."""
    return [f"{prefix}_{name}" for prefix in ("HYBRIDGE", "HCM", "APP_CLIENT")]


MAX_TIMEOUT_SECONDS = 600.0
"""Longest that one step may be given."""

_WHAT = {
    "connection_strings": "a connection string",
    "connection_string_files": "a connection string",
    "config": "--config",
    "state": "--state",
}
"""The options that name what is examined."""


class _Seconds(click.ParamType):  # type: ignore[type-arg] # generic since click 8.4
    """The type of a waiting time; gives seconds."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            seconds = float(value)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= MAX_TIMEOUT_SECONDS:
            problem = f"{value!r} is no waiting time in seconds"
            hint = f"write a number of at most {MAX_TIMEOUT_SECONDS:g}, such as 10"
            raise InvalidSetting("--timeout", problem, hint=hint)
        return seconds


@click.command(
    "doctor",
    cls=Command,
    epilog="""\b
Example:
  hybridge doctor --connection-string "$ORDERS_SEND" --ca ca.pem""",
)
@click.option(
    "--connection-string",
    "connection_strings",
    type=OnePerLine(),
    multiple=True,
    metavar="TEXT",
    envvar=twins("CONNECTION_STRING"),
    help="From a rule with Listen or Send; repeatable.",
)
@click.option(
    "--connection-string-file",
    "connection_string_files",
    type=OnePerLine(FILE),
    multiple=True,
    metavar="FILE",
    envvar=twins("CONNECTION_STRING_FILE"),
    help="The same from a file.",
)
@click.option(
    "--config",
    type=FILE,
    metavar="FILE",
    envvar=twins("CONFIG"),
    help="The file of hcm or app-client.",
)
@click.option(
    "--state",
    type=FILE,
    metavar="DIR",
    help="Of the hcm service: what was added there.",
)
@click.option(
    "--as",
    "role",
    type=click.Choice(["listener", "sender"]),
    help="Which side; default: what the rule grants.",
)
@click.option(
    "--target",
    "targets",
    type=OnePerLine(),
    multiple=True,
    metavar="HOST:PORT",
    envvar=["HYBRIDGE_TARGET", "HCM_TARGET"],
    help="Where the agent connects to.",
)
@click.option(
    "--allow-target",
    "allow_targets",
    type=OnePerLine(),
    multiple=True,
    envvar="HCM_ALLOW_TARGET",
    hidden=True,
)
@click.option(
    "--ca",
    type=FILE,
    metavar="FILE",
    envvar=twins("CA"),
    help="Trust these certificates too, PEM.",
)
@click.option(
    "--connect-to",
    type=TARGET,
    metavar="HOST:PORT",
    envvar=twins("CONNECT_TO"),
    help="Dial this, not the namespace's host.",
)
@click.option(
    "--proxy",
    metavar="URL|@FILE",
    envvar=twins("PROXY"),
    help="HTTP or SOCKS5; none for none.  [HTTPS_PROXY]",
)
@click.option("--round-trip", is_flag=True, help="Listen for a moment too; takes both keys.")
@click.option(
    "--timeout",
    type=_Seconds(),
    default=10.0,
    metavar="SECONDS",
    help="How long each step may take.  [10]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def doctor(
    context: click.Context,
    /,
    *,
    config: Path | None,
    state: Path | None,
    role: str | None,
    targets: tuple[str, ...],
    allow_targets: tuple[str, ...],
    ca: Path | None,
    connect_to: tuple[str, int] | None,
    proxy: str | None,
    round_trip: bool,
    timeout: float,
    as_json: bool,
    **_: object,
) -> int:
    """Find out why there is no connection, step by step, and what to do."""
    from devstack.doctor.case import Case, Role
    from devstack.doctor.given import (
        check_proxies,
        is_udp_only,
        read_allow_list,
        read_config,
        read_state,
        read_targets,
    )
    from hybridge.program.proxy_setting import choose_proxy, given_proxy
    from hybridge.protocol.secret import Secret

    check_ca(ca)
    given = given_connection_strings(context)
    way = Case(
        text=Secret(""),
        role=None if role is None else Role(role),
        targets=read_targets(targets),
        takes_datagrams=is_udp_only(targets),
        allow_list=read_allow_list(allow_targets),
        ca=ca,
        connect_to=connect_to,
        proxy=choose_proxy(given_proxy(proxy), None, key="Proxy"),
        timeout_seconds=timeout,
    )
    sources = {name: context.get_parameter_source(name) for name in _WHAT}
    typed = {_WHAT[name] for name, from_ in sources.items() if from_ is ParameterSource.COMMANDLINE}
    if len(typed) > 1:
        raise click.UsageError(
            f"{' and '.join(sorted(typed))} stand side by side; give one", context
        )
    if config is not None and ("--config" in typed or (not given and not typed)):
        cases = read_config(config, way)
    elif given and "--state" not in typed:
        cases = [dataclasses.replace(way, text=Secret(text)) for text in given.read()]
    else:
        cases = read_state(state, way)
    if not cases:
        raise InvalidSetting(
            "connection string",
            "none is given",
            hint="give --config or --connection-string-file, or add one with hcm add",
        )
    check_proxies(cases)
    return asyncio.run(_examine(cases, round_trip=round_trip, as_json=as_json))


async def _examine(cases: list[Case], *, round_trip: bool, as_json: bool) -> int:
    """Examine all cases, one after the other, and print what is found as it is found."""
    from devstack.doctor import report
    from devstack.doctor.examination import Examination, pair
    from devstack.doctor.paper import Paper

    paper = Paper(sys.stdout, is_silent=as_json)
    examinations = []
    for case in cases:
        examination = Examination(case=case)
        examinations.append(examination)
        is_first = True
        async for finding in examination.run():
            if is_first:
                paper.heading(examination)
                is_first = False
            paper.finding(finding)
    missing: InvalidSetting | None = None
    if round_trip:
        try:
            both = pair(examinations)
        except InvalidSetting as error:
            both, missing = None, error
        if both is not None:
            paper.finding(await both[0].run_round_trip(both[1]))
    if as_json:
        fields = report.fields(examinations, version=version("hybridge"), now=time.time())
        click.echo(json.dumps(fields, indent=2))
    paper.line()
    for line in report.conclusion(examinations):
        paper.line(line)
    if missing is not None:
        raise missing
    return EXIT_DONE if all(each.cause is None for each in examinations) else EXIT_FAILED
