"""One accepted connection and one target: joined, or refused with the reason."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from hcm_agent.endpoint_watch import EndpointWatch
from hcm_agent.http_forward import HttpDialer
from hcm_agent.settings import Target as TargetAddress
from hcm_agent.target import join
from hcm_agent.target_dialer import DialTcp, TargetDialer
from hybridge.protocol.errors import (
    HandshakeRefused,
    RelayError,
    TargetRefused,
    Unreachable,
)
from hybridge.transport.ending import Ending
from hybridge.transport.stream import Stream
from hybridge.transport.tcp import dial_tcp
from tests.support.agent_ends import ScriptedSender, Target, free_port, receive_all, tcp_pair

LABELS = {"hybrid_connection": "orders"}


async def join_to(
    sender: ScriptedSender,
    port: int,
    *,
    host: str = "127.0.0.1",
    seconds: float = 5.0,
    dial: DialTcp = dial_tcp,
) -> None:
    dialer = TargetDialer(
        dial=dial,
        dial_http=HttpDialer().dial,
        timeout_seconds=seconds,
        observer=EndpointWatch(labels=LABELS, on_change=lambda: None, check_seconds=0),
    )
    await join(
        sender,
        TargetAddress(host, port),
        dial=dialer.dial,
        labels=LABELS,
        ending=Ending(),
    )


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.__dict__.get("event", "") for record in caplog.records]


async def test_bytes_pass_both_ways_and_each_end_of_sending_on_its_own() -> None:
    sender = ScriptedSender()
    with Target() as target:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(join_to(sender, target.port))
            application, database = await sender.accepted, await target.accept()

            await application.send(b"select 1")
            await application.send_eof()
            assert await receive_all(database) == b"select 1"
            await database.send(b"one row")
            await database.send_eof()
            assert await receive_all(application) == b"one row"

    await application.close()
    await database.close()


async def test_the_log_has_a_line_when_it_opens_and_one_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sender = ScriptedSender()
    with Target() as target, caplog.at_level(logging.INFO):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(join_to(sender, target.port))
            application, database = await sender.accepted, await target.accept()
            await application.send(b"12345")
            await database.send(b"123")
            await application.send_eof()
            await database.send_eof()
            await receive_all(application)
            await receive_all(database)

    assert events(caplog) == ["connection_opened", "connection_closed"]
    opened, closed = (record.__dict__ for record in caplog.records)
    assert opened["id"] == closed["id"] == sender.id
    assert opened["hybrid_connection"] == "orders"
    assert opened["target"] == f"127.0.0.1:{target.port}"
    assert (closed["bytes_to_target"], closed["bytes_to_sender"]) == (5, 3)
    assert closed["outcome"] == "finished"
    assert 0 <= closed["seconds"] < 30
    await application.close()
    await database.close()


async def test_the_target_is_dialled_while_the_rendezvous_is_prepared() -> None:
    sender = ScriptedSender()
    sender.may_prepare.clear()
    with Target() as target:
        async with asyncio.TaskGroup() as tasks:
            joining = tasks.create_task(join_to(sender, target.port))
            database = await target.accept()
            assert not sender.prepared.is_set()
            assert not sender.accepted.done()

            sender.may_prepare.set()
            application = await sender.accepted
            joining.cancel()

    application.abort()
    database.abort()


async def test_a_refused_target_is_told_to_the_sender_with_502(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sender = ScriptedSender()
    port = free_port()

    with caplog.at_level(logging.WARNING):
        await join_to(sender, port)

    assert await sender.rejected == (502, f"The target 127.0.0.1:{port} refused the connection.")
    assert not sender.accepted.done()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.__dict__["event"] == "connection_refused"
    assert record.__dict__["status"] == 502
    assert record.__dict__["hint"]


async def test_a_refusal_uses_the_prepared_rendezvous() -> None:
    sender = ScriptedSender()
    sender.may_prepare.clear()
    dialled = asyncio.Event()

    async def refuse(host: str, port: int, **_: object) -> Stream:
        dialled.set()
        raise TargetRefused(f"{host}:{port} refused the connection")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(join_to(sender, 5432, host="db", dial=refuse))
        await dialled.wait()
        assert not sender.rejected.done()
        sender.may_prepare.set()

    assert sender.prepared.is_set()
    assert await sender.rejected == (502, "The target db:5432 refused the connection.")


async def test_a_target_that_does_not_answer_is_told_to_the_sender_with_504() -> None:
    sender = ScriptedSender()

    async def hang(host: str, port: int, **_: object) -> Stream:
        await asyncio.Event().wait()
        raise AssertionError

    await join_to(sender, 5432, host="db", seconds=0.01, dial=hang)

    assert await sender.rejected == (504, "The target db:5432 did not answer within 0.01 s.")


async def test_a_name_that_cannot_be_resolved_is_told_to_the_sender_with_502(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def unknown(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("hybridge.transport.names.look_up", unknown)
    sender = ScriptedSender()

    await join_to(sender, 5432, host="nowhere.invalid")

    assert await sender.rejected == (
        502,
        "The target nowhere.invalid:5432: the name 'nowhere.invalid' cannot be resolved.",
    )


async def test_a_failed_preparation_is_no_end_since_accept_dials_again() -> None:
    sender = ScriptedSender()
    sender.prepare_error = Unreachable("not yet")
    with Target() as target:
        async with asyncio.TaskGroup() as tasks:
            joining = tasks.create_task(join_to(sender, target.port))
            application = await sender.accepted
            joining.cancel()

    application.abort()


async def test_a_sender_that_has_left_resets_the_target() -> None:
    sender = ScriptedSender()
    sender.accept_error = HandshakeRefused(403, "too late")
    with Target() as target:
        with pytest.raises(HandshakeRefused):
            await join_to(sender, target.port)
        database = await target.accept()

        with pytest.raises(RelayError):
            await database.receive()

    database.abort()


async def test_a_broken_sender_breaks_the_target_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sender = ScriptedSender()
    with Target() as target, caplog.at_level(logging.INFO):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(join_to(sender, target.port))
            application, database = await sender.accepted, await target.accept()
            application.abort()
            with pytest.raises(RelayError):
                await database.receive()

    assert events(caplog)[-1] == "connection_closed"
    assert "broke" in caplog.records[-1].__dict__["outcome"]
    database.abort()


@pytest.mark.parametrize("moment", ["dialling", "preparing", "carrying"])
async def test_a_cancelled_connection_leaves_nothing_open(moment: str) -> None:
    sender = ScriptedSender()
    agent_end, target_end = tcp_pair()
    reached = asyncio.Event()

    async def dial(host: str, port: int, **_: object) -> Stream:
        reached.set()
        if moment == "dialling":
            agent_end.abort()
            await asyncio.Event().wait()
        return agent_end

    if moment == "preparing":
        sender.may_prepare.clear()
    async with asyncio.TaskGroup() as tasks:
        joining = tasks.create_task(join_to(sender, 1, dial=dial))
        await reached.wait()
        if moment == "carrying":
            application = await sender.accepted
        joining.cancel()

    assert not agent_end.is_open
    if moment == "carrying":
        with pytest.raises(RelayError):
            await application.receive()
        application.abort()
    else:
        assert sender.abandoned.is_set()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    target_end.abort()


async def test_only_the_target_is_dialled_whatever_the_sender_says() -> None:
    sender = ScriptedSender("evil.example.test:22")
    sender.remote_endpoint = None
    asked: list[tuple[str, int]] = []

    async def dial(host: str, port: int, **_: object) -> Stream:
        asked.append((host, port))
        raise TargetRefused("db:5432 refused the connection")

    await join_to(sender, 5432, host="db", dial=dial)

    assert asked == [("db", 5432)]
