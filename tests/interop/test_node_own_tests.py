"""The tests that Microsoft ships inside hyco-https, run by jest as they are."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from tests.interop.install import NODE_FOLDER, node_program
from tests.interop.programs import node_environment
from tests.interop.relay_on_443 import InteropRelay

SUITE_SECONDS = 120.0
"""How long jest may take; it takes about 15 s."""

FILES = {"chunkedpost.test.js": 5, "get.test.js": 1, "pipe.test.js": 8, "post.test.js": 25}
"""How many tests each file has: one that jest does not find would be missed in silence."""


@pytest.mark.timeout(SUITE_SECONDS + 30)
@pytest.mark.clause(53, 92, 94, 102, 103, 116)
async def test_the_tests_of_hyco_https_pass(relay: InteropRelay, tmp_path: Path) -> None:
    # jest looks at nothing inside node_modules, so the package stands beside them, unchanged.
    package = NODE_FOLDER / "hyco-https"
    shutil.copytree(NODE_FOLDER / "node_modules" / "hyco-https", package, dirs_exist_ok=True)
    report = tmp_path / "report.json"
    jest = await asyncio.create_subprocess_exec(
        node_program(),
        str(NODE_FOLDER / "node_modules" / "jest" / "bin" / "jest.js"),
        "--rootDir",
        str(package),
        "--runInBand",
        "--forceExit",
        "--json",
        f"--outputFile={report}",
        env=node_environment(relay, "a2"),
        cwd=package,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SUITE_SECONDS):
            _, said = await jest.communicate()
    finally:
        if jest.returncode is None:
            jest.kill()
            await jest.wait()

    assert report.exists(), said.decode(errors="replace")[-2_000:]
    results = json.loads(report.read_text(encoding="utf-8"))["testResults"]
    passed = {
        Path(file["name"]).name: [each["status"] for each in file["assertionResults"]].count(
            "passed"
        )
        for file in results
    }
    assert passed == FILES, said.decode(errors="replace")[-4_000:]
