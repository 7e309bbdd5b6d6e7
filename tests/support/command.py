"""Run one of the programs as people do: a process of its own, or its command line in ours."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import click
import pytest

from hybridge.program.command_line import run_command
from hybridge.program.logs import NEVER_BELOW_WARNING, OUR_LOGGERS


@contextlib.contextmanager
def logging_kept() -> Iterator[None]:
    """Undo what a program does to the process's logging."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    names = (*OUR_LOGGERS, *NEVER_BELOW_WARNING)
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        for name, each in levels.items():
            logging.getLogger(name).setLevel(each)


def exit_code_of(command: click.Command, program: str, *args: str) -> int:
    """Run a command line that ends by itself."""
    with logging_kept(), pytest.raises(SystemExit) as left:
        run_command(command, program, args)
    code = left.value.code
    assert isinstance(code, int)
    return code


@dataclass
class RunningProgram:
    """A program in a process of its own, logging JSON to one pipe with what it announces."""

    module: str
    args: tuple[str, ...]
    environment: Mapping[str, str]
    lines: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HCM_", "APP_CLIENT_"))
        }
        self.process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", self.module, *self.args, "--log-format", "json", "--verbose"],
            env={**inherited, "HCM_STATE": "none", **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def event(self, name: str) -> dict[str, object]:
        """Read on until a line with this event; a program that ends before fails the test."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            fields = json.loads(line)
            if fields.get("event") == name:
                assert isinstance(fields, dict)
                return fields
        raise AssertionError(f"no event {name!r} in {self.output}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Read to the end, and give the exit code."""
        assert self.process.stdout is not None
        self.lines += self.process.stdout
        return self.process.wait()

    @property
    def output(self) -> str:
        return "".join(self.lines)
