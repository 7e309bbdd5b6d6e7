from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

MODULES = ("relay", "hcm_agent", "app_client")

SIGNALLED_WHILE_IMPORTING = """
import os, runpy, sys

class Signalling:
    def find_spec(self, name, path=None, target=None):
        if name == "hybridge.program.command_line":
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Signalling())
sys.argv = [{module!r}, "--version"]
runpy.run_module({module!r}, run_name="__main__")
"""


def signalled(module: str, number: signal.Signals) -> subprocess.CompletedProcess[str]:
    code = SIGNALLED_WHILE_IMPORTING.format(module=module, number=int(number))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)  # noqa: S603


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_program_that_is_stopped_while_it_starts_ends_quietly(
    module: str, number: signal.Signals
) -> None:
    ended = signalled(module, number)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize("module", MODULES)
def test_a_program_that_shall_reload_while_it_starts_goes_on(module: str) -> None:
    ended = signalled(module, signal.SIGHUP)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "version" in ended.stdout


def test_a_command_that_was_cut_off_has_not_succeeded() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        subprocess.Popen(  # noqa: S603
            [
                *(sys.executable, "-m", "relay", "healthcheck", "--admin-host", "127.0.0.1"),
                *("--admin-port", str(silent.getsockname()[1])),
            ]
        ) as asking,
    ):
        asked, _ = silent.accept()
        with asked:
            asking.send_signal(signal.SIGTERM)
            assert asking.wait(30) == -signal.SIGTERM


def test_the_commands_start_where_signals_are_heard_first() -> None:
    root = Path(__file__).resolve().parents[3]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    scripts = set(project["scripts"].values())
    assert {f"{module}.__main__:main" for module in MODULES} <= scripts
