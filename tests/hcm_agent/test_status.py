"""How a hybrid connection fares, in Hybrid Connection Manager's words."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from hcm_agent.settings import HybridConnectionSettings, Target
from hcm_agent.status import REMIND_SECONDS, State, Status
from hybridge.protocol import connection_string
from hybridge.protocol.errors import EndpointNotFound, HandshakeRefused, RelayError, Unreachable
from tests.support import agent_ends


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def new_status(clock: Clock, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Status:
    settings = HybridConnectionSettings(
        connection_string=connection_string.parse(agent_ends.connection_string("orders")),
        target=Target("db", 5432),
    )
    return Status(settings, clock=clock, now=now)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Unreachable("no route"), State.DISCONNECTED),
        (HandshakeRefused(401, "InvalidSignature"), State.DISCONNECTED),
        (HandshakeRefused(404, "Endpoint does not exist."), State.NOT_FOUND),
        (EndpointNotFound("404 Endpoint does not exist."), State.NOT_FOUND),
        (None, State.DISCONNECTED),
    ],
)
def test_the_state_follows_from_what_the_relay_said(error: RelayError | None, state: State) -> None:
    status = new_status(Clock())
    status.went_online()
    assert status.state is State.CONNECTED

    status.went_offline(error)

    assert status.state is state
    assert status.last_error is error


def test_since_is_the_time_of_the_last_change_and_no_sleep_of_the_machine_moves_it() -> None:
    at = datetime(2026, 11, 26, 9, 15, 4, tzinfo=UTC)
    times = iter([at, at + timedelta(hours=1), at + timedelta(hours=9)])
    status = new_status(Clock(), now=lambda: next(times))  # The clock that sleeps stands still.
    status.went_online()
    status.went_online()

    assert status.since == at + timedelta(hours=1)


def test_an_outage_is_one_warning_and_a_reminder_now_and_then(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    status = new_status(clock)

    with caplog.at_level(logging.WARNING):
        for tracking_id in range(5):
            status.went_offline(HandshakeRefused(401, f"no TrackingId:{tracking_id}"))
        assert len(caplog.records) == 1
        clock.now += REMIND_SECONDS
        status.went_offline(HandshakeRefused(401, "no TrackingId:9"))

    assert len(caplog.records) == 2


def test_another_cause_is_another_warning(caplog: pytest.LogCaptureFixture) -> None:
    status = new_status(Clock())

    with caplog.at_level(logging.WARNING):
        status.went_offline(HandshakeRefused(401, "no"))
        status.went_offline(HandshakeRefused(404, "no"))
        status.went_offline(Unreachable("no route"))
        status.went_online()
        status.went_offline(Unreachable("no route"))

    assert len(caplog.records) == 4


def test_fields_are_what_a_person_asks_first() -> None:
    status = new_status(Clock())
    status.went_offline(Unreachable("no route"))

    assert status.to_fields() == {
        "hybrid_connection": "orders",
        "namespace": "ns1.example.test",
        "status": "Disconnected",
        "target": "db:5432",
        "endpoint": {"is_reachable": None, "since": None, "last_error": ""},
        "open_connections": 0,
        "error": "no route",
    }
