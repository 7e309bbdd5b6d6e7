"""Connections through a local port, with a scripted relay."""

from __future__ import annotations

import logging
import uuid

import pytest

from hybridge.protocol.errors import (
    HandshakeRefused,
    RelayError,
    Unreachable,
    UntrustedCertificate,
)
from hybridge.transport.timing import Timing
from tests.support.agent_ends import KEY, receive_all
from tests.support.client_ends import (
    Relay,
    dial,
    outcome_of,
    running,
    to,
    with_event,
)


async def test_bytes_pass_both_ways_and_each_end_of_sending_on_its_own() -> None:
    relay = Relay()
    async with running(relay, to("orders")) as client:
        application = await dial(client)
        target = await relay.far_ends.get()

        await application.send(b"select 1")
        await application.send_eof()
        assert await receive_all(target) == b"select 1"
        await target.send(b"one row")
        await target.send_eof()
        assert await receive_all(application) == b"one row"
        await application.close()
        await target.close()


async def test_the_other_end_may_finish_first() -> None:
    relay = Relay()
    async with running(relay, to("orders")) as client:
        application = await dial(client)
        target = await relay.far_ends.get()

        await target.send(b"bye")
        await target.send_eof()
        assert await receive_all(application) == b"bye"
        await application.send(b"late words")
        await application.send_eof()
        assert await receive_all(target) == b"late words"
        await application.close()
        await target.close()


async def test_what_the_application_sends_while_the_relay_is_dialled_is_kept() -> None:
    relay = Relay()
    relay.may_answer.clear()
    async with running(relay, to("orders")) as client:
        application = await dial(client)
        await application.send(b"early")
        await application.send_eof()
        await relay.asked.acquire()

        relay.may_answer.set()
        target = await relay.far_ends.get()

        assert await receive_all(target) == b"early"
        await target.send_eof()
        assert await receive_all(application) == b""
        await application.close()
        await target.close()
    assert not relay.cancelled.is_set()


async def test_the_log_has_the_id_that_was_given_to_the_relay(
    caplog: pytest.LogCaptureFixture,
) -> None:
    relay = Relay()
    with caplog.at_level(logging.INFO):
        async with running(relay, to("orders")) as client:
            application = await dial(client)
            target = await relay.far_ends.get()
            await application.send(b"12345")
            await target.send(b"123")
            await application.send_eof()
            await target.send_eof()
            await receive_all(application)
            await receive_all(target)
            await application.close()
            await target.close()

    (opened,) = with_event(caplog, "connection_opened")
    (closed,) = with_event(caplog, "connection_closed")
    assert opened.__dict__["id"] == closed.__dict__["id"] == relay.ids[0]
    assert str(uuid.UUID(relay.ids[0])) == relay.ids[0]
    assert opened.__dict__["hybrid_connection"] == "orders"
    assert closed.__dict__["bytes_to_target"] == 5
    assert closed.__dict__["bytes_to_sender"] == 3
    assert closed.__dict__["outcome"] == "finished"


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (HandshakeRefused(401, "InvalidSignature: The token has an invalid signature."), "key"),
        (HandshakeRefused(401, "ExpiredToken: The token is expired."), "clock"),
        (HandshakeRefused(401, "Authorization failed for specified action: Send."), "Send"),
        (HandshakeRefused(404, "There are no listeners connected for the endpoint."), "hcm run"),
        (HandshakeRefused(404, "Endpoint does not exist. TrackingId:1_G1"), "EntityPath"),
        (HandshakeRefused(502, "The target db:5432 refused the connection."), "target"),
        (HandshakeRefused(503, "busy"), "limit"),
        (HandshakeRefused(504, "The target db:5432 did not answer within 10 s."), "firewalls"),
        (UntrustedCertificate("the certificate is not trusted"), "--ca"),
        (Unreachable("the relay cannot be reached"), "relay is running"),
    ],
)
async def test_a_refused_connection_is_reset_and_the_log_says_why_and_what_to_do(
    caplog: pytest.LogCaptureFixture, answer: RelayError, hint: str
) -> None:
    relay = Relay(answer=answer)
    relay.may_answer.clear()  # Not before the application has seen that it is connected.
    with caplog.at_level(logging.WARNING):
        async with running(relay, to("orders")) as client:
            application = await dial(client)
            relay.may_answer.set()

            with pytest.raises(RelayError, match="reset"):
                await application.receive()
            application.abort()

    (record,) = with_event(caplog, "connection_refused")
    assert record.levelno == logging.WARNING
    assert str(answer) in record.message
    assert record.__dict__["status"] == answer.status
    assert record.__dict__["id"] == relay.ids[0]
    assert hint in record.__dict__["hint"]
    assert KEY not in caplog.text


async def test_a_relay_that_does_not_answer_is_a_reset_at_the_deadline(
    caplog: pytest.LogCaptureFixture,
) -> None:
    relay = Relay()
    relay.may_answer.clear()
    timing = Timing(connect_timeout_seconds=0.05)
    async with running(relay, to("orders"), timing=timing) as client:
        application = await dial(client)

        with pytest.raises(RelayError, match="reset"):
            await application.receive()
        application.abort()

    assert relay.cancelled.is_set()
    assert "no answer within 0.05 s" in caplog.text


async def test_an_application_that_gives_up_cancels_the_dial(
    caplog: pytest.LogCaptureFixture,
) -> None:
    relay = Relay()
    relay.may_answer.clear()
    with caplog.at_level(logging.INFO):
        async with running(relay, to("orders")) as client:
            application = await dial(client)
            await application.send(b"hello")
            await relay.asked.acquire()

            application.abort()

            await relay.cancelled.wait()

    assert with_event(caplog, "connection_abandoned")
    assert not with_event(caplog, "connection_refused")


async def test_a_broken_relay_leg_resets_the_application() -> None:
    relay = Relay()
    async with running(relay, to("orders")) as client:
        application = await dial(client)
        target = await relay.far_ends.get()
        await target.send(b"half an answ")
        assert await application.receive() == b"half an answ"

        target.abort()

        with pytest.raises(RelayError, match="reset"):
            await application.receive()
        application.abort()


async def test_an_application_that_resets_breaks_the_relay_leg() -> None:
    relay = Relay()
    async with running(relay, to("orders")) as client:
        application = await dial(client)
        target = await relay.far_ends.get()

        application.abort()

        with pytest.raises(RelayError):
            await target.receive()
        target.abort()


async def test_many_connections_run_at_the_same_time() -> None:
    relay = Relay()
    async with running(relay, to("orders")) as client:
        applications = [await dial(client) for _ in range(20)]
        for number, application in enumerate(applications):
            await application.send(b"%02d" % number)
        targets = [await relay.far_ends.get() for _ in applications]
        received = sorted([await target.receive() for target in targets])
        for end in (*applications, *targets):
            end.abort()

    assert received == [b"%02d" % number for number in range(20)]
    assert len(set(relay.ids)) == 20


async def test_a_bug_in_one_connection_ends_only_that_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    relay = Relay()

    async with running(relay, to("orders")) as client:
        kept = await dial(client)
        target = await relay.far_ends.get()
        relay.answer = ZeroDivisionError("a bug")  # type: ignore[assignment] # what no type allows
        faulty = await dial(client)
        broken = await outcome_of(faulty)
        await kept.send(b"still here")

        assert await target.receive() == b"still here"
        assert broken
        for end in (kept, target, faulty):
            end.abort()

    (record,) = with_event(caplog, "bug")
    assert record.exc_info is not None


async def test_over_the_limit_a_connection_waits_for_its_turn() -> None:
    relay = Relay()
    async with running(relay, to("orders"), max_connections=1) as client:
        first, second = await dial(client), await dial(client)
        first_target = await relay.far_ends.get()
        await second.send(b"my turn")
        assert relay.far_ends.empty()

        first.abort()
        second_target = await relay.far_ends.get()

        assert await second_target.receive() == b"my turn"
        for end in (first_target, second, second_target):
            end.abort()
