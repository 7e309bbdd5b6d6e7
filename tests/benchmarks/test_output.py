"""Where the report goes is known to be writable before anything is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.__main__ import _make_folder
from hybridge.protocol.errors import InvalidSetting


def test_a_folder_that_cannot_be_made_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(InvalidSetting, match="nothing can be written there") as caught:
        _make_folder(tmp_path / "file" / "results")

    assert "--output" in caught.value.hint


def test_a_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    _make_folder(tmp_path / "new" / "results")

    assert list((tmp_path / "new" / "results").iterdir()) == []
