"""A real PostgreSQL, started and gone again."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil
import psycopg
import pytest

from devstack import postgres
from devstack.postgres import PostgresServer
from devstack.processes import ProcessFailed


def test_it_serves_sql_over_tcp_as_an_ordinary_user_and_is_gone_afterwards() -> None:
    with PostgresServer() as server:
        with psycopg.connect(server.dsn, require_auth="scram-sha-256") as connection:
            row = connection.execute(
                "select current_user, current_setting('unix_socket_directories')"
            ).fetchone()
        process = psutil.Process(server.pid)
        data = Path(process.cwd())
        user_id = process.uids().effective
        listening = {
            entry.laddr[:2] for entry in process.net_connections() if entry.status == "LISTEN"
        }

    assert row == ("postgres", "")
    assert user_id != 0
    assert listening == {("127.0.0.1", server.port)}
    assert not process.is_running()
    assert not data.parent.exists()


def test_a_port_that_another_program_took_is_tried_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    free_port = postgres._free_port
    with socket.create_server(("127.0.0.1", 0)) as other:
        ports = iter([other.getsockname()[1], free_port("127.0.0.1")])
        monkeypatch.setattr(postgres, "_free_port", lambda host: next(ports))

        with PostgresServer() as server:
            psycopg.connect(server.dsn).close()

            assert server.port != other.getsockname()[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")
def test_programs_that_the_account_cannot_reach_are_copied_to_where_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = postgres.unprivileged_account()
    assert account is not None
    package = tmp_path / "private" / postgres.PACKAGE
    (package / "pginstall" / "bin").mkdir(parents=True)
    (package / "pginstall" / "bin" / "postgres").symlink_to("/bin/true")
    package.parent.chmod(0o700)
    monkeypatch.syspath_prepend(package.parent)
    (package / "__init__.py").touch()
    copied = tmp_path / "copied"
    copied.mkdir()

    assert postgres.usable_programs(copied, account).is_relative_to(copied)


def test_a_missing_wheel_is_an_error_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "PACKAGE", "no_such_package")

    with pytest.raises(ProcessFailed, match="PostgreSQL is not installed") as caught:
        PostgresServer().__enter__()

    assert "pip install" in caught.value.hint


def test_the_password_is_not_in_what_is_printed_of_a_server() -> None:
    server = PostgresServer()

    assert server.password not in repr(server)
    assert server.password in server.dsn
