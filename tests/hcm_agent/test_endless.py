"""How the verbs end that go on, and what a verb says that was cut off."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from hcm_agent.cli import PROGRAM, cli
from hcm_agent.commands.endless import until_ended
from hybridge.program import early_signals
from tests.support.command import exit_code_of


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_block_so_that_the_terminal_is_given_back(number: int) -> None:
    before, steps = signal.getsignal(number), []

    def go_on() -> None:
        with until_ended():
            try:
                signal.raise_signal(number)
            finally:
                steps.append("given back")

    with pytest.raises(SystemExit) as left:
        go_on()

    assert left.value.code == 128 + number
    assert steps == ["given back"]
    assert signal.getsignal(number) is before


def test_ctrl_c_is_how_it_is_ended() -> None:
    with until_ended():
        raise KeyboardInterrupt


def test_where_nobody_reads_any_more_the_process_ends_before_the_next_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left, codes = threading.Event(), []

    def leave(code: int) -> None:
        codes.append(code)
        left.set()

    reader, writer = os.pipe()
    with open(writer, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        monkeypatch.setattr(os, "_exit", leave)
        with until_ended():
            os.close(reader)
            assert left.wait(20)
        monkeypatch.undo()

    assert codes == [1]


def test_a_verb_that_is_cut_off_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cut_off(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("hcm_agent.control.client.connect", cut_off)
    monkeypatch.setattr(os, "_exit", sys.exit)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    early_signals.install()
    try:
        code = exit_code_of(cli, PROGRAM, "test", "db.corp.local:5432", "--state", str(tmp_path))
    finally:
        early_signals.restore()
        signal.signal(signal.SIGINT, before)

    assert code == 1
    assert "reached" not in capsys.readouterr().out


def test_what_is_piped_in_and_no_text_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), encoding="utf-8"))

    assert exit_code_of(cli, PROGRAM, "add", "-") == 2

    assert capsys.readouterr().err.splitlines() == [
        "hcm: error: connection string: standard input is no text",
        "hcm: hint: pipe in what the portal shows, as UTF-8",
    ]


def test_a_connection_string_and_a_file_with_another_are_one_too_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("add", "Endpoint=sb://x/", "--connection-string-file", str(tmp_path / "orders.txt"))

    assert exit_code_of(cli, PROGRAM, *args) == 2

    assert "is given twice, and in a file" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_words_of_a_relay_that_the_terminal_lacks_are_printed_as_escapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    said = {"Name": "orders", "Namespace": "contoso", "Status": "Disconnected"}
    told = {**said, "LastError": "403 Wejście tylko dla gości", "Hint": ""}
    monkeypatch.setattr("hcm_agent.control.client.ServiceClient.post", lambda *_, **__: told)
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="latin-1"))
    verb = ("restart", "-ns", "contoso", "-n", "orders", "--state", str(tmp_path))

    code = exit_code_of(cli, PROGRAM, *verb, *flags)

    sys.stdout.flush()
    assert code == 0
    text = printed.getvalue().decode("latin-1")
    assert (json.loads(text) == told) if flags else ("Wej\\u015bcie tylko" in text)
