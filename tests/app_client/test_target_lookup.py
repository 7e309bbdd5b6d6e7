"""The target that the relay's metadata names."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

import pytest

from app_client.target_lookup import Metadata, PortUnknown, find_target
from hybridge.protocol.errors import (
    AuthorizationFailed,
    EndpointNotFound,
    HandshakeRefused,
    MalformedMessage,
    RelayError,
    Unreachable,
    UntrustedCertificate,
)


@dataclass
class Information:
    target: tuple[str, int] | None


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybridge.protocol.backoff.Backoff.next_delay", lambda self, now: 0.0)


def relay(*answers: Information | RelayError) -> list[Information | RelayError]:
    return list(answers)


async def ask(answers: list[Information | RelayError]) -> tuple[str, int]:
    async def read() -> Metadata:
        answer = answers.pop(0)
        if isinstance(answer, RelayError):
            raise answer
        return answer

    return await find_target(read, labels={"hybrid_connection": "orders"})


async def test_the_target_is_the_one_of_the_metadata() -> None:
    assert await ask(relay(Information(("db", 5432)))) == ("db", 5432)


async def test_a_relay_that_is_not_there_yet_is_waited_for_and_the_log_says_why_once_a_change(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers = relay(
        Unreachable("no route"),
        Unreachable("no route"),
        HandshakeRefused(503, "busy"),
        HandshakeRefused(429, "busy"),
        Information(("db", 5432)),
    )

    with caplog.at_level(logging.WARNING):
        assert await ask(answers) == ("db", 5432)

    assert {record.__dict__["event"] for record in caplog.records} == {"waiting_for_relay"}
    assert all(record.__dict__["hint"] for record in caplog.records)
    assert [record.message.rpartition(": ")[2] for record in caplog.records] == [
        "no route",
        "503 busy",
        "429 busy",
    ]


@pytest.mark.parametrize(
    "answer",
    [
        AuthorizationFailed("401 InvalidSignature"),
        EndpointNotFound("404 Endpoint does not exist."),
        HandshakeRefused(403, "Forbidden"),
        UntrustedCertificate("not trusted"),
        MalformedMessage("not XML"),
    ],
)
async def test_an_answer_that_would_not_change_is_final(answer: RelayError) -> None:
    with pytest.raises(type(answer)):
        await ask(relay(answer))


async def test_where_the_metadata_may_not_be_read_the_hint_is_to_give_the_address() -> None:
    with pytest.raises(AuthorizationFailed) as caught:
        await ask(relay(AuthorizationFailed("401 no Manage")))

    assert "--listen HOST:PORT" in caught.value.hint
    assert "Manage" in caught.value.hint


async def test_metadata_without_an_endpoint_has_no_port() -> None:
    with pytest.raises(PortUnknown, match="names no endpoint") as caught:
        await ask(relay(Information(None)))

    assert "--listen HOST:PORT" in caught.value.hint


async def test_waiting_can_be_cancelled() -> None:
    asked = asyncio.Event()

    async def read() -> Metadata:
        asked.set()
        raise Unreachable("no route")

    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(find_target(read, labels={}))
        await asked.wait()
        waiting.cancel()
