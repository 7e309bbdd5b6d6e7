"""``hcm run`` as a service: what it refuses to start with, and programs that speak to it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backends.fail
import pytest

from hcm_agent import state_directory
from hcm_agent.cli import PROGRAM, cli
from hcm_agent.control.client import ServiceClient
from hcm_agent.state_directory import StateDirectory
from tests.support.agent_ends import KEY, connection_string, free_port
from tests.support.command import RunningProgram, exit_code_of

ORDERS = connection_string("orders")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateDirectory:
    """The state directory that nobody named, of this test alone."""
    for name in [name for name in os.environ if name.startswith("HCM_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(state_directory, "SYSTEM_DIRECTORY", tmp_path / "system")
    return StateDirectory(tmp_path / "hybridge" / "hcm", is_named=False)


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, list[str]]:
    """How ``hcm run`` ends that does not start: exit code, and its two lines."""
    code = exit_code_of(cli, PROGRAM, "run", *args)
    errors = capsys.readouterr().err
    assert KEY not in errors
    lines = [line for line in errors.splitlines() if line.startswith("hcm: ")]
    assert [line.split()[1] for line in lines] == ["error:", "hint:"]
    return code, lines


def test_a_second_service_with_the_same_state_does_not_start(
    state: StateDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    with state.held():
        code, lines = refused(capsys)
        named, named_lines = refused(
            capsys, "--state", str(state.path), "--connection-string", ORDERS
        )

    assert (code, named) == (1, 1)
    assert "another hcm service runs" in lines[0]
    assert "another hcm service runs" in named_lines[0]


@pytest.mark.parametrize("configured", [(), ("--connection-string", ORDERS)])
def test_what_was_added_and_cannot_be_read_is_not_passed_over(
    state: StateDirectory, capsys: pytest.CaptureFixture[str], configured: tuple[str, ...]
) -> None:
    state.path.mkdir(parents=True, mode=0o700)
    state.connections.touch(mode=0o600)
    state.connections.write_text("{ ...")

    code, lines = refused(capsys, *configured)

    assert code == 1
    assert f"{state.connections}: is not what 'hcm add' wrote" in lines[0]
    assert state.connections.read_text() == "{ ..."


def test_a_mistake_in_the_configuration_is_told_first(
    state: StateDirectory, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "hcm.json"
    config.write_text('{"HybridConections": []}')
    with state.held():
        code, lines = refused(capsys, "--config", str(config))

    assert code == 2
    assert "HybridConections: unknown key" in lines[0]


def test_a_directory_that_cannot_be_made_is_named(
    state: StateDirectory, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()

    code, lines = refused(capsys, "--state", str(tmp_path / "file" / "state"))

    assert code == 1
    assert f"{tmp_path / 'file' / 'state'}: the directory cannot be made" in lines[0]


def test_keys_cannot_be_kept_where_there_is_no_keyring(
    state: StateDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(keyring.backends.fail.Keyring())  # type: ignore[no-untyped-call]
    try:
        code, lines = refused(capsys, "--keys", "keyring")
    finally:
        keyring.set_keyring(before)

    assert code == 2
    assert "--keys: this system has no keyring" in lines[0]


def test_without_state_something_must_be_configured(
    state: StateDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = refused(capsys, "--state", "none")

    assert code == 2
    assert "none is configured" in lines[0]
    assert not state.path.exists()


# --- programs ------------------------------------------------------------------------------------


@contextlib.contextmanager
def running_hcm(state: StateDirectory, *args: str, **settings: str) -> Iterator[RunningProgram]:
    environment = {
        "HCM_STATE": str(state.path),
        "HCM_CONNECT_TO": f"127.0.0.1:{free_port()}",
        **settings,
    }
    with RunningProgram("hcm_agent", ("run", *args), environment) as program:
        program.event("verbs")
        yield program


def verb(state: StateDirectory, *args: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "hcm_agent", *args],
        env={**os.environ, "HCM_STATE": str(state.path), "TERM": "xterm", "COLUMNS": "80"},
        text=True,
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


def test_a_service_that_was_killed_is_followed_by_one_that_has_all_that_was_added(
    state: StateDirectory,
) -> None:
    with running_hcm(state) as killed:
        ServiceClient(state).post("/add", connectionString=ORDERS, targets=["127.0.0.1:9"])
        killed.signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
    assert state.socket.exists()

    with running_hcm(state) as next_one:
        assert next_one.event("offline")["hybrid_connection"] == "orders"
        found = ServiceClient(state).get("/hybrid-connections")
        next_one.signal(signal.SIGTERM)
        assert next_one.wait() == 0

    assert isinstance(found, list)
    assert [each["Name"] for each in found] == ["orders"]
    assert not state.socket.exists()
    assert KEY not in killed.output + next_one.output
    assert "Traceback" not in killed.output + next_one.output


def test_an_agent_whose_usual_directory_is_taken_serves_what_it_was_given_and_says_so(
    state: StateDirectory, tmp_path: Path
) -> None:
    environment = {
        "HCM_STATE": "",
        "XDG_STATE_HOME": str(tmp_path),
        "HOME": str(tmp_path),
        "HCM_CONNECTION_STRING": ORDERS,
        "HCM_CONNECT_TO": f"127.0.0.1:{free_port()}",
    }
    with state.held(), RunningProgram("hcm_agent", ("run",), environment) as program:
        assert "another hcm service runs" in str(program.event("no_verbs")["message"])
        program.event("offline")
        program.signal(signal.SIGTERM)
        assert program.wait() == 0


def test_each_change_is_one_line_for_programs_that_watch(state: StateDirectory) -> None:
    with running_hcm(state), verb(state, "list", "--watch", "--json") as watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline()) == []

        ServiceClient(state).post("/add", connectionString=ORDERS, targets=["127.0.0.1:9"])
        (described,) = json.loads(watching.stdout.readline())
        assert described["Name"] == "orders"

        watching.send_signal(signal.SIGINT)
        _, errors = watching.communicate(timeout=30)

    assert (watching.returncode, errors) == (0, "")


def test_a_terminal_that_watches_gets_its_cursor_back(state: StateDirectory) -> None:
    primary, secondary = pty.openpty()
    with running_hcm(state), verb(state, "list", "--watch", stdout=secondary) as watching:
        os.close(secondary)
        shown = b""
        while b"nothing is served yet" not in shown:
            shown += os.read(primary, 4_096)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=30) == 0
        with contextlib.suppress(OSError):  # What Linux says at the end of a terminal.
            while more := os.read(primary, 4_096):
                shown += more
        assert watching.stderr is not None
        assert watching.stderr.read() == ""
    os.close(primary)

    hidden, given_back = shown.rfind(b"\x1b[?25l"), shown.rfind(b"\x1b[?25h")
    assert 0 <= hidden < given_back


def test_who_follows_is_told_when_the_service_ends(state: StateDirectory) -> None:
    with (
        running_hcm(state) as service,
        verb(state, "logs", "--follow", "--json") as following,
        verb(state, "list", "--watch", "--json") as watching,
    ):
        assert following.stdout is not None
        assert watching.stdout is not None
        assert json.loads(following.stdout.readline())["program"] == "hcm"
        watching.stdout.readline()
        service.signal(signal.SIGTERM)
        assert service.wait() == 0
        _, complaint = following.communicate(timeout=30)
        _, errors = watching.communicate(timeout=30)

    assert (following.returncode, watching.returncode) == (0, 1)
    assert complaint == ""
    assert errors.startswith("hcm: error: the service has ended\nhcm: hint: ")
    assert "Traceback" not in service.output
