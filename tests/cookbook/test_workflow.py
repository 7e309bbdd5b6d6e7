"""The cookbook's workflow for GitHub Actions: it can be read, and what it runs exists."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator

import yaml

from tests.support.recipes import EXAMPLES

ROOT = EXAMPLES.parent
WORKFLOW = yaml.safe_load((EXAMPLES / "github_actions" / "tests.yml").read_text(encoding="utf-8"))


def _runs() -> Iterator[list[str]]:
    for job in WORKFLOW["jobs"].values():
        for step in job["steps"]:
            if "run" in step:
                yield shlex.split(step["run"])


def test_each_step_runs_something_or_uses_an_action_of_a_given_version() -> None:
    for job in WORKFLOW["jobs"].values():
        assert job["runs-on"] == "ubuntu-latest"
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/checkout@v4"))


def test_the_files_that_it_runs_are_there() -> None:
    named = {word for words in _runs() for word in words if re.search(r"\.(yaml|py)$", word)}

    assert named == {"test_orders.py", "on-premises.yaml", "compose.yaml", "compose.hybridge.yaml"}
    for name in named:
        assert any((EXAMPLES / folder / name).exists() for folder in ("compose", "github_actions"))


def test_the_python_and_the_image_that_it_takes_are_ours() -> None:
    python = WORKFLOW["jobs"]["plugin"]["steps"][1]["with"]["python-version"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    compose = (EXAMPLES / "compose" / "compose.hybridge.yaml").read_text(encoding="utf-8")
    (build,) = [words for words in _runs() if words[:2] == ["docker", "build"]]

    assert any(each.endswith(f":: {python}") for each in project["classifiers"])
    assert f"image: {build[build.index('--tag') + 1]}\n" in compose
