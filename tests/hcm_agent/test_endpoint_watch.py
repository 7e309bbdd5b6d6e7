"""What is known of targets: by senders' connections, and by checks where those say nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from hcm_agent.allow_list import TargetNotAllowed
from hcm_agent.endpoint_health import EndpointHealth
from hcm_agent.endpoint_watch import Endpoint, EndpointWatch
from hcm_agent.http_target import HttpTarget
from hcm_agent.settings import Target
from hybridge.protocol.errors import RelayError, TargetRefused
from tests.support.until import until

DB = Target("db", 5432)
OTHER = Target("::1", 1433)
REFUSED = TargetRefused("db:5432 refused the connection", hint="start it")
START = datetime(2026, 11, 26, tzinfo=UTC)


class Clock:
    """The time; a second passes with each look."""

    def __init__(self) -> None:
        self.seconds = 0

    def __call__(self) -> datetime:
        self.seconds += 1
        return START + timedelta(seconds=self.seconds)


class Watched:
    """A watch, and the changes that it told of."""

    def __init__(self, *endpoints: Endpoint, check_seconds: float = 0) -> None:
        self.changes: list[EndpointHealth] = []
        self.checked: list[str] = []
        self.closing = 0
        self.answers: dict[str, RelayError | None] = {}
        self.watch = EndpointWatch(
            labels={"hybrid_connection": "orders"},
            on_change=lambda: self.changes.append(self.watch.health),
            check_seconds=check_seconds,
            now=Clock(),
        )
        self.watch.follow(endpoints)

    async def check(self, endpoint: Endpoint) -> Watched:
        self.checked.append(str(endpoint))
        answer = self.answers.get(str(endpoint))
        if answer is not None:
            self.watch.failed(str(endpoint), answer)
            raise answer
        self.watch.reached(str(endpoint))
        return self

    async def close(self) -> None:
        """End what was opened for a check; this target never answers to that."""
        self.closing += 1
        await asyncio.Event().wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.watch.run(self.check))
            yield
            task.cancel()


def events(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int]]:
    return [(record.__dict__["event"], record.levelno) for record in caplog.records]


def test_before_the_first_try_nothing_is_known() -> None:
    assert Watched(DB).watch.health == EndpointHealth(None, None, "")


def test_each_try_is_remembered_with_the_time_of_the_change() -> None:
    seen = Watched(DB)

    seen.watch.failed("db:5432", REFUSED)
    assert seen.watch.health == EndpointHealth(False, START + timedelta(seconds=1), str(REFUSED))
    seen.watch.failed("db:5432", REFUSED)
    seen.watch.reached("db:5432")
    seen.watch.reached("db:5432")

    assert seen.watch.health == EndpointHealth(True, START + timedelta(seconds=2), str(REFUSED))
    assert [each.is_reachable for each in seen.changes] == [False, True]


def test_a_change_is_one_line_in_the_log_and_what_stays_is_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = Watched(DB)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            seen.watch.reached("db:5432")
        for _ in range(3):
            seen.watch.failed("db:5432", REFUSED)

    assert events(caplog) == [
        ("endpoint_reachable", logging.INFO),
        ("endpoint_unreachable", logging.WARNING),
    ]
    fields = caplog.records[1].__dict__
    assert (fields["target"], fields["hybrid_connection"]) == ("db:5432", "orders")
    assert (fields["error"], fields["hint"]) == (str(REFUSED), "start it")
    assert str(REFUSED) not in caplog.records[1].getMessage()


def test_a_target_that_is_not_allowed_is_said_by_that_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = Watched(DB)
    with caplog.at_level(logging.INFO):
        seen.watch.failed("db:5432", TargetNotAllowed("db", 5432))

    assert events(caplog) == [("target_not_allowed", logging.WARNING)]
    assert seen.watch.health.is_reachable is False
    assert "allow-list" in seen.watch.health.last_error


def test_another_reason_is_news_for_who_looks_and_not_for_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = Watched(DB)
    with caplog.at_level(logging.INFO):
        seen.watch.failed("db:5432", REFUSED)
        seen.watch.failed("db:5432", TargetRefused("the name 'db' cannot be resolved"))

    assert len(caplog.records) == 1
    assert [each.last_error for each in seen.changes] == [
        str(REFUSED),
        "the name 'db' cannot be resolved",
    ]


def test_of_several_targets_the_worst_speaks_for_all() -> None:
    seen = Watched(DB, OTHER)
    seen.watch.reached("[::1]:1433")
    seen.watch.reached("db:5432")
    seen.watch.failed("db:5432", REFUSED)

    assert [each.is_reachable for each in seen.changes] == [None, True, False]
    assert seen.watch.health.last_error == str(REFUSED)
    assert seen.watch.by_target["[::1]:1433"].is_reachable is True


def test_a_target_that_is_gone_counts_no_more() -> None:
    seen = Watched(DB)
    seen.watch.failed("db:5432", REFUSED)

    seen.watch.follow([OTHER])
    seen.watch.failed("db:5432", REFUSED)

    assert seen.watch.health == EndpointHealth()


def test_a_web_service_goes_by_its_host_and_port() -> None:
    web = HttpTarget(scheme="https", host="web", port=443, path="/api")

    assert list(Watched(web).watch.by_target) == ["web:443"]


async def test_a_target_is_checked_until_it_is_reachable_and_then_left_alone() -> None:
    seen = Watched(DB, check_seconds=0.01)
    seen.answers["db:5432"] = REFUSED
    async with seen.running():
        await until(lambda: len(seen.checked) >= 3)
        assert seen.watch.health.last_error == str(REFUSED)

        seen.answers.clear()
        await until(lambda: seen.watch.health.is_reachable)
        count = len(seen.checked)
        seen.watch.follow([DB, OTHER])
        await until(lambda: seen.watch.health.is_reachable)

        # Several periods of ten milliseconds later: the one that was known was not asked again.
        assert seen.checked[count:] == ["[::1]:1433"]


async def test_a_sender_that_fails_brings_the_checks_back() -> None:
    seen = Watched(DB, check_seconds=0.01)
    async with seen.running():
        await until(lambda: seen.watch.health.is_reachable)
        seen.watch.failed("db:5432", REFUSED)

        await until(lambda: seen.watch.health.is_reachable)

    assert seen.checked == ["db:5432", "db:5432"]


async def test_who_asks_has_also_a_reachable_target_checked_and_waits_for_the_answer() -> None:
    seen = Watched(DB, check_seconds=3600)
    async with asyncio.timeout(20), seen.running():
        await until(lambda: seen.watch.health.is_reachable)
        seen.answers["db:5432"] = REFUSED

        await seen.watch.look_again(max_age_seconds=0)

    assert seen.watch.health.last_error == str(REFUSED)
    assert len(seen.checked) == 2
    assert seen.closing == 1


async def test_what_was_heard_lately_is_not_checked_for_who_asks() -> None:
    seen = Watched(DB, check_seconds=3600)
    async with asyncio.timeout(20), seen.running():
        await until(lambda: seen.checked)

        await seen.watch.look_again(max_age_seconds=3600)

    assert len(seen.checked) == 1


async def test_without_checks_there_is_nothing_to_wait_for() -> None:
    async with asyncio.timeout(20):
        await Watched(DB, check_seconds=0).watch.look_again(max_age_seconds=0)


async def test_with_a_period_of_zero_nothing_is_checked() -> None:
    seen = Watched(DB, check_seconds=0)

    await seen.watch.run(seen.check)

    assert seen.checked == []
