"""What the documentation shows of the examples is what the tests run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import shown_files

_SHOWN = {
    path: shown
    for path in shown_files.pages()
    if (shown := shown_files.shown(path.read_text(encoding="utf-8")))
}


@pytest.mark.parametrize("path", _SHOWN, ids=lambda path: path.name)
def test_a_page_shows_its_files_word_for_word(path: Path) -> None:
    page = path.read_text(encoding="utf-8")

    assert shown_files.fresh(page) == page, "run: python -m tests.shown_files --write"


def test_every_file_beside_one_that_is_shown_is_shown() -> None:
    shown = {shown_files.ROOT / name for files in _SHOWN.values() for name in files}
    beside = {path for each in shown for path in each.parent.iterdir() if path.is_file()}

    assert len(shown) >= 10
    assert sorted(beside - shown) == []
