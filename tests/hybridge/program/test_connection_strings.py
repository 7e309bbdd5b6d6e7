"""Connection strings on the command line and in files."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hybridge.program.connection_strings import GivenConnectionStrings, parse_for_one
from hybridge.protocol.errors import InvalidSetting
from tests.support.agent_ends import KEY, connection_string


def private_file(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def names(given: GivenConnectionStrings) -> list[str | None]:
    return [parsed.path for parsed in given.parse()]


def test_texts_come_first_and_files_have_one_per_line(tmp_path: Path) -> None:
    path = private_file(
        tmp_path / "strings",
        f"# ours\n{connection_string('b')}\n\n  {connection_string('c')}  \n",
    )

    given = GivenConnectionStrings(texts=(connection_string("a"),), files=(path,))

    assert names(given) == ["a", "b", "c"]


def test_a_malformed_text_is_counted_when_there_are_several() -> None:
    with pytest.raises(InvalidSetting, match=r"^connection string 2: "):
        GivenConnectionStrings(texts=(connection_string("a"), f"key={KEY}")).parse()


def test_a_single_malformed_text_is_not_counted() -> None:
    with pytest.raises(InvalidSetting, match=r"^connection string: ") as caught:
        GivenConnectionStrings(texts=(f"SharedAccessKey={KEY}",)).parse()

    assert KEY not in f"{caught.value} {caught.value.hint}"


def test_a_malformed_line_is_named_by_file_and_number(tmp_path: Path) -> None:
    path = private_file(tmp_path / "strings", f"\n{connection_string('a')}\nhc://old\n")

    with pytest.raises(InvalidSetting, match=r"strings:3: .*BizTalk"):
        GivenConnectionStrings(files=(path,)).parse()


def test_a_namespace_string_lacks_the_hybrid_connection() -> None:
    text = connection_string("a").rpartition(";")[0]

    with pytest.raises(InvalidSetting, match="names no hybrid connection") as caught:
        parse_for_one(text, source="here")

    assert "EntityPath" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: No such file"),
        (b"", "holds no connection string"),
        (b"# nothing\n", "holds no connection string"),
        (b"\xff\xfe", "it is not UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    path = tmp_path / "strings"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(InvalidSetting, match=problem) as caught:
        GivenConnectionStrings(files=(path,)).parse()

    assert str(path) in str(caught.value)
    assert caught.value.hint


def test_a_file_that_others_can_read_gets_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = private_file(tmp_path / "strings", connection_string("a"))
    path.chmod(0o644)

    with caplog.at_level(logging.WARNING):
        GivenConnectionStrings(files=(path,)).parse()

    assert "chmod 600" in caplog.text
    assert KEY not in caplog.text


def test_a_file_without_keys_may_be_read_by_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = private_file(tmp_path / "strings", "Endpoint=sb://ns1.example.test/;EntityPath=a")
    path.chmod(0o644)

    with caplog.at_level(logging.WARNING):
        GivenConnectionStrings(files=(path,)).parse()

    assert not caplog.records


def test_its_repr_shows_no_key() -> None:
    assert KEY not in repr(GivenConnectionStrings(texts=(connection_string("a"),)))
