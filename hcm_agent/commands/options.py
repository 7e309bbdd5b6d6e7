"""The flags that the verbs have in common."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hcm_agent.state_directory import StateDirectory, find_state_directory
from hybridge.program.command_line import FILE
from hybridge.protocol.errors import RelayError

if TYPE_CHECKING:
    from pathlib import Path

    from hcm_agent.control.client import ServiceClient

PROGRAM = "hcm"

Function = TypeVar("Function", bound=Callable[..., Any])

state_option = click.option(
    "--state",
    type=FILE,
    metavar="DIR",
    envvar="HCM_STATE",
    help="Directory of the service; none: no verbs.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="For programs, as JSON.")


def name_options(function: Function) -> Function:
    """``-ns`` and ``-n``: which hybrid connection."""
    function = click.option(
        "-n",
        "--name",
        required=True,
        metavar="NAME",
        shell_complete=_complete,
        help="Name of the hybrid connection.",
    )(function)
    return click.option(
        "-ns",
        "--namespace",
        required=True,
        metavar="NAMESPACE",
        shell_complete=_complete,
        help="Its namespace, or its host.",
    )(function)


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Give the names that the running service knows and that fit what is typed already."""
    namespace = str(context.params.get("namespace") or "").lower()
    try:
        rows = service(context.params.get("state")).get("/hybrid-connections")
    except (OSError, RelayError):
        return []  # Nothing may be printed into a line that is being typed.
    known = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    if parameter.name == "name":
        known = [row for row in known if namespace in ("", str(row.get("Namespace")).lower())]
    found = {str(row.get("Name" if parameter.name == "name" else "Namespace")) for row in known}
    return sorted(each for each in found if each.lower().startswith(incomplete.lower()))


def directory_of(state: Path | None) -> StateDirectory | None:
    """Find the service's directory."""
    return find_state_directory(state, environment=os.environ)


def service(state: Path | None) -> ServiceClient:
    """Give the service to ask.

    Raises:
        InvalidSetting: It is one without verbs.
    """
    # Brings http.client, and 'hcm run' does without.
    from hcm_agent.control.client import ServiceClient

    return ServiceClient(directory_of(state))


def print_json(found: object) -> None:
    """Print a JSON document for people and programs."""
    has_all = (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"
    click.echo(json.dumps(found, indent=2, ensure_ascii=not has_all))
