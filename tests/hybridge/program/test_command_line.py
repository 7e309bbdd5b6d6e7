from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import pytest

from hybridge.program.command_line import OnePerLine, announce, run_command
from hybridge.program.host_port import HOST_PORT
from hybridge.protocol.errors import InvalidSetting, RelayError, Unreachable


def exit_code(command: click.Command, *args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        run_command(command, "prog", list(args))
    assert isinstance(caught.value.code, int)
    return caught.value.code


def raising(error: BaseException) -> click.Command:
    @click.command()
    def command() -> None:
        raise error

    return command


@click.command()
@click.option("--port", type=int)
def sample(port: int | None) -> None:
    pass


def test_a_program_that_returns_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(sample) == 0
    assert capsys.readouterr() == ("", "")


def test_a_program_may_choose_its_exit_code() -> None:
    @click.command()
    def command() -> int:
        return 1

    assert exit_code(command) == 1


def test_a_failure_is_two_lines_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    error = Unreachable("db:5432 is not there", hint="start it")

    assert exit_code(raising(error)) == 1
    assert capsys.readouterr().err == ("prog: error: db:5432 is not there\nprog: hint: start it\n")


def test_a_wrong_setting_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(raising(InvalidSetting("--host", "no", hint="yes"))) == 2
    assert capsys.readouterr().err == "prog: error: --host: no\nprog: hint: yes\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_output_to_a_full_disk_is_two_lines_and_exit_code_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def command() -> None:
        click.echo("much")

    with monkeypatch.context() as patch:
        full = Path("/dev/full").open("w")  # noqa: SIM115 - what is tested closes it
        patch.setattr(sys, "stdout", full)
        assert exit_code(command) == 1
        assert sys.stdout.closed  # Nothing is left that would be written at the end.

    assert capsys.readouterr().err == (
        "prog: error: the output cannot be written: No space left on device\n"
        "prog: hint: make room, or send it elsewhere\n"
    )


def test_an_error_without_a_hint_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(raising(RelayError("no"))) == 1
    assert capsys.readouterr().err == "prog: error: no\n"


def test_an_error_from_a_task_group_is_shown_like_any_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    inner = ExceptionGroup("inner", [InvalidSetting("--host", "no")])

    assert exit_code(raising(ExceptionGroup("outer", [inner]))) == 2
    assert capsys.readouterr().err == "prog: error: --host: no\n"


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(raising(ZeroDivisionError()), "prog", [])
    with pytest.raises(ExceptionGroup):
        run_command(raising(ExceptionGroup("", [RelayError("a"), KeyError()])), "prog", [])


@pytest.mark.parametrize("args", [["--prot", "1"], ["--port", "x"], ["extra"], ["--port"]])
def test_a_wrong_command_line_is_two_lines_and_exit_code_2(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(sample, *args) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("prog: error: ")
    assert hint == "prog: hint: 'prog --help' lists what can be given"


def test_without_a_command_the_commands_are_named_in_two_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    group = click.Group(commands={"run": sample, "forward": sample})

    assert exit_code(group) == 2

    assert capsys.readouterr().err.splitlines() == [
        "prog: error: a command is missing",
        "prog: hint: give forward or run; 'prog --help' tells more",
    ]


@pytest.mark.parametrize(
    "argument",
    [
        "Endpoint=sb://x/;SharedAccessKeyName=r;SharedAccessKey=c2VjcmV0;EntityPath=e",
        "Endpoint=sb://x/;sharedaccesskey = c2VjcmV0",
        "SharedAccessSignature sr=x&sig=c2VjcmV0&se=1&skn=r",
        "Endpoint=sb://x/;SharedAccessSignature=SharedAccessSignature sr=x&sig=c2VjcmV0",
        "wss://x/?sb-hc-token=SharedAccessSignature%20sr%3Dx%26sig%3Dc2VjcmV0",
    ],
)
def test_a_key_in_the_wrong_place_is_not_repeated(
    argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(sample, argument) == 2
    assert "c2VjcmV0" not in capsys.readouterr().err


def test_ctrl_c_is_exit_code_1() -> None:
    assert exit_code(raising(KeyboardInterrupt())) == 1


def test_a_repeated_value_stands_one_a_line_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @click.command()
    @click.option("--each", type=OnePerLine(), multiple=True, envvar="EACH")
    @click.option("--at", type=OnePerLine(HOST_PORT), multiple=True, envvar="AT")
    def command(each: tuple[str, ...], at: tuple[tuple[str, int], ...]) -> None:
        assert each == ("a;b c", "d")
        assert at == (("x", 1), ("y", 2))

    monkeypatch.setenv("EACH", "\n a;b c \r\n\nd\n")
    monkeypatch.setenv("AT", "x:1\ny:2")

    assert exit_code(command) == 0


def test_an_announcement_is_one_json_line_or_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    announce("json", "listening\non 1", event="listening", port=1)
    announce("text", "listening on 1", event="listening", port=1)

    first, second = capsys.readouterr().out.splitlines()
    assert json.loads(first) == {"event": "listening", "port": 1}
    assert second == "listening on 1"
