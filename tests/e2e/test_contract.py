"""What other programs rely on: commands, environment twins, formats, addresses."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.chain import (
    DEADLINE_SECONDS,
    HYBRID_CONNECTION,
    check_output,
    events,
    relay_document,
    running,
    running_relay_process,
    target_socket,
    wait_for,
    write_private,
)

COMMANDS = {"relay": "hybridge-relay", "hcm_agent": "hcm", "app_client": "app-client"}
OUR_VARIABLES = ("HYBRIDGE_", "HCM_", "APP_CLIENT_")

LINE = re.compile(
    r"demo-ns/(?P<path>\S+) (?P<rule>\S+) (?P<string>Endpoint=sb://relay\.corp\.example:9443/;"
    r"SharedAccessKeyName=(?P=rule);SharedAccessKey=(?P<key>[^;]{44})(?:;EntityPath=(?P=path))?)"
)


def run(*command: str, settings: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run a command that ends by itself; give exit code, standard output and standard error."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(OUR_VARIABLES)}
    ended = subprocess.run(  # noqa: S603 - our own programs
        command,
        env={**inherited, **(settings or {})},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


def module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", name, *arguments]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_program_is_a_module_and_a_command_beside_the_interpreter(name: str) -> None:
    command = str(Path(sys.executable).with_name(COMMANDS[name]))

    answers = [run(*module(name, "--version")), run(command, "--version")]

    assert answers[0] == answers[1]
    code, out, err = answers[0]
    assert (code, err) == (0, "")
    assert out.startswith(f"{COMMANDS[name]}, version ")


def test_connection_strings_are_one_a_line_in_one_order_and_the_same_each_time(
    tmp_path: Path,
) -> None:
    config = write_private(
        tmp_path / "relay.json",
        relay_document({"orders-db": "db:5432", "stock": "db:5433"}, hosts=["relay.corp.example"]),
    )
    settings = {
        "XDG_STATE_HOME": str(tmp_path),
        "HYBRIDGE_RELAY_CONFIG": str(config),
        "HYBRIDGE_RELAY_PORT": "9443",
    }

    code, out, err = run(*module("relay", "connection-strings"), settings=settings)
    again = run(*module("relay", "connection-strings"), settings=settings)
    _, as_json, _ = run(*module("relay", "connection-strings", "--json"), settings=settings)

    found = [LINE.fullmatch(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [(each["path"], each["rule"]) for each in found if each] == [
        ("-", "RootManageSharedAccessKey"),
        ("orders-db", "defaultListener"),
        ("orders-db", "defaultSender"),
        ("stock", "defaultListener"),
        ("stock", "defaultSender"),
    ]
    assert again[1] == out
    assert [row["connectionString"] for row in json.loads(as_json)] == [
        each["string"] for each in found if each
    ]
    assert (tmp_path / "hybridge").stat().st_mode & 0o777 == 0o700


def test_the_printed_strings_and_ca_are_all_that_agent_and_client_need_and_the_peer_is_connect_to(
    tmp_path: Path,
) -> None:
    # Nobody can resolve relay.corp.example: --connect-to names the TCP peer, and the certificate,
    # the Host header and the token still name the namespace.
    # The target has a loopback address of its own, so that its port is free on 127.0.0.1: the
    # local port is the target's where nothing else is said.
    with target_socket("127.0.0.2") as target:
        host, target_port = target.getsockname()
        with running_relay_process(
            tmp_path, {HYBRID_CONNECTION: f"{host}:{target_port}"}, hosts=["relay.corp.example"]
        ) as relay:
            common = {
                "HYBRIDGE_RELAY_CONFIG": str(relay.config),
                "HYBRIDGE_RELAY_STATE_DIR": str(tmp_path / "state"),
                "HYBRIDGE_RELAY_PORT": str(relay.port),
            }
            _, lines, _ = run(*module("relay", "connection-strings"), settings=common)
            _, pem, _ = run(*module("relay", "ca"), settings=common)
            (tmp_path / "ca.pem").write_text(pem)
            strings = {line.split()[1]: line.split()[2] for line in lines.splitlines()}
            assert strings["defaultSender"].startswith(
                f"Endpoint=sb://relay.corp.example:{relay.port}/;"
            )
            ways = ["--ca", str(tmp_path / "ca.pem"), "--connect-to", f"127.0.0.1:{relay.port}"]
            unchecked = {"Settings": {"EndpointCheckSeconds": 0}}
            listen = {
                "HCM_CONNECTION_STRING": strings["defaultListener"],
                "HCM_CONFIG": str(write_private(tmp_path / "quiet.json", unchecked)),
            }
            send = {"APP_CLIENT_CONNECTION_STRING": strings["defaultSender"]}
            with (
                running("hcm_agent", "run", *ways, settings=listen, secrets=relay.secrets) as agent,
                running(
                    "app_client",
                    "forward",
                    *ways,
                    settings=send,
                    secrets=relay.secrets,
                ) as client,
            ):
                wait_for(agent, "online")
                listening = wait_for(client, "listening")
                with (
                    socket.create_connection(("127.0.0.1", target_port), timeout=20) as near,
                    target.accept()[0] as far,
                ):
                    near.sendall(b"hello")
                    assert far.recv(5) == b"hello"
            (line,) = events(relay.program, "SenderListenerConnectionEstablished")

    # As JSON an event is Azure's record too.
    name = line.text("operationName")
    assert name == "Microsoft.Relay/HybridConnections/SenderListenerConnectionEstablished"
    assert line.text("ActivityId") == line.text("id").partition("_G")[0]
    assert line.text("endpoint").startswith("sb://relay.corp.example/")
    assert (listening.text("host"), listening.text("port")) == ("127.0.0.1", str(target_port))


def test_the_addresses_are_one_json_line_and_nothing_else_is_on_standard_output(
    tmp_path: Path,
) -> None:
    settings = {
        "HYBRIDGE_RELAY_HYBRID_CONNECTION": "orders-db=db:5432\nstock=db:5433",
        "HYBRIDGE_RELAY_PORT": "0",
        "HYBRIDGE_RELAY_ADMIN_PORT": "0",
        "HYBRIDGE_RELAY_LOG_FORMAT": "json",
        "XDG_STATE_HOME": str(tmp_path),
    }
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(OUR_VARIABLES)}
    with subprocess.Popen(  # noqa: S603 - our own program
        module("relay"),
        env={**inherited, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as relay:
        assert relay.stdout is not None
        try:
            listening = json.loads(relay.stdout.readline())
        finally:
            relay.terminate()
        rest, log = relay.communicate(timeout=DEADLINE_SECONDS)

    assert relay.returncode == 0
    assert rest == ""
    assert listening["event"] == "listening"
    # Both loopbacks where the machine has both, and one port.
    assert {each["port"] for each in listening["addresses"]} == {listening["port"]}
    assert {each["host"] for each in listening["addresses"]} <= {"127.0.0.1", "::1"}
    assert listening["admin_host"] in ("127.0.0.1", "::1")
    assert all(isinstance(json.loads(line), dict) for line in log.splitlines())
    check_output(log, [])


def test_the_development_key_is_refused_where_others_could_reach_it(tmp_path: Path) -> None:
    settings = {"XDG_STATE_HOME": str(tmp_path), "HYBRIDGE_RELAY_HOST": "0.0.0.0"}  # noqa: S104

    code, out, err = run(*module("relay"), settings=settings)

    error, hint = err.splitlines()
    assert (code, out) == (2, "")
    assert error.startswith("hybridge-relay: error: --host: 0.0.0.0 is open to other machines")
    assert hint.startswith("hybridge-relay: hint: ")
