"""Unix sockets that listen: who may connect, what is replaced, what is respected."""

from __future__ import annotations

import re
import socket
import stat
from pathlib import Path

import pytest

from hybridge.protocol.errors import InvalidSetting
from hybridge.transport.listening import AddressUnusable
from hybridge.transport.unix_listening import UnixAddress, UnixListening, parse_unix_address


def listening(path: Path, mode: int = 0o600) -> UnixListening:
    return UnixListening(UnixAddress(path=path, mode=mode), flag="--listen")


def parsed(text: str) -> UnixAddress:
    return parse_unix_address(text, setting="--listen")


def test_a_path_and_who_may_connect() -> None:
    assert parsed("unix:/run/db/.s.PGSQL.5432") == UnixAddress(path=Path("/run/db/.s.PGSQL.5432"))
    assert parsed(" unix:/run/db,mode=0660 ") == UnixAddress(path=Path("/run/db"), mode=0o660)
    assert str(parsed("unix:/run/db,mode=660")) == "unix:/run/db"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("unix:", "no absolute path"),
        ("unix:db.sock", "no absolute path"),
        ("unix:/run/db/", "no absolute path"),
        ("unix:/run/d\0b", "no absolute path"),
        ("unix:/" + "d" * 107, "108 bytes, and a Unix socket's at most 107"),
    ],
)
def test_what_is_no_path_of_a_socket_is_named(text: str, problem: str) -> None:
    with pytest.raises(InvalidSetting, match=f"--listen: .*{re.escape(problem)}") as caught:
        parsed(text)

    assert caught.value.hint


def test_a_system_without_unix_sockets_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")

    with pytest.raises(InvalidSetting, match="no Unix sockets"):
        parsed("unix:/run/db")


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_it_is_as_open_as_was_said_and_gone_at_the_end(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "db"
    unix = listening(path, mode)
    with unix.socket, socket.socket(socket.AF_UNIX) as visitor:
        visitor.connect(str(path))
        found = path.stat().st_mode

    unix.remove()

    assert stat.S_ISSOCK(found)
    assert stat.S_IMODE(found) == mode
    assert not path.exists()


def test_what_a_killed_program_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "db"
    listening(path).socket.close()
    assert path.exists()

    unix = listening(path)

    with unix.socket, socket.socket(socket.AF_UNIX) as visitor:
        visitor.connect(str(path))


def test_a_program_that_listens_is_respected(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with listening(path).socket, pytest.raises(AddressUnusable, match="db is in use") as caught:
        listening(path)

    assert "ss -xlp" in caught.value.hint
    assert path.exists()


def test_something_else_of_that_name_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_text("precious")

    with pytest.raises(AddressUnusable, match="exists, and is no socket"):
        listening(path)

    assert path.read_text() == "precious"


def test_a_folder_that_is_not_there_is_named_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(AddressUnusable, match=r"the folder .*nowhere does not exist") as caught:
        listening(tmp_path / "nowhere" / "db")

    assert caught.value.hint == f"mkdir -p {tmp_path / 'nowhere'}"


def test_at_the_end_another_programs_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "db"
    first = listening(path)
    path.rename(tmp_path / "moved")
    second = listening(path)
    with first.socket, second.socket:
        first.remove()

        assert path.exists()
