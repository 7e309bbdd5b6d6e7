"""The command ``hcm``: usage, exit codes and signals."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from hcm_agent.cli import PROGRAM, cli
from tests.support.agent_ends import KEY, connection_string, free_port
from tests.support.command import RunningProgram, exit_code_of

ORDERS = connection_string("orders")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "CONFIG",
        "CONNECTION_STRING",
        "CONNECTION_STRING_FILE",
        "TARGET",
        "AZBRIDGE",
        "CA",
        "PROXY",
    ):
        monkeypatch.delenv(f"HCM_{name}", raising=False)
    monkeypatch.setenv("HCM_STATE", "none")


def hcm(*args: str) -> int:
    return exit_code_of(cli, PROGRAM, *args)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "none is configured"),
        (("--connection-string", f"Endpoint=sb://h/;SharedAccessKey={KEY}"), "connection string"),
        (
            (
                *("--connection-string", ORDERS),
                *("--connection-string", connection_string("bills")),
                *("--target", "db:5432"),
            ),
            "--target: one target does not fit 2",
        ),
        (("--connection-string", ORDERS, "--target", "db"), "--target: 'db' has no port"),
        (("--connection-string", ORDERS, "--target", "db:0"), "--target: port 0"),
        (
            ("--connection-string", ORDERS, "--target", "a:1", "--target", "b:2"),
            "--target: 2 are given, and a sender can choose only with --azbridge",
        ),
        (("--connection-string", ORDERS, "--azbridge"), "--azbridge: has no target"),
        (
            ("--connection-string", ORDERS, "--azbridge", "--target", f"{'x' * 256}/db:5432"),
            "--target: the port name has 256 bytes",
        ),
        (
            ("--connection-string", ORDERS, "--azbridge", "--target", "a/d:1", "--target", "a/d:2"),
            "--target: two targets have the port name 'a'",
        ),
        (("--connection-string", ORDERS, "--ca", "/nowhere/ca.pem"), "--ca: /nowhere/ca.pem"),
        (("--connection-string", ORDERS, "--connect-to", "host"), "--connect-to: "),
        (
            ("--connection-string", ORDERS, "--proxy", "ftp://a:s3cr3t@p"),
            "--proxy: ftp: no such kind of proxy",
        ),
        (
            ("--connection-string", ORDERS, "--proxy", "https://p:3128"),
            "--proxy: names a proxy that is spoken to over TLS",
        ),
        (("--connection-string", ORDERS, "--proxy", "@/nowhere/p"), "/nowhere/p cannot be"),
        (("--connection-string-file", "/nowhere/f"), "/nowhere/f: cannot be read"),
        (("--config", "/nowhere/hcm.json"), "/nowhere/hcm.json: no such file"),
        (("--log-format", "xml"), "'xml' is not one of"),
        (("--tarjet", "db:5432"), "No such option"),
        (
            ("--connection-string", ORDERS, "--target", "d:1", "--ready-file", "/nowhere/r"),
            "--ready-file: /nowhere/r cannot be written",
        ),
    ],
)
def test_a_mistake_is_two_lines_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], args: tuple[str, ...], message: str
) -> None:
    assert hcm("run", *args) == 2

    lines = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith(f"{PROGRAM}: ")
    ]
    assert len(lines) == 2
    assert lines[0].startswith("hcm: error: ")
    assert message in lines[0]
    assert lines[1].startswith("hcm: hint: ")
    assert KEY not in "".join(lines)


def test_the_environment_twins_are_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HCM_CONNECTION_STRING", f"{ORDERS}\n{connection_string('bills')}\n")
    monkeypatch.setenv("HCM_TARGET", "db:5432")

    assert hcm("run") == 2

    assert "one target does not fit 2" in capsys.readouterr().err


def test_version_and_help_end_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert hcm("--version") == 0
    assert "hcm" in capsys.readouterr().out

    assert hcm("run", "--help") == 0
    help_text = capsys.readouterr().out
    assert "--connection-string-file" in help_text
    assert "each with an environment twin (--ca is HCM_CA)" in help_text


def test_sighup_reloads_and_sigterm_ends_with_0(tmp_path: Path) -> None:
    config = tmp_path / "hcm.json"
    config.write_text(f'{{"HybridConnections": [{{"ConnectionString": "{ORDERS}"}}]}}')
    config.chmod(0o600)
    args = ("run", "--config", str(config))
    environment = {"HCM_CONNECT_TO": f"127.0.0.1:{free_port()}"}

    with RunningProgram("hcm_agent", args, environment) as program:
        offline = program.event("offline")
        program.signal(signal.SIGHUP)
        program.event("reloaded")
        config.write_text("{")
        program.signal(signal.SIGHUP)
        refused = program.event("reload_refused")
        program.signal(signal.SIGTERM)

        assert program.wait() == 0

    assert offline["hybrid_connection"] == "orders"
    assert offline["program"] == "hcm"
    assert "hcm.json" in str(refused["message"])
    assert KEY not in program.output
    assert "Traceback" not in program.output


def test_keys_may_come_by_environment_and_none_is_logged() -> None:
    environment = {
        "HCM_CONNECTION_STRING": ORDERS,
        "HCM_TARGET": "127.0.0.1:9",
        "HCM_CONNECT_TO": f"127.0.0.1:{free_port()}",
    }

    with RunningProgram("hcm_agent", ("run",), environment) as program:
        limits = program.event("limits")
        program.event("offline")
        program.signal(signal.SIGINT)

        assert program.wait() == 0

    assert isinstance(limits["max_connections"], int)
    assert KEY not in program.output
