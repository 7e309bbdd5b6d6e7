from __future__ import annotations

import http.server
import importlib.metadata
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from hybridge.transport.listening import bound_address, open_sockets
from relay.cli import PROGRAM, cli
from relay.configuration import DEVELOPMENT_KEY
from tests.support.command import exit_code_of

RELAY_HELP = """\
Usage: hybridge-relay [OPTIONS] [COMMAND]

  Serve Azure Relay hybrid connections.
  Example: hybridge-relay --hybrid-connection orders-db=localhost:5432

Options, each with an environment twin (--host is HYBRIDGE_RELAY_HOST):
  --config FILE                       Namespaces, JSON or YAML.
  --hybrid-connection NAME=HOST:PORT  One more; repeatable.
  --host ADDR                         Where to listen.  [both loopbacks]
  --port PORT                         TLS port, 0: any free.  [8443]
  --admin-host ADDR                   /health and /metrics.  [both loopbacks]
  --admin-port PORT                   And its port.  [5300]
  --state-dir DIR                     CA and keys.  [$XDG_STATE_HOME/hybridge]
  --share-dir DIR                     Put ca.pem and connection strings here.
  --log-format [text|json]            Log lines.  [text]
  --verbose                           Log every message.
  --version                           Show the version and exit.
  -h, --help                          Show this message and exit.

Commands:
  ca                  Print the certificate that clients must trust.
  completion          Print the completion script of a shell.
  connection-strings  Print the connection string of every rule.
  healthcheck         Ask a running relay whether it is healthy.
"""

CONNECTION_STRINGS_HELP = """\
Usage: hybridge-relay connection-strings [OPTIONS]

  Print the connection string of every rule.

  One line each: NAMESPACE/HYBRID-CONNECTION RULE CONNECTION-STRING, with "-"
  for the namespace's own rules. The relay need not run; keys that are missing
  are made and kept.

Options:
  --config FILE                       Namespaces, JSON or YAML.
  --hybrid-connection NAME=HOST:PORT  One more; repeatable.
  --port PORT                         TLS port, 0: any free.  [8443]
  --state-dir DIR                     CA and keys.  [$XDG_STATE_HOME/hybridge]
  --json                              As one JSON list.
  -h, --help                          Show this message and exit.

  In the environment too, as HYBRIDGE_RELAY_PORT: --config,
  --hybrid-connection, --port, --state-dir.
"""

CA_HELP = """\
Usage: hybridge-relay ca [OPTIONS]

  Print the certificate that clients must trust (PEM); made if missing.

Options, each with an environment twin (--config is HYBRIDGE_RELAY_CONFIG):
  --config FILE    Namespaces, JSON or YAML.
  --state-dir DIR  CA and keys.  [$XDG_STATE_HOME/hybridge]
  -h, --help       Show this message and exit.
"""

HEALTHCHECK_HELP = """\
Usage: hybridge-relay healthcheck [OPTIONS]

  Ask a running relay whether it is healthy; exit code 0 or 1.

Options, each with an environment twin (--config is HYBRIDGE_RELAY_CONFIG):
  --config FILE      Namespaces, JSON or YAML.
  --admin-host ADDR  /health and /metrics.  [both loopbacks]
  --admin-port PORT  And its port.  [5300]
  -h, --help         Show this message and exit.
"""


class Shell:
    """Runs command lines in a place of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def __call__(self, *args: str, code: int = 0) -> list[str]:
        found = exit_code_of(cli, PROGRAM, *args)
        out, err = self._capsys.readouterr()
        assert found == code, err
        if code:
            assert out == ""
            error, hint = err.splitlines()
            assert error.startswith("hybridge-relay: error: ")
            assert hint.startswith("hybridge-relay: hint: ")
            return [error, hint]
        return str(out).splitlines()

    def write(self, text: str) -> str:
        path = self.folder / "relay.json"
        path.write_text(text)
        return str(path)


@pytest.fixture
def shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Shell:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("COLUMNS", "80")
    return Shell(tmp_path, capsys)


@pytest.mark.parametrize(
    ("args", "golden"),
    [
        ((), RELAY_HELP),
        (("connection-strings",), CONNECTION_STRINGS_HELP),
        (("ca",), CA_HELP),
        (("healthcheck",), HEALTHCHECK_HELP),
    ],
)
def test_the_help_fits_one_screen(shell: Shell, args: tuple[str, ...], golden: str) -> None:
    lines = shell(*args, "--help")

    assert lines == golden.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_every_flag_has_an_environment_twin() -> None:
    commands = [cli, *(cli.commands[name] for name in cli.commands)]
    twins = {
        option.opts[0]: option.envvar
        for command in commands
        for option in command.params
        if isinstance(option, click.Option) and option.opts[0] not in ("--version", "--json")
    }

    assert twins == {
        flag: "HYBRIDGE_RELAY_" + flag.removeprefix("--").upper().replace("-", "_")
        for flag in twins
    }
    assert len(twins) == 10


def test_the_version_is_that_of_the_package(shell: Shell) -> None:
    version = importlib.metadata.version("hybridge")

    assert shell("--version") == [f"hybridge-relay, version {version}"]


# --- connection-strings --------------------------------------------------------------------------


def test_without_a_file_the_strings_carry_the_development_key(shell: Shell) -> None:
    assert shell("connection-strings", "--hybrid-connection", "orders-db=db:5432") == [
        "demo-ns/- RootManageSharedAccessKey Endpoint=sb://localhost:8443/;"
        f"SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey={DEVELOPMENT_KEY}",
        "demo-ns/orders-db defaultListener Endpoint=sb://localhost:8443/;"
        f"SharedAccessKeyName=defaultListener;SharedAccessKey={DEVELOPMENT_KEY};"
        "EntityPath=orders-db",
        "demo-ns/orders-db defaultSender Endpoint=sb://localhost:8443/;"
        f"SharedAccessKeyName=defaultSender;SharedAccessKey={DEVELOPMENT_KEY};"
        "EntityPath=orders-db",
    ]


CONFIG = """{ "UserConfig": { "Namespaces": [ {  // a comment
    "Name": "demo-ns", "Hosts": ["relay.example.test"],
    "HybridConnections": [ { "Name": "orders-db", "Endpoint": "db:5432" } ] } ] } }"""


def test_generated_keys_are_the_same_each_time(shell: Shell) -> None:
    config = shell.write(CONFIG)

    first = shell("connection-strings", "--config", config, "--port", "443")
    second = shell("--config", config, "--port", "443", "connection-strings")

    assert first == second
    assert first[1].startswith(
        "demo-ns/orders-db defaultListener Endpoint=sb://relay.example.test/;SharedAccessKeyName="
    )
    assert DEVELOPMENT_KEY not in "".join(first)
    assert (shell.folder / "xdg" / "hybridge" / "keys.json").stat().st_mode & 0o777 == 0o600


def test_the_json_form_says_the_same(shell: Shell) -> None:
    config = shell.write(CONFIG)
    lines = shell("connection-strings", "--config", config)

    rows = json.loads("".join(shell("connection-strings", "--config", config, "--json")))

    assert [row["connectionString"] for row in rows] == [line.split(" ", 2)[2] for line in lines]
    assert rows[0] | {"connectionString": ""} == {
        "namespace": "demo-ns",
        "hybridConnection": None,
        "rule": "RootManageSharedAccessKey",
        "rights": ["Listen", "Send", "Manage"],
        "connectionString": "",
    }


def test_a_flag_beats_the_environment_which_beats_the_file(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = shell.write(CONFIG.replace("] } }", '], "Settings": {"Port": 1} } }'))
    command = ("connection-strings", "--config", config)

    assert "sb://relay.example.test:1/" in shell(*command)[0]
    monkeypatch.setenv("HYBRIDGE_RELAY_PORT", "2")
    assert "sb://relay.example.test:2/" in shell(*command)[0]
    assert "sb://relay.example.test:3/" in shell(*command, "--port", "3")[0]
    monkeypatch.setenv("HYBRIDGE_RELAY_PORT", "")
    assert "sb://relay.example.test:1/" in shell(*command)[0]


def test_hybrid_connections_stand_one_a_line_in_the_environment(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRIDGE_RELAY_HYBRID_CONNECTION", "a=db:1\n b/c=[::1]:2 \n\n")

    lines = shell("connection-strings")

    assert [line.split()[0] for line in lines[1::2]] == ["demo-ns/a", "demo-ns/b/c"]


def test_the_state_directory_may_be_given_by_flag(shell: Shell) -> None:
    config = shell.write(CONFIG)

    shell("connection-strings", "--config", config, "--state-dir", str(shell.folder / "s"))

    assert (shell.folder / "s" / "keys.json").exists()
    assert not (shell.folder / "xdg").exists()


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("--prot", "1"), "No such option '--prot'"),
        (("conection-strings",), "No such command"),
        (("--port", "http"), "--port: 'http' is not a port"),
        (("--port", "65536"), "--port: '65536' is not a port"),
        (("--log-format", "xml"), "Invalid value for '--log-format'"),
        (("--host", "a b"), "Host: 'a b' is not a host name"),
        (("--host", "0.0.0.0"), "--host: 0.0.0.0 is open to other machines"),  # noqa: S104
        (("--admin-host", "::"), "--admin-host: :: is open to other machines"),
        (("--hybrid-connection", "a"), "--hybrid-connection: 'a' is not NAME=HOST:PORT"),
        (("--hybrid-connection", "a=b"), "--hybrid-connection: 'b' has no port"),
        (("--hybrid-connection", "a b=c:1"), "--hybrid-connection a b.Name: 'a b' is not a name"),
        (("--config", "missing.json"), "missing.json: no such file"),
        (("connection-strings", "--port", "0"), "--port: 0 is not the port that clients dial"),
        (("healthcheck", "--admin-port", "0"), "--admin-port: 0 is no port to ask"),
        (
            ("--hybrid-connection", "a=b:1", "--hybrid-connection", "A=b:1"),
            "--hybrid-connection A: the name 'A' is taken",
        ),
    ],
)
def test_a_mistake_is_two_lines_and_exit_code_2(
    shell: Shell, args: tuple[str, ...], error: str
) -> None:
    assert error in shell(*args, code=2)[0]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "line 1"),
        ('{"UserConfig": {"Namespaces": [{"Nmae": "x"}]}}', "[0].Nmae: unknown key"),
        ('{"UserConfig": {"Namespaces": [{"Name": 1}]}}', "[0].Name: must be a text"),
        (CONFIG.replace("orders-db", "orders db"), "'orders db' is not a name"),
    ],
)
def test_a_wrong_file_is_two_lines_and_exit_code_2(shell: Shell, text: str, error: str) -> None:
    config = shell.write(text)

    for args in (("--config", config), ("connection-strings", "--config", config)):
        line = shell(*args, code=2)[0]
        assert error in line
        assert config in line


def test_a_corrupt_or_open_state_file_is_two_lines_and_exit_code_1(shell: Shell) -> None:
    config = shell.write(CONFIG)
    shell("connection-strings", "--config", config)
    keys = shell.folder / "xdg" / "hybridge" / "keys.json"

    keys.chmod(0o644)
    assert "others may read it" in shell("--config", config, code=1)[0]
    keys.chmod(0o600)
    keys.write_text("{")
    error, hint = shell("connection-strings", "--config", config, code=1)
    assert f"{keys}: is corrupt" in error
    assert "delete it" in hint


def test_a_port_in_use_is_two_lines_and_exit_code_1(shell: Shell) -> None:
    (held,) = open_sockets("127.0.0.1", 0, flag="--port")
    with held:
        port = str(bound_address(held)[1])
        for args in (("--port", port), ("--port", "0", "--admin-port", port)):
            error, hint = shell("--state-dir", str(shell.folder / "s"), *args, code=1)
            assert f"127.0.0.1:{port} is in use" in error
            assert args[-2] in hint


def test_a_state_directory_that_cannot_be_made_is_two_lines(shell: Shell) -> None:
    (shell.folder / "file").touch()

    error, _ = shell(
        "--port", "0", "--admin-port", "0", "--state-dir", str(shell.folder / "file" / "s"), code=1
    )

    assert "the directory cannot be made" in error


# --- ca and healthcheck --------------------------------------------------------------------------


def test_the_ca_is_made_once_and_printed(shell: Shell) -> None:
    state_dir = shell.folder / "xdg" / "hybridge"

    pem = "\n".join([*shell("ca"), ""])

    assert "\n".join([*shell("ca", "--state-dir", str(state_dir)), ""]) == pem
    assert (state_dir / "ca.pem").read_text() == pem
    assert ssl.create_default_context(cadata=pem).get_ca_certs()


class Admin(http.server.BaseHTTPRequestHandler):
    """Answers as a relay's health endpoint does, or not."""

    status = 200
    body = b'{"status":"healthy"}'

    def do_GET(self) -> None:
        assert (self.path, self.headers["Host"].partition(":")[0]) == ("/health", "127.0.0.1")
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def admin() -> Iterator[type[Admin]]:
    class Handler(Admin):
        port = ""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        Handler.port = str(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Handler
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0", "127.0.0.1"])  # noqa: S104
def test_a_healthy_relay_is_exit_code_0(
    shell: Shell, admin: Any, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    monkeypatch.setenv("HYBRIDGE_RELAY_ADMIN_PORT", admin.port)

    assert shell("healthcheck", "--admin-host", host) == ['{"status":"healthy"}']


def test_a_draining_relay_is_exit_code_1(shell: Shell, admin: Any) -> None:
    admin.status, admin.body = 503, b'{"status":"draining"}'

    error, _ = shell("healthcheck", "--admin-port", admin.port, code=1)

    assert 'answers 503 {"status":"draining"}' in error


def test_no_relay_is_exit_code_1(shell: Shell) -> None:
    (held,) = open_sockets("127.0.0.1", 0, flag="--port")
    port = str(bound_address(held)[1])
    held.close()

    error, hint = shell("healthcheck", "--admin-port", port, code=1)

    assert error.endswith(f"no answer from http://127.0.0.1:{port}/health: Connection refused")
    assert "start the relay" in hint


def test_the_admin_port_may_stand_in_the_file(shell: Shell, admin: Any) -> None:
    settings = f'], "Settings": {{"AdminPort": {admin.port}}} }} }}'
    config = shell.write(CONFIG.replace("] } }", settings))

    assert shell("healthcheck", "--config", config) == ['{"status":"healthy"}']
