"""What the verbs do to a running agent: at once, for good, and past every live connection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hcm_agent.agent import Agent
from hcm_agent.key_storage import Keys, KeyStorage
from hcm_agent.service import AlreadyServed, NotAdded, NotServed, Service
from hcm_agent.settings import AgentSources
from hcm_agent.store import Store
from hybridge.program.connection_strings import GivenConnectionStrings
from hybridge.program.lifetime import Lifetime
from hybridge.protocol.errors import EndpointNotFound, Stopping, Unreachable
from hybridge.transport.private_files import UnusableFile
from tests.support.agent_ends import KEY, ScriptedSender, connection_string
from tests.support.agent_world import World, end, open_connection, with_event
from tests.support.chain import write_private

ORDERS = connection_string("orders")
STOCK = connection_string("stock")
HOST = "ns1.example.test"


@dataclass
class Running:
    service: Service
    world: World
    store: Store
    lifetime: Lifetime

    async def add(self, text: str, *, online: bool = True) -> dict[str, object]:
        """Add one whose listener connects, or is told that it cannot."""
        name = text.rpartition("=")[2]
        self.world.opened[name].clear()
        async with asyncio.TaskGroup() as tasks:
            adding = tasks.create_task(self.service.add(text, targets=["db:5432"]))
            await self.settle(name, online=online)
        return adding.result()

    async def settle(self, name: str, *, online: bool = True) -> None:
        await self.world.opened[name].wait()
        listener = self.world.listeners[name]
        await listener.entered.wait()
        if online:
            listener.go_online()
        else:
            listener.go_offline(EndpointNotFound("404 no such hybrid connection"))

    def reload(self) -> None:
        assert self.lifetime.on_reload is not None
        self.lifetime.on_reload()


@contextlib.asynccontextmanager
async def running(folder: Path, *configured: str) -> AsyncIterator[Running]:
    world, lifetime = World(), Lifetime()
    store = Store(folder / "connections.json", KeyStorage(folder))
    # So that only senders dial.
    config = write_private(folder / "hcm.json", {"Settings": {"EndpointCheckSeconds": 0}})
    sources = AgentSources(
        config=config, connection_strings=GivenConnectionStrings(texts=configured)
    )
    service = Service(sources, store, keys=Keys.FILE)
    agent = Agent(
        service.load(),
        load=service.load,
        max_connections=9,
        outside=world.outside(),
        on_change=service.changed,
    )
    service.agent = agent
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(agent.run(lifetime))
        await asyncio.sleep(0)
        yield Running(service, world, store, lifetime)
        lifetime.stop()


async def test_what_is_added_is_served_at_once_and_after_a_restart_of_the_service(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as first:
        described = await first.add(ORDERS)
        assert (described["Name"], described["Status"]) == ("orders", "Connected")
        assert KEY not in str(described)

    async with running(tmp_path) as second:
        await second.settle("orders")
        (described,) = await second.service.list_all()
        assert (described["Endpoint"], described["Source"]) == ("db:5432", "added")


async def test_no_verb_and_no_reload_touches_a_live_connection(tmp_path: Path) -> None:
    async with running(tmp_path) as hcm:
        await hcm.add(ORDERS)
        application, database = await open_connection(hcm.world, "orders", ScriptedSender())

        async def untouched() -> None:
            await application.send(b"untouched")
            assert await database.receive() == b"untouched"

        await hcm.add(STOCK)
        await untouched()
        await hcm.service.remove(HOST, "stock")
        await untouched()
        hcm.reload()
        await untouched()
        hcm.world.opened["orders"].clear()
        async with asyncio.TaskGroup() as tasks:
            restarting = tasks.create_task(hcm.service.restart(HOST, "orders"))
            await hcm.settle("orders")
        assert restarting.result()["OpenConnections"] == 1
        await untouched()
        await hcm.service.remove(HOST, "orders")
        await untouched()

        assert await hcm.service.list_all() == []
        assert hcm.store.read() == []
        await end(application, database)


async def test_adding_twice_changes_nothing_unless_the_relay_does_not_know_it(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as hcm:
        await hcm.add(ORDERS)
        listener, stored = hcm.world.listeners["orders"], hcm.store.path.read_text()

        with pytest.raises(AlreadyServed, match=r"here already \(Connected\)"):
            await hcm.service.add(connection_string("ORDERS", rule="other"))
        assert hcm.world.listeners["orders"] is listener
        assert hcm.store.path.read_text() == stored

        listener.go_offline(Unreachable("gone"))
        with pytest.raises(AlreadyServed, match="Disconnected"):
            await hcm.service.add(ORDERS)

        listener.go_offline(EndpointNotFound("404 gone"))
        described = await hcm.add(ORDERS)
        assert described["Status"] == "Connected"
        assert hcm.world.listeners["orders"] is not listener
        assert len(hcm.store.read()) == 1


async def test_what_is_configured_is_neither_added_nor_removed(tmp_path: Path) -> None:
    async with running(tmp_path, ORDERS) as hcm:
        await hcm.settle("orders")

        for act in (hcm.service.add(ORDERS), hcm.service.remove(HOST, "orders")):
            with pytest.raises(NotAdded, match="is configured") as caught:
                await act
            assert "environment of 'hcm run'" in caught.value.hint

        assert not hcm.store.path.exists()
        assert not hcm.world.listeners["orders"].stopped.is_set()


async def test_what_is_configured_and_was_added_is_served_once_as_configured(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as before:
        await before.add(ORDERS)
    caplog.clear()

    async with running(tmp_path, ORDERS) as hcm:
        await hcm.settle("orders")
        (described,) = await hcm.service.list_all()

        assert described["Source"] != "added"
        assert len(hcm.store.read()) == 1
    assert with_event(caplog, "configured_twice")


async def test_what_cannot_be_stored_is_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as hcm:
        await hcm.add(ORDERS)

        def full(*_: object) -> None:
            raise UnusableFile(hcm.store.path, "no space left on device", hint="make room")

        monkeypatch.setattr(hcm.store, "write", full)
        for act in (hcm.service.add(STOCK), hcm.service.remove(HOST, "orders")):
            with pytest.raises(UnusableFile):
                await act

        assert [each["Name"] for each in await hcm.service.list_all()] == ["orders"]
        assert not hcm.world.listeners["orders"].stopped.is_set()


async def test_a_verb_that_comes_while_the_service_stops_changes_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as hcm:
        await hcm.add(ORDERS)
        pair = await open_connection(hcm.world, "orders", ScriptedSender())
        hcm.lifetime.stop()
        await hcm.world.listeners["orders"].stopped.wait()

        for act in (
            hcm.service.add(STOCK),
            hcm.service.remove(HOST, "orders"),
            hcm.service.restart(HOST, "orders"),
        ):
            with pytest.raises(Stopping):
                await act

        assert len(hcm.store.read()) == 1
        await end(*pair)


@pytest.mark.parametrize("namespace", [HOST, HOST.upper(), f"sb://{HOST}/", f"{HOST}:443"])
async def test_a_namespace_has_several_names(tmp_path: Path, namespace: str) -> None:
    async with running(tmp_path) as hcm:
        await hcm.add(ORDERS)

        assert (await hcm.service.show(namespace, "Orders"))["Name"] == "orders"
        with pytest.raises(NotServed) as caught:
            await hcm.service.show(namespace, "ordres")
        assert caught.value.hint == f"did you mean -ns {HOST} -n orders?"


async def test_a_listener_that_does_not_connect_is_not_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hcm_agent.service.SETTLE_SECONDS", 0.01)
    with caplog.at_level(logging.INFO):
        async with running(tmp_path) as hcm:
            described = await hcm.service.add(ORDERS, targets=["db:5432"])

            assert described["Status"] == "Disconnected"
            assert with_event(caplog, "added")
