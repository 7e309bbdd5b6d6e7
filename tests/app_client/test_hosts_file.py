"""Our block in a hosts file: everything around it stays as it is, byte for byte."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app_client.hosts_file import HostsFile, HostsFileUnusable, OtherLine, default_hosts_file

LINE = "127.64.0.1  db.corp.local  # hybrid connection orders in ns1"
BEGIN = b"# BEGIN hybridge: written by app-client, which replaces and removes it"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_bytes(b"127.0.0.1 localhost\n")
    return path


def test_a_block_comes_last_and_is_taken_away_again(path: Path) -> None:
    file = HostsFile(path)

    assert file.write([LINE])
    assert path.read_bytes() == b"127.0.0.1 localhost\n%s\n%s\n# END hybridge\n" % (
        BEGIN,
        LINE.encode(),
    )
    assert file.lines() == [LINE]
    assert file.write([])
    assert path.read_bytes() == b"127.0.0.1 localhost\n"


def test_the_same_again_changes_nothing(path: Path) -> None:
    file = HostsFile(path)
    assert not file.write([])
    file.write([LINE])
    before = path.stat()

    assert not file.write([LINE])
    assert path.stat() == before


def test_a_block_is_replaced_where_it_stands(path: Path) -> None:
    file = HostsFile(path)
    file.write([LINE])
    path.write_bytes(path.read_bytes() + b"192.0.2.1 later\n")

    file.write(["127.64.0.2  other"])

    assert path.read_bytes().endswith(b"# END hybridge\n192.0.2.1 later\n")
    assert file.lines() == ["127.64.0.2  other"]
    file.write([])
    assert path.read_bytes() == b"127.0.0.1 localhost\n192.0.2.1 later\n"


@settings(max_examples=40)
@given(
    before=st.binary(max_size=60).filter(lambda data: b"# " not in data),
    after=st.binary(max_size=20).filter(lambda data: b"# " not in data),
)
def test_whatever_stands_around_it_is_there_again_afterwards(
    tmp_path_factory: pytest.TempPathFactory, before: bytes, after: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-hosts"
    path.write_bytes(before)
    file = HostsFile(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: None)  # It takes most of the time.
        file.write([LINE])
        path.write_bytes(path.read_bytes() + after)
        file.write([LINE, LINE])
        file.write([])

    assert path.read_bytes() in (before + after, before + b"\n" + after)
    lines = [*before.splitlines(), *after.splitlines()]
    assert [line for line in path.read_bytes().splitlines() if line] == list(filter(None, lines))


def test_what_somebody_writes_below_our_block_stays_a_line_of_its_own(path: Path) -> None:
    path.write_bytes(b"127.0.0.1 localhost")
    file = HostsFile(path)
    file.write([LINE])
    path.write_bytes(path.read_bytes() + b"192.0.2.1 later\n")

    file.write([])

    assert path.read_bytes() == b"127.0.0.1 localhost\n192.0.2.1 later\n"


def test_the_line_ends_of_windows_are_kept(path: Path) -> None:
    path.write_bytes(b"127.0.0.1 localhost\r\n")

    HostsFile(path).write([LINE])

    assert path.read_bytes().count(b"\r\n") == path.read_bytes().count(b"\n") == 4


def test_mode_and_symbolic_link_are_kept(path: Path, tmp_path: Path) -> None:
    path.chmod(0o664)
    link = tmp_path / "link"
    link.symlink_to(path)

    HostsFile(link).write([LINE])

    assert link.is_symlink()
    assert path.stat().st_mode & 0o7777 == 0o664
    assert HostsFile(path).lines() == [LINE]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["hosts", "link"]


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EACCES, errno.EXDEV])
def test_where_it_cannot_be_renamed_it_is_written_in_place(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "replace", refuse)
    identity = path.stat().st_ino
    file = HostsFile(path)

    file.write([LINE, LINE])
    assert file.lines() == [LINE, LINE]
    file.write([])

    assert path.read_bytes() == b"127.0.0.1 localhost\n"
    assert path.stat().st_ino == identity
    assert [each.name for each in tmp_path.iterdir()] == ["hosts"]


def _may_mount() -> bool:
    unshare = shutil.which("unshare")
    if unshare is None:
        return False
    command = [unshare, "-m", "true"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603


@pytest.mark.skipif(not _may_mount(), reason="only root may mount, and needs unshare")
def test_a_file_that_is_mounted_as_in_a_container_is_written_in_place(path: Path) -> None:
    other = path.with_name("mounted")
    other.write_bytes(b"127.0.0.1 localhost\n")
    code = f"""
from pathlib import Path
from app_client.hosts_file import HostsFile
HostsFile(Path({str(path)!r})).write([{LINE!r}])
"""
    script = 'mount --bind "$1" "$2" && exec "$3" -c "$4"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", str(other), str(path)]
    command += [sys.executable, code]

    subprocess.run(command, check=True)  # noqa: S603

    assert HostsFile(other).lines() == [LINE]
    assert path.read_bytes() == b"127.0.0.1 localhost\n"
    assert sorted(each.name for each in path.parent.iterdir()) == ["hosts", "mounted"]


@pytest.mark.parametrize(
    "content",
    [
        b"# BEGIN hybridge\n127.64.0.1 db\n",
        b"# END hybridge\n",
        b"# END hybridge\n# BEGIN hybridge\n",
        b"# BEGIN hybridge\n# BEGIN hybridge\n# END hybridge\n",
    ],
)
def test_a_block_that_is_not_whole_is_left_to_a_person(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    with pytest.raises(HostsFileUnusable, match=r"line [12]: the block of hybridge") as caught:
        HostsFile(path).write([LINE])

    assert "by hand" in caught.value.hint
    assert path.read_bytes() == content


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostsFileUnusable, match="nowhere cannot be read") as caught:
        HostsFile(tmp_path / "nowhere").write([LINE])

    assert caught.value.hint


def test_a_file_that_may_not_be_written_is_as_it_was_and_the_advice_is_given(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, mode: str = "r") -> object:
        if mode != "rb":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(self, mode)

    real = Path.open
    monkeypatch.setattr(Path, "open", refuse)
    file = HostsFile(path, advice="sudo app-client hosts --apply")

    with pytest.raises(HostsFileUnusable, match="hosts cannot be written: Perm") as caught:
        file.write([LINE])

    assert caught.value.hint == "sudo app-client hosts --apply"
    assert path.read_bytes() == b"127.0.0.1 localhost\n"


def test_it_is_known_before_whether_it_may_be_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    HostsFile(path).check_writable()
    monkeypatch.setattr(os, "access", lambda *_: False)

    with pytest.raises(HostsFileUnusable, match="cannot be written"):
        HostsFile(path).check_writable()


def test_other_lines_with_the_same_name_are_found(path: Path) -> None:
    file = HostsFile(path)
    path.write_bytes(b"# db.corp.local\n10.0.0.1 x DB.corp.local\n")
    file.write([LINE])
    path.write_bytes(path.read_bytes() + b"10.0.0.2 db.corp.local # db2\n")

    assert file.others("db.corp.local") == [OtherLine(2, "10.0.0.1"), OtherLine(6, "10.0.0.2")]
    assert file.others("db2") == []


def test_each_system_has_its_hosts_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert default_hosts_file() == Path("/etc/hosts")
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("SYSTEMROOT", "C:/Windows")
    assert default_hosts_file() == Path("C:/Windows/System32/drivers/etc/hosts")
