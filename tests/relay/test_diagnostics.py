"""What happens to a hybrid connection, and under which of Azure's names the log tells of it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

from hybridge.program import logs
from relay.core.operations import Operation
from relay.diagnostics import azure_fields, report
from relay.settings import RelaySettings
from tests.support.http import heard, http_peers, response
from tests.support.meeting import CONNECT, joined, listening, waiting
from tests.support.raw import BINARY, RelayPeers, close_frame, frame
from tests.support.relay import HOST, KEY, RunningRelay, running_relay
from tests.support.until import until
from tests.support.wire import Clock, command, http_request

CLOCKS = ("relay.gateway", "relay.control_channel")
EXPIRY = 1_900_000_000
LISTEN = "/$hc/hc1?sb-hc-action=listen"
TRACKING_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}_G\d+")
LEVELS = {operation.value: operation.level for operation in Operation}
ROOT = Path(__file__).parents[2]
CANARY = "c2VjcmV0LWNhbmFyeS1rZXktdGhhdC1sZWFrcw=="


@dataclass(frozen=True)
class World:
    relay: RunningRelay
    peers: RelayPeers
    clock: Clock

    def token(self, key_name: str = "sendrule", **fields: object) -> tuple[str, str]:
        token = self.relay.token(key_name=key_name, **fields)  # type: ignore[arg-type]
        return "ServiceBusAuthorization", token


async def two_sides_meet_and_part(world: World) -> None:
    async with joined(world.relay, world.peers) as (sender, near):
        await sender.send(frame(BINARY, CANARY.encode()) + close_frame())
        await near.message()
        await near.send(close_frame())
        await near.close()
        assert await sender.ended()


async def nobody_accepts(world: World) -> None:
    async with waiting(world.relay, world.peers) as meeting:
        assert (await meeting.sender.answer()).status == 404


async def a_listener_rejects(world: World) -> None:
    async with waiting(world.relay, world.peers) as meeting:
        reason = "sb-hc-statusCode=403&sb-hc-statusDescription=no%0Alines"
        await world.peers.visit(f"{meeting.address}&{reason}")
        assert (await meeting.sender.answer()).status == 403


async def a_sender_leaves_early(world: World) -> None:
    async with waiting(world.relay, world.peers) as meeting:
        meeting.sender.reset()
        await until(lambda: not world.relay.service.gateway.websockets.waiting_count)


async def nobody_listens(world: World) -> None:
    _, answer = await world.peers.upgrade(CONNECT, world.token())
    assert answer.status == 404


async def a_sender_has_no_token(world: World) -> None:
    await world.peers.upgrade(CONNECT)


async def a_sender_asks_to_listen(world: World) -> None:
    await world.peers.upgrade(LISTEN, world.token())


async def a_sender_has_a_wrong_key(world: World) -> None:
    await world.peers.upgrade(CONNECT, world.token(key=CANARY))


async def a_sender_shows_its_token_in_the_query(world: World) -> None:
    _, token = world.token(key=CANARY)
    await world.peers.upgrade(f"{CONNECT}&sb-hc-token={token.replace(' ', '+')}")


async def an_http_request_has_a_wrong_key(world: World) -> None:
    _, token = world.token(key=CANARY)
    headers = [("Authorization", token), ("Connection", "close")]
    peer, _ = await world.peers.request(http_request("/hc1", HOST, *headers))
    assert await peer.ended()


async def a_renewal_has_a_wrong_key(world: World) -> None:
    async with listening(world.relay, world.peers) as control:
        _, token = world.token("listenrule", key=CANARY)
        await control.send(command("renewToken", token=token))
        assert (await control.close())[0] == 1008


async def a_token_is_not_renewed(world: World) -> None:
    world.clock.now = EXPIRY - 0.01
    token = world.relay.token(key_name="listenrule", expires_at=EXPIRY)
    async with await world.peers.listener("hc1", token) as control:
        world.clock.now = EXPIRY + 0.2
        assert (await control.close())[0] == 1008


async def a_listener_falls_silent(world: World) -> None:
    async with listening(world.relay, world.peers) as control:
        await control.ended()


INVITED = ["NewSenderRegistering", "MessageSendingToListener", "MessageSentToListener"]
MEETING = [
    *INVITED,
    "ListenerAcceptingConnection",
    "SenderListenerConnectionEstablished",
    "SenderConnectionClosed",
]


ANSWERED = ["ListenerReturningHttpResponse", "ListenerSentHttpResponse"]
REQUESTED = ["SenderSentHttpRequest", "MessageSendingToListener", "MessageSentToListener"]


def between(*events: str) -> list[str]:
    """What is logged while one listener is online."""
    return ["NewListenerRegistered", *events, "ListenerUnregistered"]


async def a_request_is_answered(world: World) -> None:
    async with http_peers(world.relay) as http, http.sending(body=CANARY.encode()) as sender:
        request = await heard(http.control)
        await http.control.send(response(request.id, CANARY.encode(), reason="as you like"))
        assert (await sender.answer()).status == 200


async def a_request_is_answered_by_rendezvous(world: World) -> None:
    async with http_peers(world.relay) as http, http.sending() as sender:
        request = await heard(http.control)
        async with await http.visit(request.address) as visitor:
            await visitor.send(response(request.id, CANARY.encode()))
            assert (await sender.answer()).status == 200


async def a_response_breaks_off(world: World) -> None:
    async with http_peers(world.relay) as http, http.sending() as sender:
        request = await heard(http.control)
        async with await http.visit(request.address) as visitor:
            await visitor.send(response(request.id, CANARY.encode(), is_whole=False))
            await sender.reader.readuntil(CANARY.encode())
            visitor.reset()
            await sender.ended()


async def a_response_cannot_be_passed_on(world: World) -> None:
    async with http_peers(world.relay) as http, http.sending() as sender:
        request = await heard(http.control)
        await http.control.send(response(request.id, status=99, reason=CANARY))
        assert (await sender.answer()).status == 502


async def a_request_is_not_answered(world: World) -> None:
    async with http_peers(world.relay) as http, http.sending() as sender:
        await heard(http.control)
        assert (await sender.answer()).status == 504


async def a_request_finds_no_listener(world: World) -> None:
    peer, answer = await world.peers.request(
        http_request(f"/hc1?sb-hc-token={quote(world.token()[1])}&x={CANARY}", HOST)
    )
    async with peer:
        assert answer.status == 404


@dataclass(frozen=True)
class Case:
    happens: Callable[[World], Awaitable[None]]
    logged: list[str]
    settings: dict[str, float] = field(default_factory=dict)


CASES = [
    Case(two_sides_meet_and_part, between(*MEETING)),
    Case(
        nobody_accepts,
        between(*INVITED, "ListenerAcceptingConnectionTimeout"),
        {"accept_timeout_seconds": 0.05},
    ),
    Case(a_listener_rejects, between(*INVITED, "ListenerRejectedConnection")),
    Case(a_sender_leaves_early, between(*INVITED, "SenderConnectionClosed")),
    Case(a_request_is_answered, between(*REQUESTED, *ANSWERED)),
    Case(
        a_request_is_answered_by_rendezvous,
        between(*REQUESTED, "ListenerAcceptingConnection", *ANSWERED),
    ),
    Case(
        a_response_breaks_off,
        between(
            *REQUESTED,
            "ListenerAcceptingConnection",
            "ListenerReturningHttpResponse",
            "ListenerReturningHttpResponseFailed",
        ),
    ),
    Case(
        a_response_cannot_be_passed_on,
        between(*REQUESTED, "ListenerAcceptingHttpRequestFailed"),
    ),
    Case(
        a_request_is_not_answered,
        between(*REQUESTED, "ListenerAcceptingRequestTimeout"),
        {"response_timeout_seconds": 0.05},
    ),
    Case(a_request_finds_no_listener, ["SenderSentHttpRequest", "ProcessingRequestFailed"]),
    Case(nobody_listens, ["NewSenderRegistering", "ProcessingRequestFailed"]),
    Case(a_sender_has_no_token, ["AuthorizationFailed"]),
    Case(a_sender_asks_to_listen, ["AuthorizationFailed"]),
    Case(a_sender_has_a_wrong_key, ["InvalidSasToken"]),
    Case(a_sender_shows_its_token_in_the_query, ["InvalidSasToken"]),
    Case(an_http_request_has_a_wrong_key, ["InvalidSasToken"]),
    Case(a_renewal_has_a_wrong_key, between("InvalidSasToken")),
    Case(
        a_token_is_not_renewed,
        between("ListenerClosingFromExpiredToken"),
        {"token_grace_seconds": 0.1},
    ),
    Case(
        a_listener_falls_silent,
        between("ListenerUnresponsive"),
        {"ping_interval_seconds": 0.05, "pong_timeout_seconds": 0.05},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.happens.__name__)
async def test_what_happens_has_azures_name_in_the_log(
    case: Case, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG, "relay")
    settings = RelaySettings(drain_seconds=0.0, **case.settings)  # type: ignore[arg-type]

    async with running_relay(settings=settings) as relay:
        peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        await case.happens(World(relay, peers, Clock(monkeypatch, *CLOCKS)))

    lines = [record for record in caplog.records if record.name == "relay.diagnostics"]
    assert sorted(vars(line)["event"] for line in lines) == sorted(case.logged)
    for line in lines:
        fields = vars(line)
        assert line.levelno == LEVELS[fields["event"]]
        assert TRACKING_ID.fullmatch(fields["id"])
        assert fields["hybrid_connection"] == "ns1/hc1"
        assert fields["endpoint"] == f"sb://{HOST}/hc1"
    for record in caplog.records:
        told = logs.TextFormatter().format(record)
        assert "\n" not in told
        for secret in (CANARY, KEY, "SharedAccessSignature", "sig="):
            assert secret not in told


async def test_one_connection_is_two_lines_at_info_with_one_id(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG, "relay")
    async with running_relay() as relay:
        peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        await two_sides_meet_and_part(World(relay, peers, Clock(monkeypatch, *CLOCKS)))

    lines = [vars(record) for record in caplog.records if record.name == "relay.diagnostics"]
    senders = [line for line in lines if not line["event"].endswith("istered")]
    assert [line["event"] for line in senders] == MEETING
    assert len({line["id"] for line in senders}) == 1
    opened, ended = (line for line in senders if line["levelno"] == logging.INFO)
    assert opened["event"] == "SenderListenerConnectionEstablished"
    assert (ended["bytes_from_sender"], ended["bytes_from_listener"]) == (len(CANARY), 0)
    assert ended["seconds"] >= 0


def test_every_name_of_azures_is_there() -> None:
    # "Enable diagnostics logs for Azure Relay Hybrid Connections", the table of operations.
    assert {operation.value for operation in Operation} == {
        "AuthorizationFailed",
        "InvalidSasToken",
        "ListenerAcceptingConnection",
        "ListenerAcceptingConnectionTimeout",
        "ListenerAcceptingHttpRequestFailed",
        "ListenerAcceptingRequestTimeout",
        "ListenerClosingFromExpiredToken",
        "ListenerRejectedConnection",
        "ListenerReturningHttpResponse",
        "ListenerReturningHttpResponseFailed",
        "ListenerSentHttpResponse",
        "ListenerUnregistered",
        "ListenerUnresponsive",
        "MessageSendingToListener",
        "MessageSentToListener",
        "NewListenerRegistered",
        "NewSenderRegistering",
        "ProcessingRequestFailed",
        "SenderConnectionClosed",
        "SenderListenerConnectionEstablished",
        "SenderSentHttpRequest",
    }


def test_the_documentation_has_every_operation_with_its_level() -> None:
    page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([A-Z]+) \|", page, re.M)

    assert len(rows) == len(Operation)
    assert dict(rows) == {each.value: logging.getLevelName(each.level) for each in Operation}


def test_a_json_line_is_also_azures_record_of_the_event() -> None:
    record = recorded(
        Operation.NEW_SENDER_REGISTERING,
        id="7006a0db-27eb-445c-939b-ce86133014cc_G5",
        hybrid_connection="my-ns/my-hc",
        endpoint="sb://my-ns.servicebus.windows.net/my-hc",
    )
    record.created = 1_588_019_277.384281

    fields = json.loads(logs.json_formatter("relay", azure_fields).format(record))

    # The spelling is that of the sample in Azure's documentation.
    azures = {
        "resourceId": "/SUBSCRIPTIONS/00000000-0000-0000-0000-000000000000/RESOURCEGROUPS/hybridge"
        "/PROVIDERS/MICROSOFT.RELAY/NAMESPACES/my-ns",
        "ActivityId": "7006a0db-27eb-445c-939b-ce86133014cc",
        "endpoint": "sb://my-ns.servicebus.windows.net/my-hc"
        "/7006a0db-27eb-445c-939b-ce86133014cc_G5",
        "operationName": "Microsoft.Relay/HybridConnections/NewSenderRegistering",
        "EventTimeString": "2020-04-27T20:27:57.3842810Z",
        "message": "it happened",
        "category": "HybridConnectionsEvent",
    }
    assert azures.items() <= fields.items()
    assert fields["event"] == "NewSenderRegistering"
    assert fields["id"] == "7006a0db-27eb-445c-939b-ce86133014cc_G5"


def test_other_lines_are_no_record_of_azures() -> None:
    record = recorded(None, event="listening")

    assert azure_fields(record) == {}


def recorded(operation: Operation | None, **fields: object) -> logging.LogRecord:
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    keep, logger = Keep(), logging.getLogger("relay.diagnostics")
    logger.addHandler(keep)
    level, logger.level = logger.level, logging.DEBUG
    try:
        if operation is None:
            logger.info("it happened", extra=fields)
        else:
            report(operation, "it %s", "happened", labels=fields)
    finally:
        logger.removeHandler(keep)
        logger.setLevel(level)
    (record,) = records
    return record
