"""The ``--help`` of every command, as docs/configuration.md shows it.

python -m tests.help_texts --write    bring the page up to date
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from click.testing import CliRunner

from app_client.cli import cli as app_client
from devstack.cli import cli as hybridge
from hcm_agent.cli import cli as hcm
from relay.cli import cli as hybridge_relay

CONFIGURATION = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"

PROGRAMS: dict[str, click.Command] = {
    "hybridge-relay": hybridge_relay,
    "hcm": hcm,
    "app-client": app_client,
    "hybridge": hybridge,
}
MODULES = {"relay": "hybridge-relay", "hcm_agent": "hcm", "app_client": "app-client"}
"""What ``python -m`` runs."""

LINES = 24
COLUMNS = 80
SHOWN_COLUMNS = COLUMNS - 2
"""What click uses of them."""

IN_EVERY_PROGRAM = "completion"
"""A command that is the same in all programs, and shown for the first."""

_BLOCK = re.compile(r"^```text\n\$ (?P<command>[^\n]+) --help\n(?P<text>.*?)^```$", re.M | re.S)


def commands() -> Iterator[tuple[str, click.Command]]:
    """Give every command with its full name: ``hcm run``."""
    for name, command in PROGRAMS.items():
        yield from _below(name, command)


def shown_once(name: str) -> bool:
    """Say whether the pages leave this command out, since they have it for another program."""
    return name.endswith(f" {IN_EVERY_PROGRAM}") and name != f"hcm {IN_EVERY_PROGRAM}"


def _below(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for sub in command.commands.values():
            yield from _below(f"{name} {sub.name}", sub)


def options(command: click.Command) -> list[click.Option]:
    return [each for each in command.params if isinstance(each, click.Option)]


def find(words: Sequence[str]) -> tuple[list[click.Command], list[str]]:
    """Find the commands that a command line names, outermost first, and what stands after them."""
    command = PROGRAMS[words[0]]
    found, rest = [command], list(words[1:])
    while isinstance(found[-1], click.Group):
        at = next((i for i, word in enumerate(rest) if word in found[-1].commands), None)
        if at is None:
            break
        found.append(found[-1].commands[rest.pop(at)])
    return found, rest


def help_text(name: str) -> str:
    program, *words = name.split()
    result = CliRunner().invoke(
        PROGRAMS[program],
        [*words, "--help"],
        prog_name=program,
        terminal_width=SHOWN_COLUMNS,
        env={},
    )
    if result.exit_code:
        raise AssertionError(result.output)
    return "\n".join(line.rstrip() for line in result.output.splitlines()) + "\n"


def shown(page: str) -> dict[str, str]:
    """Give the help texts that a page shows, by command."""
    return {block["command"]: block["text"] for block in _BLOCK.finditer(page)}


def main(arguments: list[str]) -> int:
    page = CONFIGURATION.read_text(encoding="utf-8")
    fresh = _BLOCK.sub(
        lambda block: f"```text\n$ {block['command']} --help\n{help_text(block['command'])}```",
        page,
    )
    if arguments == ["--write"]:
        CONFIGURATION.write_text(fresh, encoding="utf-8")
    elif fresh != page:
        sys.stderr.write(
            "docs/configuration.md shows old help: python -m tests.help_texts --write\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
