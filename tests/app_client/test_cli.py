"""The command ``app-client``: usage, exit codes and signals."""

from __future__ import annotations

import signal
import socket

import pytest

from app_client.cli import PROGRAM, cli
from tests.support.agent_ends import KEY, connection_string, free_port
from tests.support.command import RunningProgram, exit_code_of

ORDERS = connection_string("orders")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "CONFIG",
        "CONNECTION_STRING",
        "CONNECTION_STRING_FILE",
        "LISTEN",
        "AZBRIDGE",
        "PORT_NAME",
        "CA",
        "PROXY",
    ):
        monkeypatch.delenv(f"APP_CLIENT_{name}", raising=False)


def app_client(*args: str) -> int:
    return exit_code_of(cli, PROGRAM, *args)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("forward",), "none is configured"),
        (("run",), "none is configured"),
        (("forward", "--connection-string", KEY), "connection string"),
        (
            ("forward", "--connection-string", ORDERS, "--connection-string", ORDERS),
            "forward takes one connection string",
        ),
        (("forward", "--connection-string", ORDERS, "--listen", "5432"), "--listen: '5432'"),
        (
            ("forward", "--connection-string", ORDERS, "--listen", "udp://127.0.0.1:161"),
            "--listen: datagrams need azbridge's preamble",
        ),
        (
            ("forward", "--connection-string", ORDERS, "--azbridge", "--listen", "udp://161"),
            "--listen: '161' has no host",
        ),
        (
            ("forward", "--connection-string", ORDERS, "--port-name", "test"),
            "--port-name: only azbridge has port names",
        ),
        (
            ("forward", "--connection-string", ORDERS, "--azbridge", "--port-name", "ü" * 128),
            "--port-name: the port name has 256 bytes, and at most 255 can be sent",
        ),
        (("forward", "--connection-string", ORDERS, "--ca", "/nowhere/ca.pem"), "--ca: "),
        (
            ("forward", "--connection-string", ORDERS, "--proxy", "ftp://a:s3cr3t@p"),
            "--proxy: ftp: no such kind of proxy",
        ),
        (
            ("forward", "--connection-string", ORDERS, "--proxy", "https://p:3128"),
            "--proxy: names a proxy that is spoken to over TLS",
        ),
        (
            ("forward", "--connection-string", ORDERS, "--proxy", "@/nowhere/p"),
            "/nowhere/p cannot be",
        ),
        (("run", "--config", "/nowhere/c.json"), "/nowhere/c.json: no such file"),
        (("run", "--listen", "127.0.0.1:1"), "No such option"),
    ],
)
def test_a_mistake_is_two_lines_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], args: tuple[str, ...], message: str
) -> None:
    assert app_client(*args) == 2

    lines = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith(f"{PROGRAM}: ")
    ]
    assert len(lines) == 2
    assert message in lines[0]
    assert lines[1].startswith("app-client: hint: ")
    assert KEY not in "".join(lines)


def test_version_and_help_end_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert app_client("--version") == 0
    assert PROGRAM in capsys.readouterr().out

    for command in ("forward", "run"):
        assert app_client(command, "--help") == 0
        assert "each with an environment twin (--ca is APP_CLIENT_CA)" in capsys.readouterr().out


def test_it_announces_its_port_resets_while_the_relay_is_away_and_ends_with_0() -> None:
    environment = {
        "APP_CLIENT_CONNECTION_STRING": ORDERS,
        "APP_CLIENT_CONNECT_TO": f"127.0.0.1:{free_port()}",
        "APP_CLIENT_LISTEN": "127.0.0.1:0",
    }

    with RunningProgram("app_client", ("forward",), environment) as program:
        listening = program.event("listening")
        port = listening["port"]
        assert isinstance(port, int)
        with (
            socket.create_connection(("127.0.0.1", port)) as application,
            pytest.raises(ConnectionResetError),
        ):
            application.recv(1)
        refused = program.event("connection_refused")
        program.signal(signal.SIGHUP)
        program.event("reloaded")
        program.signal(signal.SIGTERM)

        assert program.wait() == 0

    assert listening["hybrid_connection"] == "orders"
    assert listening["host"] == "127.0.0.1"
    assert refused["hint"]
    assert KEY not in program.output
    assert "Traceback" not in program.output


def test_asked_to_stop_while_it_waits_for_the_relay_it_ends_with_0() -> None:
    environment = {
        "APP_CLIENT_CONNECTION_STRING": ORDERS,
        "APP_CLIENT_CONNECT_TO": f"127.0.0.1:{free_port()}",
    }

    with RunningProgram("app_client", ("run",), environment) as program:
        program.event("waiting_for_relay")
        program.signal(signal.SIGTERM)

        assert program.wait() == 0


def test_a_port_in_use_is_two_lines_and_exit_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        args = ("forward", "--connection-string", ORDERS, "--listen", address)
        with RunningProgram("app_client", args, {}) as program:
            assert program.wait() == 1

    lines = [line for line in program.lines if line.startswith("app-client: ")]
    assert len(lines) == 2
    assert address in lines[0]
    assert "hint" in lines[1]
