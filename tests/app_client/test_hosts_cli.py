"""The command ``app-client hosts``, where docs/client.md does not show it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app_client import hosts_cli
from app_client.cli import PROGRAM, cli
from app_client.settings import ClientSettings, Forward
from app_client.target_lookup import Metadata
from hybridge.protocol.errors import AuthorizationFailed, RelayError, Unreachable
from tests.support.agent_ends import KEY, connection_string
from tests.support.client_ends import Information
from tests.support.command import exit_code_of


@pytest.fixture(autouse=True)
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Information | RelayError]:
    """What the relay says of each hybrid connection."""
    found: dict[str, Information | RelayError] = {}

    async def read(forward: Forward, settings: ClientSettings) -> Metadata:
        answer = found[forward.name]
        if isinstance(answer, RelayError):
            raise answer
        return answer

    monkeypatch.setattr(hosts_cli, "read_metadata", read)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 localhost\n")
    return path


def hosts(path: Path, *args: str, names: tuple[str, ...] = ("orders", "stock")) -> int:
    strings = [word for name in names for word in ("--connection-string", connection_string(name))]
    return exit_code_of(cli, PROGRAM, "hosts", "--file", str(path), *strings, *args)


def test_the_names_come_from_the_relays_metadata(
    path: Path,
    answers: dict[str, Information | RelayError],
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers["orders"] = Information(("db.corp.local", 5432))
    answers["stock"] = Information(("stock.corp.local", 5432))

    assert hosts(path) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["db.corp.local", "stock.corp.local"]
    assert lines[0].startswith("127.100.96.91  db.corp.local  # hybrid connection orders in ns1.")
    assert path.read_text() == "127.0.0.1 localhost\n"


@pytest.mark.parametrize(
    ("answer", "message", "hint"),
    [
        (Unreachable("no route"), "stock: no route", "relay is running"),
        (AuthorizationFailed("401 InvalidSignature"), "stock: 401 InvalidSignature", "Endpoint"),
        (Information(None), "stock: the hybrid connection's metadata names no", "Endpoint"),
    ],
)
def test_what_is_not_known_is_said_with_the_next_step_and_nothing_is_written(
    path: Path,
    answers: dict[str, Information | RelayError],
    capsys: pytest.CaptureFixture[str],
    answer: Information | RelayError,
    message: str,
    hint: str,
) -> None:
    answers["orders"] = Information(("db.corp.local", 5432))
    answers["stock"] = answer

    assert hosts(path) == 1
    printed = capsys.readouterr()
    assert "db.corp.local" in printed.out
    assert hosts(path, "--apply") == 1
    error, next_step = capsys.readouterr().err.splitlines()

    assert message in error
    assert hint in next_step
    assert KEY not in printed.err + error + next_step
    assert path.read_text() == "127.0.0.1 localhost\n"


def test_another_line_with_the_same_name_is_pointed_out(
    path: Path,
    answers: dict[str, Information | RelayError],
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers["orders"] = Information(("db.corp.local", 5432))
    path.write_text("10.0.0.1 db.corp.local\n")

    assert hosts(path, "--apply", names=("orders",)) == 0

    assert f"{path}, line 1, gives db.corp.local the address 10.0.0.1" in capsys.readouterr().err


def test_programs_get_json_of_all_and_of_what_is_written(
    path: Path,
    answers: dict[str, Information | RelayError],
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers["orders"] = Information(("db.corp.local", 5432))
    answers["stock"] = Information(("10.0.0.9", 5432))

    assert hosts(path, "--json") == 0
    first, second = json.loads(capsys.readouterr().out)["hosts"]
    assert (first["name"], first["endpoint"]) == ("db.corp.local", "db.corp.local:5432")
    assert (second["name"], "IP address" in second["problem"]) == (None, True)

    assert hosts(path, "--json", "--apply") == 0
    assert json.loads(capsys.readouterr().out)["file"] == str(path)
    assert hosts(path, "--json", "--remove") == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(path), "hosts": []}


def test_where_it_may_not_write_it_gives_the_command_that_may(
    path: Path,
    answers: dict[str, Information | RelayError],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    answers["orders"] = Information(("db.corp.local", 5432))
    monkeypatch.setattr("app_client.hosts_file._write_in_place", refuse)
    monkeypatch.setattr(
        "app_client.hosts_file._write_beside", lambda path, draft, content: refuse(path, content)
    )

    assert hosts(path, "--apply", names=("orders",)) == 1

    error, hint = capsys.readouterr().err.splitlines()
    assert error == f"app-client: error: {path} cannot be written: Permission denied"
    assert hint.startswith('app-client: hint: sudo -E env "PATH=$PATH" app-client hosts --apply')
    assert f"--file {path}" in hint
    assert KEY not in hint
