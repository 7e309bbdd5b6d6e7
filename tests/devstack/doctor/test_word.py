"""What the relay says: each prepared fault is found by its right name, and nothing before it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from email.utils import formatdate

import pytest

from devstack.doctor.case import Role
from devstack.doctor.faults import Fault
from devstack.doctor.finding import Check, Verdict
from hybridge.protocol.connection_string import ConnectionString, serialize
from hybridge.protocol.secret import Secret
from tests.support.examined import case_of, examine, find, listen_string, verdicts
from tests.support.in_between import in_between
from tests.support.relay import HOST, KEY, RunningRelay


def with_token(token: str, path: str = "hc1") -> str:
    return serialize(ConnectionString(host=HOST, path=path, token=Secret(token)))


def dated(seconds: float) -> Callable[[bytes], bytes]:
    """Change the date of an answer, as a relay has it whose clock is ahead."""

    def edit(head: bytes) -> bytes:
        date = formatdate(time.time() + seconds, usegmt=True).encode()
        return re.sub(rb"(?i)\r\ndate: [^\r]*", b"\r\nDate: " + date, head)

    return edit


@pytest.mark.parametrize(
    ("seconds", "fault", "verdict", "shown"),
    [
        (600, Fault.CLOCK_BEHIND, Verdict.FAIL, "10 min behind"),
        (100, Fault.CLOCK_BEHIND, Verdict.WARN, " s behind"),
        (-600, Fault.CLOCK_AHEAD, Verdict.WARN, "10 min ahead"),
    ],
)
async def test_a_clock_that_is_wrong(
    relay: RunningRelay, seconds: float, fault: Fault, verdict: Verdict, shown: str
) -> None:
    async with in_between(relay.connect_to, edit_response=dated(seconds)) as address:
        found = await find(case_of(relay, connect_to=address), fault, verdict=verdict)

    assert shown in found.what


def without_upgrade(head: bytes) -> bytes:
    return re.sub(rb"(?i)\r\n(?:upgrade|connection): [^\r]*", b"", head)


async def test_a_gateway_that_strips_the_upgrade(relay: RunningRelay) -> None:
    async with in_between(relay.connect_to, edit_request=without_upgrade) as address:
        await find(case_of(relay, connect_to=address), Fault.UPGRADE_STRIPPED)


async def test_a_gateway_that_answers_a_handshake_itself(relay: RunningRelay) -> None:
    def edit(head: bytes) -> bytes:
        return b"HTTP/1.1 403 No WebSockets here\r\n\r\n" if b"401" in head else head

    async with in_between(relay.connect_to, edit_response=edit) as address:
        found = await find(case_of(relay, connect_to=address), Fault.UPGRADE_STRIPPED)

    assert "403 No WebSockets here" in found.what


async def test_a_firewall_that_cuts_websockets(relay: RunningRelay) -> None:
    def edit(head: bytes) -> bytes:
        return b"" if b"websocket" in head.lower() else head

    async with in_between(relay.connect_to, edit_request=edit) as address:
        await find(case_of(relay, connect_to=address), Fault.WEBSOCKET_CUT)


async def test_an_answer_without_a_date_tells_nothing_of_the_clock(relay: RunningRelay) -> None:
    def edit(head: bytes) -> bytes:
        return re.sub(rb"(?i)\r\ndate: [^\r]*", b"", head)

    async with in_between(relay.connect_to, edit_response=edit) as address:
        examination = await examine(case_of(relay, connect_to=address))

    found = verdicts(examination)
    assert (found[Check.CLOCK], found[Check.TOKEN]) == (Verdict.SKIPPED, Verdict.OK)


async def test_a_handshake_that_is_never_answered(relay: RunningRelay) -> None:
    def edit(head: bytes) -> bytes:
        # As long as its head has no end, a relay waits.
        return head[:-2] if b"websocket" in head.lower() else head

    async with in_between(relay.connect_to, edit_request=edit) as address:
        case = case_of(relay, connect_to=address, timeout_seconds=2.0)
        await find(case, Fault.WEBSOCKET_CUT)


# --- token ----------------------------------------------------------------------------------------


async def test_the_senders_key_given_to_the_agent(relay: RunningRelay) -> None:
    found = await find(case_of(relay, role=Role.LISTENER), Fault.WRONG_RIGHT)

    assert "'sendrule' grants no Listen" in found.what


async def test_the_listeners_key_given_to_the_client(relay: RunningRelay) -> None:
    found = await find(case_of(relay, listen_string(relay), Role.SENDER), Fault.WRONG_RIGHT)

    assert "'listenrule' grants no Send" in found.what


async def test_another_rules_key(relay: RunningRelay) -> None:
    await find(case_of(relay, relay.connection_string(key=KEY[::-1][1:] + "=")), Fault.WRONG_KEY)


async def test_a_key_that_was_cut(relay: RunningRelay) -> None:
    examination = await examine(case_of(relay, relay.connection_string(key=KEY[:-3])))

    assert [each.fault for each in examination.warnings] == [Fault.ODD_KEY]
    assert examination.cause is not None
    assert examination.cause.fault is Fault.TRUNCATED_KEY


async def test_a_token_that_is_over(relay: RunningRelay) -> None:
    token = relay.token(expires_at=int(time.time()) - 60)
    found = await find(case_of(relay, with_token(token)), Fault.TOKEN_EXPIRED)

    assert "it ended" in found.what


async def test_a_token_for_another_hybrid_connection(relay: RunningRelay) -> None:
    token = relay.token("bare", key_name="nsrule")
    found = await find(case_of(relay, with_token(token)), Fault.WRONG_AUDIENCE)

    assert "'bare'" in found.what


async def test_a_token_that_cannot_be_read(relay: RunningRelay) -> None:
    await find(case_of(relay, with_token("SharedAccessSignature x")), Fault.MALFORMED_TOKEN)


async def test_no_token_where_senders_need_one(relay: RunningRelay) -> None:
    await find(case_of(relay, f"Endpoint=sb://{HOST}/;EntityPath=hc1"), Fault.NO_TOKEN)


@pytest.mark.parametrize(
    ("answer", "fault", "verdict"),
    [
        (
            b"401 Generic: Ip has been prevented to connect to the endpoint. TrackingId:x",
            Fault.ADDRESS_BLOCKED,
            Verdict.FAIL,
        ),
        (b"503 busy TrackingId:x", Fault.TOKEN_NOT_CHECKED, Verdict.WARN),
    ],
)
async def test_a_relay_that_says_something_else_of_every_token(
    relay: RunningRelay, answer: bytes, fault: Fault, verdict: Verdict
) -> None:
    def edit(head: bytes) -> bytes:
        _, end, rest = head.partition(b"\r\n")
        return b"HTTP/1.1 " + answer + end + rest

    async with in_between(relay.connect_to, edit_response=edit) as address:
        await find(case_of(relay, connect_to=address), fault, verdict=verdict)


# --- the hybrid connection ------------------------------------------------------------------------


async def test_a_hybrid_connection_that_does_not_exist(relay: RunningRelay) -> None:
    text = relay.connection_string("gone", key_name="nsrule")
    found = await find(case_of(relay, text), Fault.ENTITY_MISSING)

    assert "'gone'" in found.what


async def test_metadata_without_an_endpoint(relay: RunningRelay) -> None:
    case = case_of(relay, listen_string(relay, "bare"))
    await find(case, Fault.METADATA_WITHOUT_ENDPOINT)

    as_sender = case_of(relay, relay.connection_string("bare"))
    await find(as_sender, Fault.METADATA_WITHOUT_ENDPOINT, verdict=Verdict.WARN)


async def test_no_listener(relay: RunningRelay) -> None:
    await find(case_of(relay), Fault.NO_LISTENER)
