"""Target, agent, and a byte there and back: each prepared fault is found by its right name."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Sequence

import pytest

from devstack.doctor import conversation, entity
from devstack.doctor.case import Case, Notes, Role
from devstack.doctor.destination import check_target
from devstack.doctor.examination import Examination
from devstack.doctor.faults import Fault
from devstack.doctor.finding import Check, Finding, Verdict
from hcm_agent.allow_list import parse_allow_list
from hybridge.incoming_connection import IncomingConnection
from hybridge.protocol.connection_string import ConnectionString, parse
from hybridge.protocol.errors import HandshakeRefused, Unreachable
from hybridge.sender import connect
from hybridge.transport import names
from hybridge.transport.stream import Stream
from relay.settings import RelaySettings
from tests.support.agent_ends import free_port
from tests.support.examined import agent, case_of, examine, find, listen_string, verdicts
from tests.support.http_sender import HttpSender
from tests.support.in_between import in_between
from tests.support.relay import HOST, RunningRelay, running_relay


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        (("127.0.0.1", 1), Fault.TARGET_REFUSES),
        (("x" * 64 + ".corp.local", 5432), Fault.TARGET_NAME_UNKNOWN),
    ],
)
async def test_a_target_that_is_not_there(
    relay: RunningRelay, target: tuple[str, int], fault: Fault
) -> None:
    async with agent(relay):
        found = await find(case_of(relay, listen_string(relay), targets=(target,)), fault)

    assert target[0] in found.what


async def test_a_target_whose_name_leads_back_to_this_machine(
    relay: RunningRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = names.look_up

    async def with_a_hosts_line(
        host: str, port: int, kind: socket.SocketKind
    ) -> Sequence[names.AddressInfo]:
        return await look_up("127.0.0.1" if host == "db.corp.local" else host, port, kind)

    monkeypatch.setattr(names, "look_up", with_a_hosts_line)
    async with agent(relay):
        target = ("db.corp.local", relay.port)
        case = case_of(relay, listen_string(relay), targets=(target,))
        found = await find(case, Fault.TARGET_LOOPS, verdict=Verdict.WARN)

    assert "127.0.0.1" in found.what
    assert "app-client hosts --remove" in found.next_step


async def test_a_target_that_may_not_be_dialled(relay: RunningRelay) -> None:
    target = ("127.0.0.1", relay.port)
    allowed = parse_allow_list(["db.corp.local:*"], setting="AllowTargets")
    async with agent(relay):
        case = case_of(relay, listen_string(relay), targets=(target,), allow_list=allowed)
        await find(case, Fault.TARGET_NOT_ALLOWED)


async def test_a_target_that_does_not_answer(
    relay: RunningRelay, black_hole: tuple[str, int]
) -> None:
    case = case_of(relay, role=Role.LISTENER, targets=(black_hole,), timeout_seconds=0.2)
    found = await check_target(case, Notes(role=Role.LISTENER))

    assert (found.fault, found.verdict) == (Fault.TARGET_TIMEOUT, Verdict.FAIL)


async def test_a_target_without_a_way_there(
    relay: RunningRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_route(host: str, port: int, **_: object) -> None:
        raise Unreachable(f"{host}:{port} cannot be reached: Network is unreachable", status=502)

    monkeypatch.setattr("devstack.doctor.destination.dial_socket", no_route)
    async with agent(relay):
        case = case_of(relay, listen_string(relay), targets=(("192.0.2.1", 1),))
        await find(case, Fault.TARGET_UNREACHABLE)


async def test_nobody_says_where_the_target_is_and_the_listener_has_metadata_without(
    relay: RunningRelay,
) -> None:
    examination = await examine(case_of(relay, listen_string(relay, "bare")))

    found = [each.fault for each in examination.findings if each.verdict is Verdict.FAIL]
    assert found == [Fault.METADATA_WITHOUT_ENDPOINT, Fault.NO_TARGET]


async def test_a_target_is_looked_at_though_the_relay_cannot_be_reached(
    relay: RunningRelay,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        case = case_of(
            relay, role=Role.LISTENER, connect_to=("127.0.0.1", free_port()),
            targets=(listening.getsockname(),),
        )  # fmt: skip
        examination = await examine(case)

    assert verdicts(examination)[Check.TCP] is Verdict.FAIL
    assert verdicts(examination)[Check.TARGET] is Verdict.OK


# --- the agent ------------------------------------------------------------------------------------


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the other end's first bytes as long as a busy machine may take."""
    monkeypatch.setattr(conversation, "FIRST_BYTES_SECONDS", 20.0)


async def test_all_is_well_for_a_sender(relay: RunningRelay) -> None:
    async with agent(relay):
        examination = await examine(case_of(relay))

    assert examination.cause is None
    assert examination.role is Role.SENDER
    found = verdicts(examination)
    assert found.pop(Check.TARGET) is found.pop(Check.PROXY) is Verdict.SKIPPED
    assert set(found.values()) == {Verdict.OK}
    assert examination.findings[-1].what.endswith("and it holds")


async def test_all_is_well_for_a_listener(relay: RunningRelay) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with agent(relay):
            case = case_of(relay, listen_string(relay), targets=(listening.getsockname(),))
            examination = await examine(case)

    assert examination.role is Role.LISTENER
    found = verdicts(examination)
    assert found.pop(Check.CONNECTION) is found.pop(Check.PROXY) is Verdict.SKIPPED
    assert set(found.values()) == {Verdict.OK}


async def test_senders_need_no_token_where_the_relay_asks_for_none(relay: RunningRelay) -> None:
    async with agent(relay, path="open"):
        examination = await examine(case_of(relay, f"Endpoint=sb://{HOST}/;EntityPath=open"))

    assert examination.cause is None
    assert verdicts(examination)[Check.CONNECTION] is Verdict.OK


async def test_a_server_that_speaks_first_is_noticed(relay: RunningRelay, patient: None) -> None:
    async def greet(connection: IncomingConnection) -> None:
        stream = await connection.accept()
        await stream.send(b"220 hello")
        await stream.receive()
        stream.abort()

    async with agent(relay, greet):
        examination = await examine(case_of(relay))

    assert examination.findings[-1].what.endswith("the other end speaks first")


async def test_an_agent_that_rejects(relay: RunningRelay) -> None:
    async def reject(connection: IncomingConnection) -> None:
        await connection.reject(502, "The target db1:5432 refused the connection.")

    async with agent(relay, reject):
        found = await find(case_of(relay), Fault.LISTENER_REJECTS)

    assert "502 The target db1:5432 refused the connection." in found.what
    assert "target running" in found.next_step


@pytest.mark.parametrize(
    ("status", "step"),
    [
        (501, "send HTTP"),
        (503, "try again"),
        (504, "a firewall"),
        (403, "hybridge doctor --as listener"),
    ],
)
def test_the_next_step_after_a_rejection_follows_its_status(status: int, step: str) -> None:
    found = conversation._refused(HandshakeRefused(status, "no"))

    assert found.fault is Fault.LISTENER_REJECTS
    assert step in found.next_step


async def test_an_agent_that_does_not_come() -> None:
    async def hang(_: IncomingConnection) -> None:
        await asyncio.Event().wait()

    settings = RelaySettings(drain_seconds=0.0, accept_timeout_seconds=0.3)
    async with running_relay(settings=settings) as relay, agent(relay, hang):
        found = await find(case_of(relay), Fault.LISTENER_DOES_NOT_COME)

    assert "gateways" in found.next_step


@pytest.mark.parametrize("in_order", [True, False])
async def test_a_connection_that_breaks_at_once(
    relay: RunningRelay, in_order: bool, patient: None
) -> None:
    async def leave(connection: IncomingConnection) -> None:
        stream = await connection.accept()
        if in_order:
            await stream.close()
        stream.abort()

    async with agent(relay, leave):
        await find(case_of(relay), Fault.CONNECTION_LOST)


async def test_as_many_listeners_as_there_may_be(
    relay: RunningRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entity, "MAX_LISTENERS", 1)
    async with agent(relay):
        case = case_of(relay, listen_string(relay), targets=(("127.0.0.1", relay.port),))
        await find(case, Fault.LISTENERS_FULL, verdict=Verdict.WARN)


def after_the_101(answer: bytes) -> Callable[[bytes], bytes]:
    """Say something else than the relay, where it switches to WebSocket."""

    def edit(head: bytes) -> bytes:
        return answer if head.startswith(b"HTTP/1.1 101") else head

    return edit


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"HTTP/1.1 500 InternalServerError. TrackingId:x\r\n\r\n", Fault.CONNECTION_REFUSED),
        (b"HTTP/1.1 404 Endpoint does not exist. TrackingId:x\r\n\r\n", Fault.ENTITY_MISSING),
        (b"", Fault.CONNECTION_FAILED),
    ],
)
async def test_a_relay_that_does_not_connect_a_sender(
    relay: RunningRelay, answer: bytes, fault: Fault
) -> None:
    edit = after_the_101(answer)
    async with agent(relay), in_between(relay.connect_to, edit_response=edit) as address:
        await find(case_of(relay, connect_to=address), fault)


def only_for_manage(head: bytes) -> bytes:
    """Refuse the runtime information, as Azure does to rules without Manage."""
    if b"atom+xml" not in head:
        return head
    reason = b"401 Authorization failed for specified action: Manage. TrackingId:x"
    return head.replace(b"200 OK", reason)


async def test_azure_tells_a_sender_less_and_connecting_tells_the_rest(
    relay: RunningRelay,
) -> None:
    async with (
        agent(relay),
        in_between(relay.connect_to, edit_response=only_for_manage) as address,
    ):
        examination = await examine(case_of(relay, connect_to=address))

    assert examination.cause is None
    found = verdicts(examination)
    assert (found[Check.TOKEN], found[Check.CONNECTION]) == (Verdict.OK, Verdict.OK)
    assert found[Check.ENTITY] is found[Check.LISTENERS] is Verdict.SKIPPED
    assert [each.fault for each in examination.warnings] == [Fault.METADATA_UNREADABLE]


async def test_azure_tells_a_sender_that_no_agent_is_there_when_it_connects(
    relay: RunningRelay,
) -> None:
    async with in_between(relay.connect_to, edit_response=only_for_manage) as address:
        examination = await examine(case_of(relay, connect_to=address))

    assert examination.cause is not None
    assert examination.cause.fault is Fault.NO_LISTENER
    assert examination.findings[-1].fault is Fault.NO_LISTENER


# --- there and back -------------------------------------------------------------------------------


async def round_trip(relay: RunningRelay) -> Finding:
    both = case_of(relay, relay.connection_string(key_name="nsrule"))
    examination = Examination(case=both)
    async for _ in examination.run():
        pass
    return await examination.run_round_trip(examination)


async def test_a_byte_goes_there_and_back(relay: RunningRelay) -> None:
    found = await round_trip(relay)

    assert found.verdict is Verdict.OK
    assert re.fullmatch(r"made in \d+ ms; a byte there and back in \d+\.\d ms", found.what)


async def test_the_senders_of_others_go_to_others(relay: RunningRelay) -> None:
    arrived = asyncio.Event()

    async def note(_: IncomingConnection) -> None:
        arrived.set()

    async with agent(relay, note):
        found = await conversation.try_round_trip(
            case_of(relay), parse(listen_string(relay)), parse(relay.connection_string())
        )

    assert found.verdict is Verdict.OK
    assert not arrived.is_set()


async def test_a_gateway_that_cannot_be_reached() -> None:
    settings = RelaySettings(drain_seconds=0.0, public_host="g" * 64 + ".servicebus.windows.net")
    async with running_relay(settings=settings) as relay:
        found = await conversation.try_round_trip(
            case_of(relay), parse(listen_string(relay)), parse(relay.connection_string())
        )

    assert (found.fault, found.verdict) == (Fault.RENDEZVOUS_UNREACHABLE, Verdict.FAIL)
    assert "g" * 64 in found.what


async def test_a_temporary_listener_that_is_refused(relay: RunningRelay) -> None:
    sending = parse(relay.connection_string())

    found = await conversation.try_round_trip(case_of(relay), sending, sending)

    assert (found.fault, found.verdict) == (Fault.LISTENER_REFUSED, Verdict.FAIL)


async def test_bytes_that_do_not_come_back(
    relay: RunningRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(stream: Stream) -> None:
        stream.abort()

    monkeypatch.setattr(conversation, "_echo", lose)
    found = await round_trip(relay)

    assert (found.fault, found.verdict) == (Fault.BYTES_LOST, Verdict.FAIL)


async def test_others_that_come_to_the_temporary_listener_are_told_to_try_again(
    relay: RunningRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[int | None] = []
    ask = conversation._ask

    async def come_first(case: Case, listener_id: str, sending: ConnectionString) -> Finding:
        try:
            await connect(sending, ca=relay.ca, connect_to=relay.connect_to)
        except HandshakeRefused as refusal:
            answers.append(refusal.status)
        async with await HttpSender.connect(relay) as sender:
            await sender.start("GET", "/hc1")
            await sender.finish()
            answers.append((await sender.answer()).status)
        return await ask(case, listener_id, sending)

    monkeypatch.setattr(conversation, "_ask", come_first)
    found = await round_trip(relay)

    assert found.verdict is Verdict.OK
    assert answers == [503, 503]
