"""The target as the relay's metadata names it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

import pytest

from hcm_agent.relay_facts import Metadata
from hcm_agent.settings import Target
from hcm_agent.target_lookup import TargetLookup, TargetUnknown
from hybridge.protocol.errors import AuthorizationFailed, RelayError, Unreachable


@dataclass
class Information:
    target: tuple[str, int] | None


class Relay:
    """Answers as told; each question can be waited for."""

    def __init__(self, *answers: Information | RelayError) -> None:
        self._answers = list(answers)
        self.questions = asyncio.Semaphore(0)

    async def read(self) -> Metadata:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        self.questions.release()
        if isinstance(answer, RelayError):
            raise answer
        return answer


async def test_the_target_is_what_the_metadata_names() -> None:
    lookup = TargetLookup(Relay(Information(("db", 5432))).read, labels={})
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(lookup.run())

        assert await lookup.target() == Target("db", 5432)

        running.cancel()


async def test_an_unreachable_relay_is_asked_again_until_it_answers() -> None:
    relay = Relay(Unreachable("no route"), Information(("db", 5432)))
    lookup = TargetLookup(relay.read, labels={})
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(lookup.run())
        with pytest.raises(TargetUnknown, match="no route"):
            await lookup.target()

        lookup.refresh()
        await relay.questions.acquire()
        await relay.questions.acquire()

        assert await lookup.target() == Target("db", 5432)
        running.cancel()


async def test_after_a_reconnect_an_old_failure_is_not_the_answer() -> None:
    relay = Relay(Unreachable("no route"), Information(("db", 5432)))
    lookup = TargetLookup(relay.read, labels={})
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(lookup.run())
        with pytest.raises(TargetUnknown, match="no route"):
            await lookup.target()

        lookup.refresh()

        assert await lookup.target() == Target("db", 5432)
        running.cancel()


async def test_metadata_without_an_endpoint_is_an_error_with_a_next_step(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lookup = TargetLookup(Relay(Information(None)).read, labels={"hybrid_connection": "orders"})
    with caplog.at_level(logging.WARNING):
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(lookup.run())
            with pytest.raises(TargetUnknown, match="names no endpoint") as caught:
                await lookup.target()
            running.cancel()

    assert caught.value.status == 502
    assert "--target" in caught.value.hint
    (record,) = caplog.records
    assert record.__dict__["event"] == "target_unknown"
    assert "--target HOST:PORT" in record.__dict__["hint"]


async def test_a_reconnect_reads_the_target_again() -> None:
    relay = Relay(Information(("old", 1)), Information(("new", 2)))
    lookup = TargetLookup(relay.read, labels={})
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(lookup.run())
        assert await lookup.target() == Target("old", 1)
        await relay.questions.acquire()

        lookup.refresh()
        await relay.questions.acquire()

        assert await lookup.target() == Target("new", 2)
        running.cancel()


async def test_a_known_target_is_read_again_after_a_while() -> None:
    relay = Relay(Information(("old", 1)), Information(("new", 2)))
    lookup = TargetLookup(relay.read, labels={}, refresh_seconds=0.01)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(lookup.run())
        await relay.questions.acquire()
        await relay.questions.acquire()

        assert await lookup.target() == Target("new", 2)
        running.cancel()


async def test_a_known_target_outlives_an_outage_of_the_relay() -> None:
    relay = Relay(Information(("db", 5432)), AuthorizationFailed("401 no"))
    lookup = TargetLookup(relay.read, labels={})
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(lookup.run())
        await relay.questions.acquire()

        lookup.refresh()
        await relay.questions.acquire()

        assert await lookup.target() == Target("db", 5432)
        running.cancel()


async def test_the_same_trouble_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    relay = Relay(Unreachable("no route"))
    lookup = TargetLookup(relay.read, labels={})
    with caplog.at_level(logging.WARNING):
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(lookup.run())
            for _ in range(3):
                await relay.questions.acquire()
                lookup.refresh()
            running.cancel()

    assert len(caplog.records) == 1
