"""Every verb of ``hcm``, good and bad, as it looks in a terminal.

Each file in ``transcripts`` is a session with one service, and so is the operators' guide. A line
with ``$`` is typed, what follows must be printed; ``[2]`` is the exit code, without it 1 where an
error is shown and 0 where none is. To write down what is printed now:

    HYBRIDGE_WRITE_TRANSCRIPTS=1 python -m pytest tests/hcm_agent/test_transcripts.py
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from hcm_agent.cli import PROGRAM, cli
from tests.support.chain import write_private
from tests.support.command import exit_code_of
from tests.support.hcm_service import (
    relay_in_thread,
    running_service,
    steady,
    text_for,
    type_command,
)
from tests.support.relay import KEY, RunningRelay

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).parent / "transcripts"
WRITE = "HYBRIDGE_WRITE_TRANSCRIPTS"

_BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.M | re.S)


@pytest.fixture(scope="module")
def relay() -> Iterator[RunningRelay]:
    with relay_in_thread() as running:
        yield running


def sessions() -> list[Path]:
    return [*sorted(FOLDER.glob("*.txt")), ROOT / "docs" / "agent.md"]


@pytest.mark.parametrize("path", sessions(), ids=lambda path: path.stem)
def test_what_is_typed_is_answered_as_it_is_shown(
    path: Path, relay: RunningRelay, tmp_path: Path
) -> None:
    text = path.read_text(encoding="utf-8")
    session = Session(relay, tmp_path, is_configured="hcm.json" in text and path.suffix == ".txt")
    with session:
        if path.suffix == ".md":
            fresh = _BLOCK.sub(lambda block: session.replay(block[0]), text)
        else:
            fresh = session.replay(text)

    if os.environ.get(WRITE):
        path.write_text(fresh, encoding="utf-8")
    assert fresh == text
    assert KEY not in fresh
    assert KEY[::-1] not in fresh


def test_a_connection_string_can_be_typed_unseen(
    relay: RunningRelay,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    asked: list[str] = []

    def type_unseen(prompt: str) -> str:
        asked.append(prompt)
        return text_for("orders")

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("click.termui.hidden_prompt_func", type_unseen)
    monkeypatch.setenv("HCM_STATE", str(tmp_path / "state"))
    with running_service(tmp_path / "state", relay):
        assert exit_code_of(cli, PROGRAM, "add", "-") == 0

    assert len(asked) == 1
    shown = capsys.readouterr()
    assert "added: orders in contoso, Connected" in shown.out
    assert KEY not in shown.out + shown.err


class Session:
    """A service, and somebody who types.

    The folder has the files that the sessions name. Lines in parentheses are done: see `_do`.
    """

    def __init__(self, relay: RunningRelay, folder: Path, *, is_configured: bool) -> None:
        self._relay = relay
        self._folder = folder
        self._state = folder / "state"
        self._config: Path | None = None
        if is_configured:
            self._config = folder / "hcm.json"
            entry = {"ConnectionString": text_for("orders"), "Target": "db.corp.local:5432"}
            write_private(self._config, {"HybridConnections": [entry]})
        self._environment = {
            "HCM_STATE": str(self._state),
            "ORDERS": text_for("orders"),
            "STOCK": text_for("stock"),
            "BILLS": text_for("bills"),
            "GONE": text_for("gone", rule="RootManageSharedAccessKey", key=KEY[::-1]),
            "WRONG": text_for("orders", key=KEY[::-1]),
        }
        for name in ("orders", "stock", "bills"):
            (folder / f"{name}.txt").write_text(text_for(name) + "\n", encoding="utf-8")

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start(self) -> None:
        self._running = running_service(self._state, self._relay, config=self._config)
        self._service = self._running.__enter__()

    def _stop(self) -> None:
        self._running.__exit__(None, None, None)

    def replay(self, text: str) -> str:
        """Type each line that is typed, and give the session as it is now."""
        written: list[str] = []
        for line in text.splitlines():
            if line.startswith("$ "):
                written += [line, *self._type(line.removeprefix("$ "))]
            elif line.startswith("("):
                self._do(line)
                written.append(line)
            elif line.startswith("#") or not line.strip():
                written.append(line)
        return "\n".join(written) + "\n"

    def _type(self, line: str) -> list[str]:
        self._service.wait_settled()
        code, output = type_command(line, environment=self._environment, folder=self._folder)
        output = steady(output).replace(str(self._folder), "/home/you")
        expected = 1 if "hcm: error:" in output else 0
        return [*output.splitlines(), *([] if code == expected else [f"[{code}]"])]

    def _do(self, line: str) -> None:
        match line:
            case "(the service is started again)":
                self._stop()
                self._start()
            case "(SIGHUP)":
                self._service.reload()
            case "(hcm.json is broken)":
                assert self._config is not None
                self._config.write_text("{", encoding="utf-8")
            case "(hcm.json is emptied)":
                assert self._config is not None
                self._config.write_text("{}", encoding="utf-8")
            case "(connections.json is broken)":
                (self._state / "connections.json").write_text("{ ...", encoding="utf-8")
            case _:
                raise AssertionError(line)
