"""An agent whose relay and targets are scripted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Never

import pytest

from hcm_agent import hybrid_connection, target
from hcm_agent.agent import Agent
from hcm_agent.hybrid_connection import Outside
from hcm_agent.relay_facts import Metadata
from hcm_agent.settings import AgentSettings, AgentSources, HybridConnectionSettings
from hybridge.program.connection_strings import GivenConnectionStrings
from hybridge.program.lifetime import Lifetime
from hybridge.transport.stream import Stream
from tests.support.agent_ends import (
    ScriptedListener,
    ScriptedSender,
    connection_string,
    tcp_pair,
)


@dataclass
class Information:
    target: tuple[str, int] | None


@dataclass
class World:
    """The relay and the targets of one test."""

    listeners: dict[str, ScriptedListener] = field(default_factory=dict)
    opened: defaultdict[str, asyncio.Event] = field(
        default_factory=lambda: defaultdict(asyncio.Event)
    )
    metadata: tuple[str, int] | None = None
    reads: int = 0
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    dials: list[tuple[str, int]] = field(default_factory=list)
    target_ends: asyncio.Queue[Stream] = field(default_factory=asyncio.Queue)

    def outside(self) -> Outside:
        return Outside(open_listener=self.open, read_metadata=self.read, dial=self.dial)

    def open(self, settings: HybridConnectionSettings) -> ScriptedListener:
        listener = ScriptedListener()
        self.listeners[settings.name] = listener
        self.opened[settings.name].set()
        return listener

    async def read(self, settings: HybridConnectionSettings) -> Metadata:
        self.reads += 1
        self.answered.set()
        return Information(self.metadata)

    async def dial(self, host: str, port: int, **_: object) -> Stream:
        self.dials.append((host, port))
        near, far = tcp_pair()
        self.target_ends.put_nowait(far)
        return near


@dataclass
class SilentWorld(World):
    """Targets and the relay's metadata do not answer."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, settings: HybridConnectionSettings) -> Metadata:
        return await self._never()

    async def dial(self, host: str, port: int, **_: object) -> Stream:
        return await self._never()

    async def _never(self) -> Never:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")


def shorten_graces(monkeypatch: pytest.MonkeyPatch, *, dial: float, answer: float) -> None:
    for module in (hybrid_connection, target):
        monkeypatch.setattr(module, "DIAL_SECONDS", dial)
        monkeypatch.setattr(module, "ANSWER_SECONDS", answer)


def settings_for(*names: str, target: str | None = "db:5432", drain: float = 30) -> AgentSettings:
    sources = AgentSources(
        connection_strings=GivenConnectionStrings(texts=tuple(connection_string(n) for n in names)),
        targets=("db:5432",) if target and len(names) == 1 else (),
    )
    found = tuple(
        replace(entry, endpoint_check_seconds=0) for entry in sources.load().hybrid_connections
    )
    return AgentSettings(hybrid_connections=found, drain_seconds=drain)


def unchanged() -> AgentSettings:
    raise AssertionError("nobody asked for a reload")


@contextlib.asynccontextmanager
async def running(
    world: World,
    settings: AgentSettings,
    *,
    load: Callable[[], AgentSettings] = unchanged,
    max_connections: int = 100,
    ready_file: Path | None = None,
) -> AsyncIterator[Lifetime]:
    """An agent that serves; stopped at the end, when all that it started must be gone."""
    lifetime = Lifetime()
    agent = Agent(
        settings,
        load=load,
        max_connections=max_connections,
        ready_file=ready_file,
        outside=world.outside(),
    )
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(agent.run(lifetime))
        for entry in settings.hybrid_connections:
            await world.opened[entry.name].wait()
            await world.listeners[entry.name].entered.wait()
        yield lifetime
        lifetime.stop()
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert all(listener.closed.is_set() for listener in world.listeners.values())


async def open_connection(world: World, name: str, sender: ScriptedSender) -> tuple[Stream, Stream]:
    world.listeners[name].offer(sender)
    return await sender.accepted, await world.target_ends.get()


async def end(application: Stream, database: Stream) -> None:
    await application.send_eof()
    await database.send_eof()
    assert await application.receive() == b""
    assert await database.receive() == b""
    await application.close()
    await database.close()


def with_event(caplog: pytest.LogCaptureFixture, event: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.__dict__.get("event") == event]
