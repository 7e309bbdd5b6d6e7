"""What the relay says of a hybrid connection: asked seldom, and no old answer for a new one."""

from __future__ import annotations

import asyncio

from hcm_agent.relay_facts import RelayFacts
from hybridge.management import RuntimeInformation
from hybridge.protocol.errors import EndpointNotFound, RelayError, Unreachable


class Relay:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked: list[asyncio.Future[RuntimeInformation]] = []
        self.facts = RelayFacts(self.ask, clock=lambda: self.now)

    async def ask(self) -> RuntimeInformation:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]

    async def refresh(self, answer: RuntimeInformation | RelayError) -> int:
        """Refresh; give how often the relay was asked for it."""
        before = len(self.asked)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.facts.refresh(max_age_seconds=5))
            await asyncio.sleep(0)
            for asked in self.asked[before:]:
                settle(asked, answer)
        return len(self.asked) - before


def settle(
    asked: asyncio.Future[RuntimeInformation], answer: RuntimeInformation | RelayError
) -> None:
    if isinstance(answer, RelayError):
        asked.set_exception(answer)
    else:
        asked.set_result(answer)


def information(listeners: int) -> RuntimeInformation:
    return RuntimeInformation(
        created_at="2026-01-01T00:00:00Z",
        updated_at="2026-01-01T00:00:00Z",
        requires_client_authorization=True,
        user_metadata="",
        listener_count=listeners,
    )


async def test_it_is_asked_again_when_its_answer_is_old_or_something_has_changed() -> None:
    relay = Relay()

    assert await relay.refresh(information(1)) == 1
    assert await relay.refresh(information(2)) == 0
    relay.now += 6
    assert await relay.refresh(information(3)) == 1
    relay.now += 1
    relay.facts.expire()
    assert await relay.refresh(information(4)) == 1
    assert relay.facts.information == information(4)


async def test_an_older_question_that_is_answered_later_does_not_win() -> None:
    relay = Relay()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(relay.facts.read())
        await asyncio.sleep(0)
        relay.now += 1
        tasks.create_task(relay.facts.read())
        await asyncio.sleep(0)
        old, new = relay.asked
        settle(new, information(1))
        await asyncio.sleep(0)
        settle(old, information(0))

    assert relay.facts.information == information(1)


async def test_an_answer_stays_until_the_relay_knows_no_such_hybrid_connection() -> None:
    relay = Relay()
    await relay.refresh(information(1))
    relay.now += 6
    await relay.refresh(Unreachable("no route"))
    assert relay.facts.information == information(1)

    relay.now += 6
    await relay.refresh(EndpointNotFound("404"))
    assert relay.facts.information is None
