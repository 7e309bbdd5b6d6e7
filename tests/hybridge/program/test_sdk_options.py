"""The flags that agent and client share: the command line wins over the environment."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hybridge.program.connection_strings import GivenConnectionStrings
from hybridge.program.sdk_options import (
    check_ca,
    config_option,
    connection_string_options,
    given_connection_strings,
    relay_options,
)
from hybridge.protocol.errors import InvalidSetting


def parse(*args: str, env: dict[str, str] | None = None) -> dict[str, object]:
    """What a command with all shared flags sees."""
    seen: dict[str, object] = {}

    @click.command()
    @config_option("APP")
    @connection_string_options("APP", claim="Send")
    @relay_options("APP")
    @click.pass_context
    def command(context: click.Context, /, **options: object) -> None:
        seen.update(options, given=given_connection_strings(context))

    result = CliRunner().invoke(command, list(args), env=env)
    assert result.exit_code == 0, result.output
    return seen


def test_the_environment_has_one_connection_string_per_line() -> None:
    env = {
        "APP_CONNECTION_STRING": "Endpoint=a;X=1\nEndpoint=b;X=2\n",
        "APP_CONNECTION_STRING_FILE": "/run/one two\n/run/three",
    }

    assert parse(env=env)["given"] == GivenConnectionStrings(
        texts=("Endpoint=a;X=1", "Endpoint=b;X=2"),
        files=(Path("/run/one two"), Path("/run/three")),
    )


@pytest.mark.parametrize("variable", ["APP_CONNECTION_STRING", "APP_CONNECTION_STRING_FILE"])
def test_one_on_the_command_line_replaces_all_of_the_environment(variable: str) -> None:
    seen = parse("--connection-string", "a;b c", env={variable: "other"})

    assert seen["given"] == GivenConnectionStrings(texts=("a;b c",))


def test_a_file_on_the_command_line_replaces_all_of_the_environment() -> None:
    seen = parse("--connection-string-file", "f", env={"APP_CONNECTION_STRING": "other"})

    assert seen["given"] == GivenConnectionStrings(files=(Path("f"),))


def test_nothing_given_is_nothing() -> None:
    assert not parse()["given"]


@pytest.mark.parametrize(
    ("flag", "variable", "name", "text", "value"),
    [
        ("--config", "APP_CONFIG", "config", "c.json", Path("c.json")),
        ("--ca", "APP_CA", "ca", "ca.pem", Path("ca.pem")),
        ("--connect-to", "APP_CONNECT_TO", "connect_to", "127.0.0.1:8443", ("127.0.0.1", 8443)),
        ("--ready-file", "APP_READY_FILE", "ready_file", "r", Path("r")),
        ("--log-format", "APP_LOG_FORMAT", "log_format", "json", "json"),
    ],
)
def test_each_flag_has_an_environment_twin_and_wins_over_it(
    flag: str, variable: str, name: str, text: str, value: object
) -> None:
    other = "9.9.9.9:9" if name == "connect_to" else "text"

    assert parse(env={variable: text})[name] == value
    assert parse(flag, text, env={variable: other})[name] == value


def test_verbose_has_an_environment_twin() -> None:
    assert parse(env={"APP_VERBOSE": "1"})["verbose"] is True
    assert parse()["verbose"] is False


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "No such file"), (b"", "no PEM"), (b"text", "no PEM")]
)
def test_a_ca_file_that_cannot_be_used_is_named(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(InvalidSetting, match=problem) as caught:
        check_ca(path)

    assert "hybridge-relay ca" in caught.value.hint


def test_no_ca_file_is_fine() -> None:
    check_ca(None)
