"""The tutorial, command by command as its reader types them, and what it says they print."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from devstack import postgres
from devstack.folders import temporary_folder
from tests.support.chain import quiet_port
from tests.support.terminals import Terminal, wait_for

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tutorial.md"
FOLDER = "/tmp/tutorial"  # noqa: S108 - the reader's
PORTS = ("5433", "5434", "8443", "5300")
"""Of database, client and relay, and the relay's port for its health."""

NOT_HERE = ("apt-get install", "useradd", "git clone")
"""What a machine needs once. The demo that they end with has tests of its own."""

pytestmark = pytest.mark.timeout(150)

_BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
_FILE = re.compile(r"`examples/tutorial/(?P<name>[\w.]+)`:\s*$")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One block of the page, and the words since the last one."""

    before: str
    language: str
    text: str


def _steps() -> Iterator[Step]:
    page, end = PAGE.read_text(encoding="utf-8"), 0
    for found in _BLOCK.finditer(page):
        before, end = page[end : found.start()], found.end()
        yield Step(before=before, language=found["language"], text=found["text"])


class Reader:
    """Does what the page says, in four terminals, on ports and in a folder of the test's own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder / "tutorial"
        self._programs = _as_ordinary_user(folder)
        self._ports = dict(zip(PORTS, (str(quiet_port()) for _ in PORTS), strict=True))
        environment = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "HOME": str(folder),
            "LC_ALL": "C",
            "HCM_STATE": str(folder / "hcm"),
            "HYBRIDGE_RELAY_PORT": self._ports["8443"],
            "HYBRIDGE_RELAY_ADMIN_PORT": self._ports["5300"],
        }
        self._terminals = {n: stack.enter_context(Terminal(ROOT, environment)) for n in range(1, 5)}
        self._current = 1
        self._since: dict[int, int] = {}
        self.did: list[str] = []

    def do(self, step: Step) -> None:
        self._press(step.before)
        if step.language == "sh":
            if not any(words in step.text for words in NOT_HERE):
                self._type(step)
        elif found := _FILE.search(step.before):
            (self.folder / found["name"]).write_text(self._here(step.text), encoding="utf-8")
        else:
            wait_for(self._here(step.text), self._terminals, self._since)
        self.did.append(step.text)

    def _press(self, words: str) -> None:
        for listed in re.findall(r"Ctrl-C\s+in\s+terminals?\s+([\d, and]*\d)", words):
            for number in re.findall(r"\d", listed):
                self._terminals[int(number)].interrupt()

    def _type(self, step: Step) -> None:
        if named := re.findall(r"[Tt]erminal\s+(\d)", step.before):
            self._current = int(named[-1])
        self._since = {n: each.line_count for n, each in self._terminals.items()}
        terminal = self._terminals[self._current]
        terminal.type(self._here(step.text), wait=self._current == 1)

    def _here(self, text: str) -> str:
        for port, ours in self._ports.items():
            text = re.sub(rf"\b{port}\b", ours, text)
        if self._programs is not None:
            text = re.sub(r"^PG=.*$", f"PG={self._programs}", text, flags=re.M)
        return text.replace(FOLDER, str(self.folder))


def _as_ordinary_user(folder: Path) -> Path | None:
    """Where we are root, and the reader is not: PostgreSQL's programs, run as somebody else."""
    account = postgres.unprivileged_account()
    if account is None:
        return None
    real = folder / "postgresql"
    real.mkdir()
    programs = postgres.usable_programs(real, account)
    wrappers = folder / "programs"
    wrappers.mkdir()
    switch = f"setpriv --reuid {account.user} --regid {account.group} --clear-groups"
    for name in ("initdb", "pg_ctl", "psql"):
        wrapper = wrappers / name
        wrapper.write_text(f'#!/bin/sh\nexec {switch} {programs / name} "$@"\n', encoding="ascii")
        wrapper.chmod(stat.S_IRWXU)
    for each in (folder, folder / "tutorial"):
        each.chmod(0o755)
    os.chown(folder / "tutorial", account.user, account.group)
    return wrappers


@pytest.fixture
def folder() -> Iterator[Path]:
    with ExitStack() as stack:
        # Not pytest's own folder, which PostgreSQL's account could not enter.
        folder = temporary_folder(stack, prefix="hybridge-tutorial-")
        (folder / "tutorial").mkdir()
        yield folder
        # Only where the test failed: PostgreSQL goes on without its terminal.
        for note in folder.glob("tutorial/db/postmaster.pid"):
            psutil.Process(int(note.read_text(encoding="ascii").split()[0])).kill()


def test_every_command_of_the_tutorial_does_what_the_page_says(folder: Path) -> None:
    steps = list(_steps())
    with ExitStack() as stack:
        reader = Reader(folder, stack)
        for step in steps:
            reader.do(step)

    assert len(reader.did) == len(steps) >= 30
    assert not reader.folder.exists()
