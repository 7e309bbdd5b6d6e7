"""What ``hcm list`` and ``hcm show`` print for people, good at 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hybridge.protocol.redaction import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

_COLOURS = {"Connected": "green", "Disconnected": "red", "NotFound": "yellow"}

NARROW_COLUMNS = 60
"""On a terminal that has fewer a table would have a word on three lines."""

_SHOWN = (
    "Namespace",
    "Name",
    "Endpoint",
    "Status",
    "NumberOfListeners",
    "ServiceBusEndpoint",
    "CreatedOn",
    "LastUpdated",
    "StatusSince",
    "OpenConnections",
    "KeyName",
    "Source",
)
"""Fields that `print_one` shows as they are."""


def print_list(found: object) -> None:
    """Print all hybrid connections."""
    _print(_listing(found, _console().width))


def print_one(found: Mapping[str, object]) -> None:
    """Print one hybrid connection, a field a line."""
    lines = Table.grid(padding=(0, 2))
    for name in _SHOWN:
        lines.add_row(Text(name), _status(found) if name == "Status" else Text(_value(found[name])))
    if isinstance(allowed := found["AllowedTargets"], list):
        lines.add_row(Text("AllowedTargets"), Text(", ".join(map(_value, allowed)) or "none"))
    lines.add_row(Text("Reachable"), _reachable(found))
    if found["LastError"]:
        lines.add_row(Text("LastError"), Text(_value(found["LastError"])))
        lines.add_row(Text("Hint"), Text(_value(found["Hint"])))
    _print(lines)


def _print(shown: RenderableType) -> None:
    console = _console()
    with console.capture() as captured:
        console.print(shown)
    # Without the blanks that fill each line up.
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def show_live(lists: Iterable[object]) -> None:
    """Show each list in the place of the one before, until there are no more.

    Where standard output is no terminal they are printed one after the other.
    """
    console = _console()
    if not console.is_terminal:
        for found in lists:
            _print(_listing(found, console.width))
        return
    with Live(console=console, auto_refresh=False) as live:
        for found in lists:
            live.update(_listing(found, console.width), refresh=True)


def _console() -> Console:
    return Console(highlight=False)


def _listing(found: object, columns: int) -> RenderableType:
    entries = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    if not entries:
        return Text("nothing is served yet: hcm add")
    if columns < NARROW_COLUMNS:
        return Group(*(_stacked(each) for each in entries), *_reasons(entries))
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("Name", overflow="fold")
    table.add_column("Namespace", overflow="fold")
    table.add_column("Status", no_wrap=True)
    table.add_column("Endpoint", overflow="fold")
    table.add_column("Open", justify="right", no_wrap=True)
    for each in entries:
        endpoint = Text(f"{_value(each['Endpoint'] or None)}\n")
        table.add_row(
            Text(_value(each["Name"])),
            Text(_value(each["Namespace"])),
            _status(each),
            endpoint.append_text(_reachable(each, with_reason=False)),
            Text(_value(each["OpenConnections"])),
        )
    return Group(table, *_reasons(entries))


def _stacked(found: Mapping[str, object]) -> Text:
    """Show one without columns."""
    text = Text(f"{_value(found['Name'])} in {_value(found['Namespace'])}: ")
    text.append_text(_status(found)).append(f"\n  {_value(found['Endpoint'] or None)}")
    text.append(f", {_value(found['OpenConnections'])} open\n  ")
    return text.append_text(_reachable(found, with_reason=False))


def _reasons(entries: Iterable[Mapping[str, object]]) -> list[Text]:
    return [Text(line) for each in entries for line in _troubles(each)]


def _troubles(found: Mapping[str, object]) -> list[str]:
    """Say why, below the table, where there is room."""
    name, lines = _value(found["Name"]), []
    if found["LastError"]:
        lines.append(f"{name}: {_value(found['LastError'])}\n  {_value(found['Hint'])}")
    if found["EndpointReachable"] is False:
        lines.append(f"{name}, endpoint: {_value(found['EndpointLastError'])}")
    return lines


def _status(found: Mapping[str, object]) -> Text:
    status = _value(found["Status"])
    return Text(status, style=_COLOURS.get(status, ""))


def _reachable(found: Mapping[str, object], *, with_reason: bool = True) -> Text:
    """Say the honest second line: what stands behind the agent."""
    since = f" since {_clock(found['EndpointSince'])}" if found["EndpointSince"] else ""
    match found["EndpointReachable"]:
        case True:
            return Text(f"reachable{since}", style="green")
        case False:
            reason = f": {_value(found['EndpointLastError'])}" if with_reason else ""
            return Text(f"not reachable{since}{reason}", style="red")
        case _:
            return Text("not tried yet", style="dim")


def _clock(time: object) -> str:
    """Write a time as people read it: the time alone if it is today's. In UTC, as the log is."""
    then, now = datetime.fromisoformat(str(time)), datetime.now(UTC)
    return f"{then:%H:%M:%S}Z" if then.date() == now.date() else f"{then:%Y-%m-%d %H:%M}Z"


def _value(value: object) -> str:
    # Some of it is the relay's own words.
    return "unknown" if value is None else one_line(str(value))
