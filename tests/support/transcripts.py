"""Transcripts in the documentation: what is shown there is what happens.

A fenced block ``console`` has commands after ``$ `` and what they print, both streams together. In
the output ``...`` stands for anything: alone on a line for any lines, else for the rest of a word
or more. Lines of the log may be left out. ``$ echo $?`` shows the exit code of the command before.
``^C`` as the last line of output: the command goes on until Ctrl-C.

A block after ``<!-- file: NAME -->`` is the content of that file.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import signal
import string
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest

from app_client.cli import cli as app_client
from devstack.cli import cli as hybridge
from hcm_agent.cli import cli as hcm
from hybridge.program.command_line import run_command
from relay.cli import cli as hybridge_relay
from tests.support.command import logging_kept

COMMANDS: Mapping[str, click.Command] = {
    "hybridge-relay": hybridge_relay,
    "hcm": hcm,
    "app-client": app_client,
    "hybridge": hybridge,
}

LOOK_AGAIN_SECONDS = 0.005
"""How often a command that goes on is asked whether it has printed all that is shown."""

_BLOCK = re.compile(r"^```console\n(?P<body>.*?)^```$", re.M | re.S)
_LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\S+ [A-Z]+ ")
_FILE = re.compile(r"^<!-- file: (?P<name>\S+) -->\n```\w*\n(?P<body>.*?)^```$", re.M | re.S)


@dataclass
class Step:
    """One command of a page, and what it prints."""

    command: str
    output: list[str] = field(default_factory=list)
    code: int | None = None
    """Exit code, where it is shown."""

    @property
    def is_interrupted(self) -> bool:
        return self.output[-1:] == ["^C"]


def steps(page: str) -> list[Step]:
    """Give the commands of a page in their order."""
    found: list[Step] = []
    for block in _BLOCK.finditer(page):
        lines = iter(block["body"].replace("\\\n", "").splitlines())
        for line in lines:
            if line == "$ echo $?":
                found[-1].code = int(next(lines))
            elif line.startswith("$ "):
                found.append(Step(line.removeprefix("$ ")))
            else:
                found[-1].output.append(line)
    return found


def write_files(page: str, folder: Path) -> None:
    """Write the files that a page shows, for this user only."""
    for file in _FILE.finditer(page):
        path = folder / file["name"]
        path.write_text(file["body"], encoding="utf-8")
        path.chmod(0o600)


def play(step: Step, *, environment: Mapping[str, str]) -> None:
    """Run a command in the current folder, and compare.

    Args:
        step: The command. Its variables, ``$ORDERS``, come from the environment.
        environment: Variables of the programs, and for the command line.
    """
    words = shlex.split(string.Template(step.command).safe_substitute(environment))
    if words[0] == "cat":
        code, printed = 0, Path(words[1]).read_text(encoding="utf-8")
    elif step.is_interrupted:
        code, printed = _run_until_interrupted(step, words, environment)
    else:
        code, printed = _run(words, environment)
    shown = "\n".join(step.output)
    assert matches(step.output, printed.splitlines()), f"$ {step.command}\n{printed}\n---\n{shown}"
    if step.code is None:
        has_error = any(": error: " in line for line in printed.splitlines())
        assert bool(code) == has_error, f"{step.command}: exit code {code}"
    else:
        assert code == step.code, step.command


def matches(expected: list[str], printed: list[str]) -> bool:
    """Whether output is what is shown, where ``...`` stands for anything."""
    if printed and _LOG_LINE.match(printed[0]) and matches(expected, printed[1:]):
        return True
    if not expected:
        return not printed
    first, rest = expected[0], expected[1:]
    if first == "...":
        return any(matches(rest, printed[at:]) for at in range(len(printed) + 1))
    return bool(printed) and _matches_line(first, printed[0]) and matches(rest, printed[1:])


def _matches_line(expected: str, printed: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in expected.split("..."))
    return re.fullmatch(pattern, printed) is not None


def _run(
    words: list[str], environment: Mapping[str, str], printed: io.StringIO | None = None
) -> tuple[int, str]:
    printed = printed or io.StringIO()
    with (
        logging_kept(),
        _environment(environment),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        pytest.raises(SystemExit) as left,
    ):
        run_command(COMMANDS[words[0]], words[0], words[1:])
    assert isinstance(left.value.code, int)
    return left.value.code, printed.getvalue()


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


def _run_until_interrupted(
    step: Step, words: list[str], environment: Mapping[str, str]
) -> tuple[int, str]:
    """Run a command in this process, for that is quicker, and send Ctrl-C once all was printed."""
    step.output.pop()
    awaited = [line for line in step.output if line != "..."]
    printed = io.StringIO()
    is_over = threading.Event()

    def interrupt() -> None:
        left = awaited
        while left and not is_over.wait(LOOK_AGAIN_SECONDS):
            lines = printed.getvalue().splitlines()
            left = [each for each in awaited if not any(_matches_line(each, it) for it in lines)]
        if not is_over.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    watching = threading.Thread(target=interrupt)
    watching.start()
    try:
        code, _ = _run(words, environment, printed)
    finally:
        is_over.set()
        watching.join()
    return code, printed.getvalue()
