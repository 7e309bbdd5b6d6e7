"""The system's own Python as a peer."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.peers import PeerMissing, system_python
from benchmarks.peers.system_python import SystemPython


def fake_python(folder: Path, says: str) -> Path:
    path = folder / "python3"
    path.write_text(f"#!/bin/sh\necho {says}\n")
    path.chmod(0o755)
    return path


def test_it_is_not_measured_twice_where_what_runs_this_is_in_one_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_python, "is_shared", lambda: False)

    with pytest.raises(PeerMissing, match="in one piece"):
        SystemPython(cache=tmp_path).prepare()


@pytest.mark.parametrize(
    ("says", "problem"),
    [
        ("3 10 9 False", r"3\.10\.9"),
        ("3 14 0 False", r"3\.14\.0"),
        ("3 11 2 True", "shared library"),
    ],
)
def test_one_that_does_not_fit_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, problem: str
) -> None:
    monkeypatch.setattr(system_python, "is_shared", lambda: True)
    monkeypatch.setattr(system_python, "SYSTEM_PYTHON", fake_python(tmp_path, says))

    with pytest.raises(PeerMissing, match=problem):
        SystemPython(cache=tmp_path / "cache").prepare()


def test_a_system_without_one_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_python, "is_shared", lambda: True)
    monkeypatch.setattr(system_python, "SYSTEM_PYTHON", tmp_path / "python3")

    with pytest.raises(PeerMissing, match="no Python"):
        SystemPython(cache=tmp_path / "cache").prepare()


def test_its_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[tuple[str | Path, ...]] = []
    monkeypatch.setattr(system_python, "is_shared", lambda: True)
    monkeypatch.setattr(system_python, "SYSTEM_PYTHON", fake_python(tmp_path, "3 11 2 False"))
    monkeypatch.setattr(system_python, "_run", lambda *each: commands.append(each))
    folder = tmp_path / "cache" / "system-python"
    folder.mkdir(parents=True)

    for _ in range(2):
        assert SystemPython(cache=tmp_path / "cache").prepare() == (
            folder / "bin" / "python",
            "3.11.2",
        )

    assert [each[1:3] for each in commands] == [("-m", "venv"), ("-m", "pip")]
