"""What the log tells of one connection."""

from __future__ import annotations

import asyncio

import pytest

from hybridge.program import carrying
from hybridge.program.carrying import carry
from tests.support.scripted import ScriptedStream
from tests.support.until import until


def _events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.__dict__["event"] for record in caplog.records]


async def test_a_connection_that_ends_at_once_is_told_to_have_begun_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    sender, target = ScriptedStream(), ScriptedStream()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(carry(sender, target, labels={"id": "c1"}))
        await until(lambda: target.is_reading)
        sender.end()
        target.end()

    assert _events(caplog) == ["connection_opened", "connection_closed"]


async def test_a_connection_that_lasts_is_told_to_have_begun_soon_and_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrying, "TELL_SECONDS", 0.0)
    caplog.set_level("INFO")
    sender, target = ScriptedStream(), ScriptedStream()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(carry(sender, target, labels={"id": "c1"}))
        await until(lambda: _events(caplog) == ["connection_opened"])
        assert target.is_reading
        sender.end()
        target.end()

    assert _events(caplog) == ["connection_opened", "connection_closed"]
