"""The smuggling table over the wire: every row to one relay over TLS, a raw listener behind it.

The listener notes whatever request reaches it whole, by the port of the connection that sent it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict

import h11
import pytest

from relay.settings import RelaySettings
from tests.support.http import heard, response
from tests.support.raw import RawPeer, RelayPeers
from tests.support.relay import RunningRelay, hybrid_connection, namespace, running_relay
from tests.support.smuggling import CANARY, Row, load_table
from tests.support.wire import TRACKED, is_alive

AT_ONCE = 24
"""Connections that are open at a time."""

DEADLINE_SECONDS = 10.0

BODY_GAP_SECONDS = 1.5
"""How long the relay waits for the rest of a body: the rows that wait all wait together."""


class Listener:
    """A raw listener that answers all it gets, and notes what it got whole, by sender's port."""

    def __init__(self, peers: RelayPeers, control: RawPeer) -> None:
        self.seen: dict[int, list[str]] = defaultdict(list)
        self._peers = peers
        self._control = control

    async def run(self) -> None:
        async with asyncio.TaskGroup() as visits:
            while True:
                request = await heard(self._control)
                if "method" in request.fields:
                    self._note(request.fields, request.body or b"")
                    await self._control.send(response(request.id, b"control channel"))
                else:
                    visits.create_task(self._visit(request.address), name="visit")

    async def _visit(self, address: str) -> None:
        peer, answer = await self._peers.visit(address)
        async with peer:
            assert answer.status == 101, answer
            try:
                request = await heard(peer)
            except (asyncio.IncompleteReadError, ConnectionError):
                return  # Its body was refused half-way: the relay breaks it off.
            self._note(request.fields, request.body or b"")
            await peer.send(response(request.id, b"rendezvous"))
            await peer.close()

    def _note(self, fields: dict[str, object], body: bytes) -> None:
        remote = fields["remoteEndpoint"]
        assert isinstance(remote, dict)
        what = f"{fields['method']} {fields['requestTarget']} {body.decode('latin-1')}"
        self.seen[remote["port"]].append(what)


async def answers_to(peer: RawPeer, sent: bytes) -> list[int | str]:
    """Send, and read to the end; give the status of each response, and what was not right."""
    await peer.send(sent)
    data = b""
    statuses: list[int | str] = []
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while piece := await peer.reader.read(65_536):
                data += piece
    except TimeoutError:
        return [data[:100].decode("latin-1"), "and no end"]
    while data:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="GET", target="/", headers=[("Host", "localhost")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        client.receive_data(b"")
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                statuses.append(event.status_code)
                statuses += faults(event)
        data = client.trailing_data[0]
    return statuses


def faults(head: h11.Response) -> list[int | str]:
    """What is not right with a refusal: it says why, and that the connection ends."""
    headers = dict(head.headers)
    if head.status_code == 200:
        return [] if b"via" in headers else ["no Via"]
    found: list[int | str] = []
    if TRACKED.fullmatch(head.reason.decode()) is None:
        found.append("no TrackingId")
    if headers.get(b"connection") != b"close":
        found.append("no Connection: close")
    if b"via" in headers:
        found.append("Via in an error of the relay's")
    return found


async def run_table(relay: RunningRelay, table: list[Row]) -> dict[str, object]:
    """Send every row and the canary behind it; give those where something else came of it."""
    peers = RelayPeers(relay.port, ca=relay.ca, host="localhost")
    places = asyncio.Semaphore(AT_ONCE)
    ended: dict[str, tuple[list[int | str], int]] = {}

    async def send(row: Row) -> None:
        if row.gets != "waits":
            await places.acquire()
        try:
            async with await peers.dial() as peer:
                port = peer.writer.get_extra_info("sockname")[1]
                statuses = await answers_to(peer, row.sent + CANARY)
                ended[f"{row.kind}: {row.name}"] = statuses, port
        finally:
            if row.gets != "waits":
                places.release()

    async with await peers.listener("hc1", relay.token("hc1", key_name="listenrule")) as control:
        listener = Listener(peers, control)
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(listener.run(), name="listener")
            async with asyncio.TaskGroup() as senders:
                for row in table:
                    senders.create_task(send(row), name=row.name)
            listening.cancel()
        assert await is_alive(control)
    wrong: dict[str, object] = {}
    for row in table:
        name = f"{row.kind}: {row.name}"
        statuses, port = ended[name]
        if statuses != row.statuses:
            wrong[f"{name}: the sender"] = f"{statuses} instead of {row.statuses}"
        if listener.seen[port] != row.all_seen:
            wrong[f"{name}: the listener"] = f"{listener.seen[port]} instead of {row.all_seen}"
    return wrong


async def test_the_listener_sees_the_well_formed_requests_and_no_canary_of_a_refused_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("WARNING")
    settings = RelaySettings(body_gap_seconds=BODY_GAP_SECONDS, drain_seconds=0)
    open_to_all = namespace(hybrid_connection(requires_client_authorization=False))
    async with running_relay(open_to_all, settings=settings) as relay:
        wrong = await run_table(relay, load_table())

    assert wrong == {}
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR or each.exc_info]
