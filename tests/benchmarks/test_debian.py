from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.peers import PeerMissing
from benchmarks.peers.debian import DebianProgram

SSHD = DebianProgram(program="sshd", package="openssh-server")


def none_installed(monkeypatch: pytest.MonkeyPatch, *installed: str) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path=None: name if name in installed else None)


def test_without_the_program_and_without_debian_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    none_installed(monkeypatch)

    with pytest.raises(PeerMissing, match="no sshd was found: install openssh-server"):
        SSHD.find(tmp_path)


def test_what_was_fetched_before_is_used_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    none_installed(monkeypatch)
    fetched = tmp_path / "openssh-server" / "sshd"
    fetched.parent.mkdir()
    fetched.touch()

    assert SSHD.find(tmp_path) == fetched


def test_what_cannot_be_fetched_is_missing_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    none_installed(monkeypatch, "apt-get", "dpkg-deb")

    def fail(command: list[str], **_: object) -> None:
        raise subprocess.CalledProcessError(100, command)

    monkeypatch.setattr("subprocess.run", fail)

    with pytest.raises(PeerMissing, match="openssh-server could not be fetched"):
        SSHD.find(tmp_path)
    assert list(tmp_path.iterdir()) == []
