from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, SecretStr

from hybridge.program.documents import load, spelled, validated
from hybridge.protocol.errors import InvalidSetting


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain.json", '{"a": [1, "x"]}'),
        ("comments.json", '// one\n{"a": [1, /* two */ "x",],}\n'),
        ("comments.jsonc", '{\n  # no\n  "a": [1, "x"]}'.replace("# no", "// yes")),
        ("bom.json", b'\xef\xbb\xbf{"a": [1, "x"]}'),
        ("a.yaml", "a:\n  - 1\n  - x\n"),
        ("a.YML", "{a: [1, x]}"),
        ("json-inside.conf", '{"a": [1, "x"]} // json'),
        ("yaml-inside.conf", "a: [1, x]"),
    ],
)
def test_json_with_comments_and_yaml_are_read(tmp_path: Path, name: str, text: str | bytes) -> None:
    assert load(written(tmp_path, name, text)) == {"a": [1, "x"]}


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.json", '{\n  // comment\n  "a": 1 "b": 2\n}', "a.json, line 3, column 10: "),
        ("a.json", '{"a": 1', "a.json, line 1"),
        ("a.json", "", "not JSON|unexpected"),
        ("a.json", "a: 1", "a.json, line 1"),
        ("a.json", '{"a": 1, "a": 2}', "the key 'a' stands twice"),
        ("a.json", '{"a": 1, /* x */ "a": 2}', "the key 'a' stands twice"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", "// x\n" + "[" * 100_000, "nested too deeply"),
        ("a.json", b"\xff\xfe{", "not UTF-8"),
        ("a.yaml", "a: [1\nb: 2", "a.yaml, line 2, column 2: "),
        ("a.yaml", "a: 1\nb: 2\na: 3", "line 3: the key 'a' stands twice"),
        ("a.yaml", "a: !!python/object/apply:os.system [x]", "a.yaml, line 1, column 4: "),
        ("a.yaml", "a: \x00", "unacceptable character"),
        ("a.yaml", "? [a]\n: 1", "a.yaml, line 1"),
        ("a.yaml", "[" * 1_000, "nested too deeply"),
        ("a.conf", "{\n x", "a.conf, line 2"),
        ("a.conf", "a: [1\nb: 2", "a.conf, line 2"),
    ],
)
def test_what_is_neither_is_refused_with_its_line(
    tmp_path: Path, name: str, text: str | bytes, problem: str
) -> None:
    with pytest.raises(InvalidSetting, match=problem) as caught:
        load(written(tmp_path, name, text))

    assert str(tmp_path / name) in str(caught.value)
    assert caught.value.hint


def test_yaml_may_share_parts_and_override_a_merged_key(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\n"

    assert load(written(tmp_path, "a.yaml", text)) == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
    }


def test_a_file_that_is_not_there_or_not_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"missing.json: no such file"):
        load(tmp_path / "missing.json")
    with pytest.raises(InvalidSetting, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_a_file_that_this_user_may_not_read_says_which_user_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    path = written(tmp_path, "a.json", "{}")
    monkeypatch.setattr(Path, "read_text", denied)

    with pytest.raises(InvalidSetting, match="cannot be read: Permission") as caught:
        load(path)
    assert caught.value.hint == f"let user {os.getuid()} read it: chmod"


def test_a_pipe_or_a_device_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)

    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(InvalidSetting, match="is not a regular file") as caught:
            load(path)
        assert caught.value.hint


@given(st.binary(max_size=200), st.sampled_from(["a.json", "a.yaml", "a.conf"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_file_raises_anything_but_the_error_for_it(
    tmp_path: Path, data: bytes, name: str
) -> None:
    try:
        load(written(tmp_path, name, data))
    except InvalidSetting:
        return


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=str.title)

    name: str
    ports: list[int] = []
    key: SecretStr | None = None


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=str.title)

    items: list[Inner]
    first: Inner | None = None
    ratio: float = 1.0
    on: bool = True


@pytest.mark.parametrize(
    ("data", "error", "hint"),
    [
        (
            {"Items": [{"Nmae": "x"}]},
            "f.json: Items[0].Nmae: unknown key (and 1 more)",
            "did you mean 'Name'? known: Name, Ports, Key",
        ),
        (
            {"Items": [], "First": {"Name": "x", "zzz": 1}},
            "f.json: First.zzz: unknown key",
            "known: Name, Ports, Key",
        ),
        ({"items": []}, "f.json: items: unknown key (and 1 more)", "did you mean 'Items'?"),
        ({}, "f.json: Items: is missing", "add the key 'Items'"),
        ({"Items": {}}, "f.json: Items: must be a list, not an object", "write it in [ ]"),
        ({"Items": [1]}, "f.json: Items[0]: must be an object, not a number", "known keys: Name"),
        (
            {"Items": [{"Name": 1}]},
            "f.json: Items[0].Name: must be a text, not a number",
            "put it in quotes",
        ),
        (
            {"Items": [{"Name": "x", "Ports": [1, "2"]}]},
            "f.json: Items[0].Ports[1]: must be a whole number, not a text",
            "write it without quotes",
        ),
        ({"Items": [], "Ratio": []}, "f.json: Ratio: must be a number, not a list", "without"),
        ({"Items": [], "On": None}, "f.json: On: must be true or false, not nothing", "true"),
        (None, "f.json: must be an object, not nothing (null)", "known keys: Items"),
        ([], "f.json: must be an object, not a list", "known keys: Items"),
    ],
)
def test_a_wrong_key_or_type_is_named_with_its_place(data: object, error: str, hint: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        validated(Outer, data, "f.json")

    assert str(caught.value).startswith(error)
    assert hint in caught.value.hint


def test_a_key_that_is_not_a_text_is_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"f\.yaml: Items"):
        validated(Outer, {"Items": [{1: 2}]}, "f.yaml")


def test_a_value_is_never_shown() -> None:
    data = {"Items": [{"Name": "x", "Key": ["geheim"], "Ports": "geheim"}]}

    with pytest.raises(InvalidSetting) as caught:
        validated(Outer, data, "f.json")

    assert "geheim" not in f"{caught.value!r} {caught.value.hint}"
    assert caught.value.__cause__ is None


def test_what_is_right_is_given() -> None:
    assert validated(Outer, {"Items": [{"Name": "x"}]}, "f.json").items[0].name == "x"


def test_a_place_is_spelled_as_people_do() -> None:
    assert spelled(("UserConfig", "Namespaces", 0, "Name")) == "UserConfig.Namespaces[0].Name"
    assert spelled((0, "a")) == "[0].a"
    assert spelled(()) == ""
