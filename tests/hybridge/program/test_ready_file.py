"""A file that exists while a program is ready."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hybridge.program.ready_file import ReadyFile
from hybridge.protocol.errors import InvalidSetting


def test_it_appears_changes_and_disappears(tmp_path: Path) -> None:
    path = tmp_path / "ready"
    ready = ReadyFile(path)

    ready.write({"port": 1})
    ready.write({"port": 2})
    assert json.loads(path.read_text()) == {"port": 2}
    ready.remove()
    ready.remove()

    assert list(tmp_path.iterdir()) == []


def test_what_an_earlier_run_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "ready"
    path.write_text("old")

    ReadyFile(path)

    assert not path.exists()


def test_a_place_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"--ready-file: .*ready cannot be written"):
        ReadyFile(tmp_path / "nowhere" / "ready")


def test_later_trouble_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    ready = ReadyFile(folder / "ready")
    folder.rmdir()

    ready.write({})

    assert "No such file" in caplog.text


def test_no_file_is_fine() -> None:
    ready = ReadyFile(None)
    ready.write({})
    ready.remove()
