from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hybridge.transport import private_files
from hybridge.transport.private_files import (
    PUBLIC_FILE,
    UnusableFile,
    locked,
    make_private_directory,
    read_private,
    remove_unfinished,
    write_atomically,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_directory_is_made_for_this_user_only(tmp_path: Path) -> None:
    make_private_directory(tmp_path / "a" / "b")
    make_private_directory(tmp_path / "a" / "b")

    assert mode(tmp_path / "a" / "b") == 0o700


def test_a_directory_that_others_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)

    with pytest.raises(UnusableFile, match="others may write") as caught:
        make_private_directory(tmp_path)

    assert caught.value.hint == f"chmod 700 {tmp_path}"


def test_a_file_in_the_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(UnusableFile, match="is not a directory"):
        make_private_directory(tmp_path / "file")
    with pytest.raises(UnusableFile, match="cannot be made"):
        make_private_directory(tmp_path / "file" / "below")


def test_what_is_written_is_read_back_and_private(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    old_umask = os.umask(0)
    try:
        write_atomically(path, b"one")
        write_atomically(path, b"two")
    finally:
        os.umask(old_umask)

    assert read_private(path) == b"two"
    assert mode(path) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["keys"]


def test_a_public_file_is_public_whatever_the_umask(tmp_path: Path) -> None:
    old_umask = os.umask(0o077)
    try:
        write_atomically(tmp_path / "ca.pem", b"x", mode=PUBLIC_FILE)
    finally:
        os.umask(old_umask)

    assert mode(tmp_path / "ca.pem") == 0o644


def test_no_file_is_no_error(tmp_path: Path) -> None:
    assert read_private(tmp_path / "keys") is None


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o660, 0o644])
def test_a_file_that_others_may_read_or_write_is_refused(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "keys"
    path.write_bytes(b"secret")
    path.chmod(bits)

    with pytest.raises(UnusableFile, match=f"others may read it .mode {bits:04o}") as caught:
        read_private(path)

    assert f"chmod 600 {path}" in caught.value.hint


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    write_atomically(tmp_path / "real", b"x")
    (tmp_path / "keys").symlink_to(tmp_path / "real")

    with pytest.raises(UnusableFile, match="is a symbolic link"):
        read_private(tmp_path / "keys")

    write_atomically(tmp_path / "keys", b"y")
    assert (read_private(tmp_path / "real"), read_private(tmp_path / "keys")) == (b"x", b"y")


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(0o700)

    for name in ("pipe", "folder"):
        with pytest.raises(UnusableFile, match="is not a file"):
            read_private(tmp_path / name)


def test_a_file_that_is_far_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    write_atomically(path, b"")
    os.truncate(path, private_files.MAX_FILE_BYTES + 1)

    with pytest.raises(UnusableFile, match="too large"):
        read_private(path)


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys"
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnusableFile, match=r"keys: cannot be written: No space left on device"):
        write_atomically(path, b"new")

    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["keys"]


def test_a_missing_folder_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(UnusableFile, match="cannot be written: No such file"):
        write_atomically(tmp_path / "none" / "keys", b"")
    with pytest.raises(UnusableFile, match="cannot be written"), locked(tmp_path / "none"):
        pass


def test_another_process_waits_for_the_lock(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from hybridge.transport.private_files import locked\n"
        "print('started', flush=True)\n"
        "with locked(pathlib.Path(sys.argv[1])):\n"
        "    print(pathlib.Path(sys.argv[1], 'done').exists())\n"
    )
    with locked(tmp_path):
        other = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None
        assert other.stdout.readline() == "started\n"
        (tmp_path / "done").touch()
    with other:
        assert other.stdout.readline() == "True\n"


def test_the_directories_above_are_no_others_to_write_whatever_the_umask(tmp_path: Path) -> None:
    old_umask = os.umask(0)
    try:
        make_private_directory(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(old_umask)

    assert [mode(tmp_path / each) for each in ("a", "a/b", "a/b/c")] == [0o755, 0o755, 0o700]


def test_what_a_killed_process_left_of_a_file_is_removed_and_nothing_else(tmp_path: Path) -> None:
    write_atomically(tmp_path / "keys", b"kept")
    (tmp_path / ".keys.0123456789abcdef.tmp").write_bytes(b"half of what")
    (tmp_path / ".others.0123456789abcdef.tmp").write_bytes(b"of another file")

    remove_unfinished(tmp_path / "keys")

    left = sorted(each.name for each in tmp_path.iterdir())
    assert left == [".others.0123456789abcdef.tmp", "keys"]


def test_a_full_disk_is_said_with_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(UnusableFile, match="No space left") as caught:
        write_atomically(tmp_path / "keys", b"new")

    assert caught.value.hint == "make room on the disk"
    assert list(tmp_path.iterdir()) == []
