"""Temporary folders."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from devstack.folders import temporary_folder


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_a_folder_is_private_and_gone_with_its_stack(tmp_path: Path) -> None:
    with ExitStack() as stack:
        folder = temporary_folder(stack, prefix="try-")
        (folder / "file").touch()

        assert folder.name.startswith("try-")
        assert folder.stat().st_mode & 0o777 == 0o700

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_still_written_to_is_removed_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rmtree = shutil.rmtree
    late_files = iter(["one", "two"])

    def remove_while_somebody_writes(folder: Path, *, ignore_errors: bool) -> None:
        rmtree(folder, ignore_errors=ignore_errors)
        for name in late_files:
            folder.mkdir()
            (folder / name).touch()
            return

    monkeypatch.setattr(shutil, "rmtree", remove_while_somebody_writes)

    with ExitStack() as stack:
        temporary_folder(stack, prefix="try-")

    assert list(tmp_path.iterdir()) == []
