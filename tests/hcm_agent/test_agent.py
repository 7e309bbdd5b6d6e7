"""Several hybrid connections in one process: each on its own, drained, reloaded."""

from __future__ import annotations

import asyncio
import contextlib
import json
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
from hybridge.protocol.errors import EndpointNotFound, InvalidSetting, Stopping, Unreachable
from hybridge.transport.stream import Stream
from tests.support.agent_ends import (
    KEY,
    ScriptedListener,
    ScriptedSender,
    Target,
    connection_string,
    tcp_pair,
)
from tests.support.until import until


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


async def test_an_accepted_connection_is_joined_to_the_configured_target() -> None:
    world = World(metadata=("elsewhere", 1))
    async with running(world, settings_for("orders")):
        application, database = await open_connection(world, "orders", ScriptedSender())
        await application.send(b"hello")

        assert await database.receive() == b"hello"
        assert world.dials == [("db", 5432)]
        assert world.reads == 0
        await end(application, database)


async def test_without_a_configured_target_the_metadata_names_it() -> None:
    world = World(metadata=("meta", 1433))
    async with running(world, settings_for("orders", target=None)):
        application, database = await open_connection(world, "orders", ScriptedSender())

        assert world.dials == [("meta", 1433)]
        await end(application, database)


async def test_a_reconnect_reads_the_metadata_again() -> None:
    world = World(metadata=("meta", 1433))
    async with running(world, settings_for("orders", target=None)):
        await world.answered.wait()
        world.answered.clear()

        world.listeners["orders"].go_offline()
        world.listeners["orders"].go_online()

        await world.answered.wait()


async def test_a_sender_is_refused_with_the_reason_while_no_target_is_known() -> None:
    world = World(metadata=None)
    async with running(world, settings_for("orders", target=None)):
        sender = world.listeners["orders"].offer(ScriptedSender())

        status, reason = await sender.rejected

    assert status == 502
    assert "names no endpoint" in reason
    assert world.dials == []


async def test_many_connections_run_at_the_same_time() -> None:
    world = World()
    async with running(world, settings_for("orders")):
        pairs = [
            await open_connection(world, "orders", ScriptedSender(f"id-{n}")) for n in range(20)
        ]
        for n, (application, _) in enumerate(pairs):
            await application.send(b"%d" % n)
        received = [await database.receive() for _, database in pairs]
        for pair in pairs:
            await end(*pair)

    assert received == [b"%d" % n for n in range(20)]


async def test_a_hybrid_connection_that_fails_harms_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(metadata=("db", 5432))
    async with running(world, settings_for("good", "bad")):
        application, database = await open_connection(world, "good", ScriptedSender("kept"))
        world.listeners["bad"].go_offline(EndpointNotFound("404 Endpoint does not exist."))

        world.listeners["bad"].fail(ValueError("a bug"))
        await world.listeners["bad"].closed.wait()
        await application.send(b"still here")

        assert await database.receive() == b"still here"
        await end(application, database)
        await end(*await open_connection(world, "good", ScriptedSender("new")))

    (bug,) = with_event(caplog, "bug")
    assert bug.exc_info is not None
    assert bug.__dict__["hybrid_connection"] == "bad"


async def test_a_bug_in_one_connection_ends_only_that_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Faulty(ScriptedSender):
        async def prepare(self) -> None:
            raise ZeroDivisionError

    world = World()
    async with running(world, settings_for("orders")):
        pair = await open_connection(world, "orders", ScriptedSender("kept"))
        faulty = Faulty("faulty")
        world.listeners["orders"].offer(faulty)
        await faulty.abandoned.wait()
        (await world.target_ends.get()).abort()

        await pair[0].send(b"still here")
        assert await pair[1].receive() == b"still here"
        await end(*pair)

    (record,) = with_event(caplog, "bug")
    assert record.exc_info is not None
    assert record.__dict__["id"] == "faulty"


async def test_a_refusal_that_fails_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    world = World(metadata=None)
    async with running(world, settings_for("orders", target=None)):
        sender = ScriptedSender("gone")
        sender.reject_error = Unreachable("the rendezvous is gone")
        world.listeners["orders"].offer(sender)
        await sender.rejected
        other = world.listeners["orders"].offer(ScriptedSender("other"))
        await other.rejected

    assert [r.__dict__["id"] for r in with_event(caplog, "connection_failed")] == ["gone"]


async def test_over_the_limit_a_sender_is_refused_with_503() -> None:
    world = World()
    async with running(world, settings_for("orders"), max_connections=1):
        pair = await open_connection(world, "orders", ScriptedSender("first"))
        second = world.listeners["orders"].offer(ScriptedSender("second"))
        assert await second.rejected == (
            503,
            "The agent holds 1 connections and takes no more.",
        )

        await end(*pair)
        # Its place is free once its task has ended.
        third = second
        while not third.accepted.done():
            third = world.listeners["orders"].offer(ScriptedSender("third"))
            await third.decided.wait()
        await end(third.accepted.result(), await world.target_ends.get())


async def test_asked_to_stop_it_leaves_the_relay_and_lets_running_connections_end() -> None:
    world = World()
    async with running(world, settings_for("orders")) as lifetime:
        application, database = await open_connection(world, "orders", ScriptedSender())

        lifetime.stop()
        await world.listeners["orders"].stopped.wait()
        await application.send(b"late")

        assert await database.receive() == b"late"
        await end(application, database)


@pytest.mark.parametrize("silent", ["the target", "the relay's metadata", "the rendezvous"])
async def test_asked_to_stop_it_refuses_soon_who_is_not_joined_yet(
    monkeypatch: pytest.MonkeyPatch, silent: str
) -> None:
    shorten_graces(monkeypatch, dial=0.01, answer=30)
    world = SilentWorld()
    named = None if silent == "the relay's metadata" else "db:5432"
    async with asyncio.timeout(30), running(world, settings_for("orders", target=named)) as life:
        sender = ScriptedSender()
        if silent == "the rendezvous":
            sender.may_prepare.clear()
        world.listeners["orders"].offer(sender)
        await world.asked.wait()

        life.stop()

        assert await sender.rejected == (503, "The program stops, and takes no more connections.")


async def test_asked_to_stop_it_does_not_wait_for_a_relay_that_takes_no_refusal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Unanswered(ScriptedSender):
        async def reject(self, status: int, description: str) -> None:
            await super().reject(status, description)
            await asyncio.Event().wait()

    shorten_graces(monkeypatch, dial=0.01, answer=0.3)
    world = SilentWorld()
    async with asyncio.timeout(30), running(world, settings_for("orders")) as life:
        sender = world.listeners["orders"].offer(Unanswered("waiting"))
        await world.asked.wait()
        life.stop()
        await sender.rejected

    assert with_event(caplog, "connection_failed")[0].__dict__["id"] == "waiting"


async def test_what_still_runs_after_the_grace_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    with caplog.at_level(logging.INFO):
        async with running(world, settings_for("orders", drain=0.01)) as lifetime:
            application, database = await open_connection(world, "orders", ScriptedSender())
            lifetime.stop()

    assert with_event(caplog, "drain_over")[0].__dict__["open_connections"] == 1
    assert with_event(caplog, "connection_closed")[0].__dict__["outcome"] == "stopped"
    application.abort()
    database.abort()


async def test_a_reload_starts_the_new_retires_the_gone_and_leaves_the_rest() -> None:
    world = World(metadata=("db", 5432))
    new = settings_for("kept", "new")
    async with running(world, settings_for("kept", "gone"), load=lambda: new) as lifetime:
        kept, gone = world.listeners["kept"], world.listeners["gone"]
        pair = await open_connection(world, "gone", ScriptedSender())
        assert lifetime.on_reload is not None

        lifetime.on_reload()
        await gone.stopped.wait()
        await world.opened["new"].wait()

        assert world.listeners["kept"] is kept
        assert not kept.stopped.is_set()
        await pair[0].send(b"untouched")
        assert await pair[1].receive() == b"untouched"
        await end(*pair)
        await gone.closed.wait()


async def test_a_reload_with_a_mistake_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> AgentSettings:
        raise InvalidSetting("hcm.json", "not JSON", hint="mend it")

    world = World()
    async with running(world, settings_for("orders"), load=broken) as lifetime:
        assert lifetime.on_reload is not None
        lifetime.on_reload()

        assert not world.listeners["orders"].stopped.is_set()
        await end(*await open_connection(world, "orders", ScriptedSender()))

    (record,) = with_event(caplog, "reload_refused")
    assert record.__dict__["hint"] == "mend it"


async def test_a_reload_lets_those_that_are_not_connected_try_at_once() -> None:
    world = World(metadata=("db", 5432))
    same = settings_for("up", "down")
    async with running(world, same, load=lambda: same) as lifetime:
        world.listeners["up"].go_online()
        assert lifetime.on_reload is not None
        lifetime.on_reload()

        assert world.listeners["down"].retried.is_set()
        assert not world.listeners["up"].retried.is_set()


async def test_a_restart_opens_a_new_listener_and_its_connections_go_on() -> None:
    world = World()
    settings = settings_for("orders")
    (entry,) = settings.hybrid_connections
    lifetime = Lifetime()
    agent = Agent(settings, load=unchanged, max_connections=9, outside=world.outside())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(agent.run(lifetime))
        await world.opened["orders"].wait()
        old = world.listeners["orders"]
        await old.entered.wait()
        pair = await open_connection(world, "orders", ScriptedSender())
        world.opened["orders"].clear()

        agent.restart(entry.key)

        await world.opened["orders"].wait()
        await old.stopped.wait()
        assert world.listeners["orders"] is not old
        assert agent.open_connections(entry.key) == 1
        await pair[0].send(b"untouched")
        assert await pair[1].receive() == b"untouched"
        await end(*pair)
        await old.closed.wait()
        await until(lambda: agent.open_connections(entry.key) == 0)
        lifetime.stop()

    with pytest.raises(Stopping):
        agent.restart(entry.key)


async def test_the_ready_file_exists_while_all_are_connected(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.write_text("from an earlier run")
    world = World(metadata=("db", 5432))
    async with running(world, settings_for("one", "two"), ready_file=ready):
        assert not ready.exists()
        world.listeners["one"].go_online()
        assert not ready.exists()
        world.listeners["two"].go_online()

        document = json.loads(ready.read_text())
        assert [each["status"] for each in document["hybrid_connections"]] == ["Connected"] * 2
        assert KEY not in ready.read_text()

        world.listeners["one"].go_offline()
        assert not ready.exists()
        world.listeners["one"].go_online()
        assert ready.exists()

    assert not ready.exists()


async def test_accepts_and_the_state_are_in_the_log_with_stable_events(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    with caplog.at_level(logging.DEBUG):
        async with running(world, settings_for("orders")):
            world.listeners["orders"].go_online()
            await end(*await open_connection(world, "orders", ScriptedSender("an-id")))
            world.listeners["orders"].go_offline(Unreachable("no route"))

    (online,) = with_event(caplog, "online")
    assert online.__dict__["hybrid_connection"] == "orders"
    assert online.__dict__["namespace"] == "ns1.example.test"
    (accept,) = with_event(caplog, "accept")
    assert (accept.__dict__["id"], accept.__dict__["sender"]) == ("an-id", "192.0.2.7:5151")
    assert with_event(caplog, "target_connected")[0].__dict__["target"] == "db:5432"
    offline = with_event(caplog, "offline")[0]
    assert offline.__dict__["error"] == "no route"
    assert offline.__dict__["hint"]
    assert KEY not in caplog.text


async def test_a_target_is_never_dialled_for_a_sender_that_was_refused() -> None:
    world = World()
    with Target() as target:
        async with running(world, settings_for("orders"), max_connections=0):
            sender = world.listeners["orders"].offer(ScriptedSender())
            await sender.rejected
        assert not target.has_visitor()
    assert world.dials == []
