"""The WebSocket conformance suite: its fuzzing client sends, an echo behind the relay answers."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.interop.install import AUTOBAHN_FOLDER, FOLDER, autobahn_command, why_no_autobahn
from tests.interop.message_echo import message_echo
from tests.interop.relay_on_443 import ANONYMOUS, InteropRelay

LEFT_OUT = ["9.*", "12.*", "13.*"]
"""Performance, and compression, which the relay never agrees to (docs/fidelity.md)."""

CASES = 247
"""Those that are left."""

REPORTS = FOLDER / "autobahn-report"
"""Where the suite writes a page for each case; start at index.html."""

SUITE_SECONDS = 150.0
"""How long the suite may take; it takes about 20 s."""

ECHO_ON_ITS_WAY = (
    "a good message, then a malformed frame: the relay fails the connection at once (1002), and "
    "does not wait for the echo of the good message, which is still on its way round"
)
UTF_8_AT_THE_END = (
    "the relay does not look into text, and the echo's library checks UTF-8 when it has the whole "
    "message or fragment, not at the first wrong octet; 1007 comes all the same"
)
OPEN_MESSAGE_CLOSED = (
    "the echo's library answers a Close in the middle of a fragmented message with 1002, as its "
    "own documentation says; the relay passes that on"
)

KNOWN: dict[str, tuple[set[str], str]] = {
    **dict.fromkeys(["3.2", "3.3", "3.4"], ({"NON-STRICT"}, ECHO_ON_ITS_WAY)),
    **dict.fromkeys(["4.1.3", "4.1.4", "4.1.5"], ({"NON-STRICT"}, ECHO_ON_ITS_WAY)),
    **dict.fromkeys(["4.2.3", "4.2.4", "4.2.5"], ({"NON-STRICT"}, ECHO_ON_ITS_WAY)),
    "5.15": ({"NON-STRICT"}, ECHO_ON_ITS_WAY),
    **dict.fromkeys(["6.4.1", "6.4.2", "6.4.3", "6.4.4"], ({"NON-STRICT"}, UTF_8_AT_THE_END)),
    "7.1.5": ({"FAILED", "WRONG CODE"}, OPEN_MESSAGE_CLOSED),
}
"""Cases that may end otherwise than OK: with these results, for this reason."""

GOOD = {"OK", "INFORMATIONAL"}
"""INFORMATIONAL: the RFC leaves it open."""


@pytest.mark.timeout(SUITE_SECONDS + 30)
@pytest.mark.clause(77, 78, 80, 81, 82, 87)
async def test_the_conformance_suite_finds_nothing_wrong(
    relay: InteropRelay, tmp_path: Path
) -> None:
    if why := why_no_autobahn():
        pytest.skip(why)
    specification = {
        "outdir": str(REPORTS),
        "servers": [
            {
                "agent": "hybridge",
                "url": f"wss://localhost:443/$hc/{ANONYMOUS}?sb-hc-action=connect",
            }
        ],
        "cases": ["*"],
        "exclude-cases": LEFT_OUT,
        "exclude-agent-cases": {},
    }
    (tmp_path / "suite.json").write_text(json.dumps(specification), encoding="utf-8")

    shutil.rmtree(REPORTS, ignore_errors=True)
    async with message_echo(relay, ANONYMOUS):
        wstest = await asyncio.create_subprocess_exec(
            *autobahn_command(),
            "-m",
            "fuzzingclient",
            "-s",
            str(tmp_path / "suite.json"),
            cwd=tmp_path,
            env={**os.environ, "PYTHONUSERBASE": str(AUTOBAHN_FOLDER)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(SUITE_SECONDS):
                said, _ = await wstest.communicate()
        finally:
            if wstest.returncode is None:
                wstest.kill()
                await wstest.wait()

    index = REPORTS / "index.json"
    assert index.exists(), said.decode(errors="replace")[-2_000:]
    results = json.loads(index.read_text(encoding="utf-8"))["hybridge"]
    wrong = {
        case: (result["behavior"], result["behaviorClose"])
        for case, result in results.items()
        if not {result["behavior"], result["behaviorClose"]}
        <= GOOD | KNOWN.get(case, (set[str](), ""))[0]
    }
    assert len(results) == CASES
    assert wrong == {}
