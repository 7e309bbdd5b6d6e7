"""An agent that is stopped, reloaded, or told to open a listener again."""

from __future__ import annotations

import asyncio
import logging

import pytest

from hcm_agent.agent import Agent
from hcm_agent.settings import AgentSettings
from hybridge.program.lifetime import Lifetime
from hybridge.protocol.errors import InvalidSetting, Stopping
from tests.support.agent_ends import (
    ScriptedSender,
)
from tests.support.agent_world import (
    SilentWorld,
    World,
    end,
    open_connection,
    running,
    settings_for,
    shorten_graces,
    unchanged,
    with_event,
)
from tests.support.until import until


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
