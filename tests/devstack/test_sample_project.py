"""examples/pytest-sample: a project of its own that uses the plugin, as its README says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.chain import is_full_length

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "examples" / "pytest-sample"
RUNS = 20
RUN_SECONDS = 300.0


def run(folder: Path, *command: str | Path) -> str:
    """Run a command in a folder, with nothing of ours in its environment; give its output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ended = subprocess.run(  # noqa: S603 - ours
        [*map(str, command)],
        cwd=folder,
        env=kept,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=RUN_SECONDS,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def test_its_tests_of_the_echo_service_pass(tmp_path: Path) -> None:
    project = shutil.copytree(SAMPLE, tmp_path / "sample")
    plugins = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:cov")

    output = run(project, sys.executable, "-m", "pytest", *plugins, "-q", "tests/test_echo.py")

    assert re.search(r"^6 passed in ", output, re.M), output


@pytest.mark.timeout(3_600)
def test_in_an_environment_of_its_own_with_xdist_it_passes_twenty_times(tmp_path: Path) -> None:
    if not is_full_length():
        pytest.skip("HYBRIDGE_FULL_LENGTH is not set")
    project = shutil.copytree(SAMPLE, tmp_path / "sample")
    page = (SAMPLE / "README.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```sh\n(.*?)^```$", page, re.M | re.S)
    make, install, test = (line.replace('"', "").split() for line in block.splitlines())
    run(project, *make)
    run(project, *(part.replace("../..", str(ROOT)) for part in install))

    for _ in range(RUNS):
        assert re.search(r"^\d+ passed in ", run(project, *test, "-q"), re.M)
