"""Several hybrid connections in one process: each on its own, drained, reloaded."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from hybridge.protocol.errors import EndpointNotFound, Unreachable
from tests.support.agent_ends import (
    KEY,
    ScriptedSender,
    Target,
)
from tests.support.agent_world import (
    World,
    end,
    open_connection,
    running,
    settings_for,
    with_event,
)


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
