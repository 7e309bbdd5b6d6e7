from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybridge.protocol.errors import InvalidSetting
from hybridge.transport.private_files import UnusableFile
from relay.state import KeyFile, RuleName, default_state_dir

RULE = RuleName("demo-ns", "orders", "defaultListener")


def test_the_state_is_where_the_desktop_standard_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")

    assert default_state_dir({"XDG_STATE_HOME": "/var/x"}) == Path("/var/x/hybridge")
    for relative in ({}, {"XDG_STATE_HOME": ""}, {"XDG_STATE_HOME": "x"}):
        assert default_state_dir(relative) == Path("/home/somebody/.local/state/hybridge")


def test_without_a_home_directory_the_flag_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)

    with pytest.raises(InvalidSetting, match="--state-dir"):
        default_state_dir({})


def test_a_key_is_the_base64_of_32_random_bytes(tmp_path: Path) -> None:
    with KeyFile.open(tmp_path) as keys:
        both = keys.keys_of(RULE)

    texts = [each.reveal() for each in both]
    assert [len(base64.b64decode(text)) for text in texts] == [32, 32]
    assert [len(text) for text in texts] == [44, 44]
    assert texts[0] != texts[1]


def test_a_key_that_was_saved_is_the_same_after_a_restart_in_any_case(tmp_path: Path) -> None:
    with KeyFile.open(tmp_path) as keys:
        first = keys.keys_of(RULE)
        other = keys.keys_of(RuleName("demo-ns", None, "defaultListener"))
        keys.save()
    with KeyFile.open(tmp_path) as keys:
        second = keys.keys_of(RuleName("DEMO-NS", "Orders", "DEFAULTLISTENER"))

    assert first == second != other
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600


def test_a_key_that_was_not_saved_is_forgotten(tmp_path: Path) -> None:
    with KeyFile.open(tmp_path) as keys:
        keys.keys_of(RULE)

    assert not (tmp_path / "keys.json").exists()


def test_saving_without_a_change_leaves_the_file_alone(tmp_path: Path) -> None:
    with KeyFile.open(tmp_path) as keys:
        keys.keys_of(RULE)
        keys.save()
    before = (tmp_path / "keys.json").stat().st_ino

    with KeyFile.open(tmp_path) as keys:
        keys.keys_of(RULE)
        keys.save()

    assert (tmp_path / "keys.json").stat().st_ino == before


ROW = {
    "namespace": "n",
    "hybrid_connection": None,
    "rule": "r",
    "primary_key": "GEHEIM",
    "secondary_key": "GEHEIM",
}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": 1}',
        '{"format": 1, "keys": [1]}',
        json.dumps({"format": 1, "keys": [ROW | {"rule": ""}]}),
        json.dumps({"format": 1, "keys": [ROW | {"primary_key": 1}]}),
        json.dumps({"format": 1, "keys": [{"primary_key": "GEHEIM"}]}),
        json.dumps({"format": 1, "keys": [ROW]})[:-3],
        '{"format": 1, "keys": ' + "[" * 100_000,
        "\udcff",
    ],
)
def test_a_corrupt_file_is_named_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.touch(0o600)
    path.write_bytes(content.encode(errors="surrogateescape"))

    problem = re.escape(f"{path}: is corrupt")
    with pytest.raises(UnusableFile, match=problem) as caught, KeyFile.open(tmp_path):
        pass

    assert "restore it" in caught.value.hint
    assert "GEHEIM" not in str(caught.value) + repr(caught.value.__cause__)
    assert path.read_bytes() == content.encode(errors="surrogateescape")


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.touch(0o600)
    path.write_text('{"format": 2, "keys": []}')

    with pytest.raises(UnusableFile, match="another version"), KeyFile.open(tmp_path):
        pass


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    with KeyFile.open(tmp_path) as keys:
        keys.keys_of(RULE)
        keys.save()
    (tmp_path / "keys.json").chmod(0o644)

    with pytest.raises(UnusableFile, match="others may read it"), KeyFile.open(tmp_path):
        pass


names = st.text(min_size=1, max_size=20).map(str.lower)


@given(st.sets(st.builds(RuleName, names, st.none() | names, names), max_size=8))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25
)
def test_all_keys_survive_a_restart(
    tmp_path_factory: pytest.TempPathFactory, rules: set[RuleName]
) -> None:
    state_dir = tmp_path_factory.mktemp("state")
    with KeyFile.open(state_dir) as keys:
        before = {rule: keys.keys_of(rule) for rule in rules}
        keys.save()

    with KeyFile.open(state_dir) as keys:
        assert {rule: keys.keys_of(rule) for rule in rules} == before
