"""The relay on 443 for all of the interop tests, and a closing word on what was left out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.interop.install import NODE_FOLDER, InstallFailed, node_program
from tests.interop.programs import NodeProgram
from tests.interop.relay_on_443 import InteropRelay, relay_on_443
from tests.support.raw import RelayPeers


@pytest.fixture(scope="session")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InteropRelay]:
    folder = tmp_path_factory.mktemp("relay")
    try:
        node_program()
    except InstallFailed as failed:
        pytest.exit(f"interop: error: {failed}", returncode=1)
    if not (NODE_FOLDER / "node_modules").exists():
        pytest.exit("interop: error: nothing is installed\nhint: run make interop", returncode=1)
    try:
        with relay_on_443(folder) as running:
            yield running
    except PermissionError as problem:
        pytest.exit(f"interop: error: {problem}", returncode=1)


@pytest.fixture
def peers(relay: InteropRelay) -> RelayPeers:
    return relay.peers


@pytest.fixture
async def ws_listener(relay: InteropRelay) -> AsyncIterator[NodeProgram]:
    """hyco-ws as a listener that echoes."""
    async with NodeProgram("ws_listener.js", relay, "node-ws") as program:
        await program.event("listening")
        yield program


@pytest.fixture
async def ws_sender(relay: InteropRelay) -> AsyncIterator[NodeProgram]:
    """hyco-ws as a sender, not yet connected."""
    async with NodeProgram("ws_sender.js", relay, "node-ws") as program:
        yield program


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what did not run, and why: nothing is skipped in silence."""
    skipped = terminalreporter.stats.get("skipped", [])
    terminalreporter.section("interop")
    for outcome in ("passed", "failed", "error"):
        reports = terminalreporter.stats.get(outcome, [])
        modules: dict[str, int] = {}
        for report in reports:
            name = report.nodeid.partition("::")[0]
            modules[name] = modules.get(name, 0) + 1
        for name, count in sorted(modules.items()):
            terminalreporter.write_line(f"{outcome:7} {count:4}  {name}")
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        terminalreporter.write_line(f"left out     {report.nodeid}: {reason}")
    if not skipped:
        terminalreporter.write_line("nothing was left out")
    terminalreporter.write_line("clause by clause: python -m tests.clauses --results")
