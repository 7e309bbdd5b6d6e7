"""The service of ``hcm`` in a thread, at a real relay, and its verbs as a person types them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import re
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import pytest

from hcm_agent.cli import PROGRAM, cli
from hcm_agent.control.door import Door
from hcm_agent.hybrid_connection import Outside
from hcm_agent.key_storage import Keys
from hcm_agent.running import ServiceRun
from hcm_agent.settings import AgentSources
from hcm_agent.state_directory import StateDirectory
from hcm_agent.status import Status
from hybridge.program.lifetime import Lifetime
from hybridge.protocol.connection_string import ConnectionString, serialize
from hybridge.protocol.errors import TargetRefused
from hybridge.protocol.secret import Secret
from hybridge.transport.names import Admit
from hybridge.transport.stream import Stream
from tests.support.agent_ends import tcp_pair
from tests.support.command import exit_code_of
from tests.support.relay import (
    KEY,
    RunningRelay,
    certificate,
    hybrid_connection,
    namespace,
    running_relay,
)
from tests.support.until import until

NAMESPACE_HOST = "contoso.servicebus.windows.net"
DEADLINE_SECONDS = 30.0

_CHANGING = (
    (re.compile(r"(Since\W+)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), r"\g<1>2026-11-26T09:15:04Z"),
    (re.compile(r"\bTimestamp:\S+\d"), "Timestamp:..."),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"), "2026-11-26T09:15:04.123Z"),
    (re.compile(r"\b\d\d:\d\d:\d\dZ"), "09:15:04Z"),
    (re.compile(r"\bTrackingId:[^,\s\"]+"), "TrackingId:..."),
    (re.compile(r"\b(in|Milliseconds\":) [\d.]+( ms)?"), r"\1 0.4\2"),
    (re.compile(r"\bprocess \d+"), "process 4711"),
    (re.compile(r"(\"Process\":) \d+"), r"\1 4711"),
)


def steady(text: str) -> str:
    """A text in which what differs from run to run stands as in the documentation."""
    for pattern, shown in _CHANGING:
        text = pattern.sub(shown, text)
    text = text.replace(version("hybridge"), "0.1.0")
    return "\n".join(line.rstrip() for line in text.splitlines())


def text_for(name: str, *, rule: str = "listenrule", key: str = KEY) -> str:
    """A connection string for a hybrid connection in `NAMESPACE_HOST`."""
    found = ConnectionString(host=NAMESPACE_HOST, path=name, key_name=rule, key=Secret(key))
    return serialize(found)


async def _dial(host: str, port: int, *, admit: Admit | None = None) -> Stream:
    """The network of the on-premises side: one database runs, nothing else."""
    if (host, port) == ("db.corp.local", 5432):
        near, far = tcp_pair()
        far.abort()
        return near
    raise TargetRefused(
        f"{host}:{port} refused the connection",
        hint="check that the service is running and listens on this port",
    )


def _is_settled(status: Status) -> bool:
    was_tried = status.is_connected or status.last_error is not None
    return was_tried and (not status.target or status.endpoint.is_reachable is not None)


@dataclass
class HcmService:
    """A service that runs, and the directory that its verbs need."""

    state: StateDirectory
    run: ServiceRun
    lifetime: Lifetime = field(default_factory=Lifetime)
    loop: asyncio.AbstractEventLoop | None = None

    def wait_settled(self) -> None:
        """Wait until nothing is on its way: every listener and every endpoint has been tried."""
        agent = self.run.agent
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not all(_is_settled(each.status) for each in agent.hybrid_connections):
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def reload(self) -> None:
        """Send it SIGHUP, as far as it can tell, and wait until it has answered."""
        assert self.loop is not None
        done = threading.Event()

        def reload() -> None:
            assert self.lifetime.on_reload is not None
            self.lifetime.on_reload()
            done.set()

        self.loop.call_soon_threadsafe(reload)
        assert done.wait(DEADLINE_SECONDS)


@contextlib.contextmanager
def relay_in_thread() -> Iterator[RunningRelay]:
    """A relay with the namespace contoso and the hybrid connections orders, stock and bills."""
    ready: list[RunningRelay] = []
    started, stopped = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def live() -> None:
        contoso = namespace(
            hybrid_connection("orders"),
            hybrid_connection("stock", target=("erp.corp.local", 1433)),
            hybrid_connection("bills", target=None),
            name="contoso",
            hosts=(NAMESPACE_HOST, "localhost"),
        )
        async with running_relay(contoso) as relay:
            ready.append(relay)
            loops.append(asyncio.get_running_loop())
            started.set()
            await stopped.wait()

    thread = threading.Thread(target=asyncio.run, args=(live(),))
    thread.start()
    assert started.wait(DEADLINE_SECONDS)
    try:
        yield ready[0]
    finally:
        loops[0].call_soon_threadsafe(stopped.set)
        thread.join(DEADLINE_SECONDS)
        assert not thread.is_alive()


@contextlib.contextmanager
def logging_at_info() -> Iterator[None]:
    """The agent's log as its programs have it."""
    log = logging.getLogger("hcm_agent")
    before = log.level
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(before)


@contextlib.contextmanager
def running_service(
    folder: Path,
    relay: RunningRelay | None = None,
    *,
    config: Path | None = None,
    keys: Keys = Keys.FILE,
    door: Door = Door.SOCKET,
) -> Iterator[HcmService]:
    """Run a service in a thread for a block."""
    sources = AgentSources(
        config=config,
        ca=certificate()[2],
        connect_to=("127.0.0.1", 1) if relay is None else relay.connect_to,
    )
    state = StateDirectory(folder, is_named=True)
    with ExitStack() as opened:
        opened.enter_context(logging_at_info())
        opened.enter_context(state.held())
        run = ServiceRun(sources, state, program=PROGRAM, keys=keys, outside=Outside(dial=_dial))
        run.open(door, opened)
        service = HcmService(state, run)
        started = threading.Event()

        async def live() -> None:
            service.loop = asyncio.get_running_loop()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(run.main(service.lifetime, max_connections=9, ready_file=None))
                await until(lambda: service.lifetime.on_reload)
                started.set()

        thread = threading.Thread(target=asyncio.run, args=(live(),))
        thread.start()
        try:
            assert started.wait(DEADLINE_SECONDS)
            yield service
        finally:
            if service.loop is not None:
                service.loop.call_soon_threadsafe(service.lifetime.stop)
            thread.join(DEADLINE_SECONDS)
            assert not thread.is_alive()


def type_command(line: str, *, environment: Mapping[str, str], folder: Path) -> tuple[int, str]:
    """Run ``[echo TEXT |] hcm ...`` as a shell in ``folder`` would; give exit code and output.

    ``$NAME`` stands for a variable of the environment.
    """
    before, pipe, after = line.partition(" | ")
    command = after if pipe else line
    with pytest.MonkeyPatch.context() as patched, contextlib.chdir(folder):
        for name in [name for name in os.environ if name.startswith("HCM_")]:
            patched.delenv(name)
        for name, value in {"COLUMNS": "80", **environment}.items():
            patched.setenv(name, value)
        words = [os.path.expandvars(word) for word in shlex.split(command, comments=True)]
        given = os.path.expandvars(" ".join(shlex.split(before)[1:])) if pipe else ""
        output = io.StringIO()
        patched.setattr(sys, "stdin", io.StringIO(given + "\n"))
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            code = exit_code_of(cli, PROGRAM, *words[1:])
    return code, output.getvalue()
