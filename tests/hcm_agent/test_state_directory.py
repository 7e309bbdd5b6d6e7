"""Where a service keeps its state, and that two services never share it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hcm_agent import state_directory
from hcm_agent.state_directory import AnotherServiceRuns, StateDirectory, find_state_directory
from hybridge.protocol.errors import InvalidSetting
from hybridge.transport.private_files import UnusableFile


def found(given: Path | None = None, **environment: str) -> StateDirectory | None:
    return find_state_directory(given, environment=environment)


@pytest.fixture(autouse=True)
def _no_service_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(state_directory, "SYSTEM_DIRECTORY", tmp_path / "system")


def test_what_is_said_comes_first_then_systemd_then_the_users_own() -> None:
    systemd, xdg = "/var/lib/hcm:/var/lib/x", "/xdg"

    here = found(Path("/here"), STATE_DIRECTORY=systemd, XDG_STATE_HOME=xdg)
    assert here == StateDirectory(Path("/here"), is_named=True)
    assert found(STATE_DIRECTORY=systemd, XDG_STATE_HOME=xdg) == StateDirectory(
        Path("/var/lib/hcm"), is_named=True
    )
    assert found(XDG_STATE_HOME="/xdg") == StateDirectory(Path("/xdg/hybridge/hcm"), is_named=False)


def test_a_relative_state_home_is_none_as_its_specification_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/you")

    expected = StateDirectory(Path("/home/you/.local/state/hybridge/hcm"), is_named=False)
    assert found(XDG_STATE_HOME="state") == expected


def test_none_is_no_directory() -> None:
    assert found(Path("none")) is None


def test_root_finds_the_service_of_systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "system").mkdir()

    assert found() == StateDirectory(tmp_path / "system", is_named=False)


def test_a_user_without_a_home_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", homeless)

    with pytest.raises(InvalidSetting, match="no home directory") as caught:
        found()
    assert "--state" in caught.value.hint


def test_a_second_service_is_told_of_the_first_and_may_follow_it(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state", is_named=True)
    with state.held():
        with (
            pytest.raises(AnotherServiceRuns, match=f"process {os.getpid()}") as caught,
            state.held(),
        ):
            pass
        with StateDirectory(tmp_path / "other", is_named=True).held():
            pass
    assert "--state" in caught.value.hint

    with state.held():
        assert state.path.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_others_may_write_into_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)

    with (
        pytest.raises(UnusableFile, match="others may write into this directory"),
        StateDirectory(tmp_path / "state", is_named=True).held(),
    ):
        pass


def test_a_full_disk_does_not_keep_a_service_from_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    state = StateDirectory(tmp_path / "state", is_named=True)

    with state.held(), pytest.raises(AnotherServiceRuns, match="process unknown"), state.held():
        pass


def test_a_service_removes_what_one_that_was_killed_left_beside_its_file(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state", is_named=True)
    state.path.mkdir(mode=0o700)
    left = state.path / ".connections.json.0123456789abcdef.tmp"
    left.write_text("keys")

    with state.held():
        assert not left.exists()
