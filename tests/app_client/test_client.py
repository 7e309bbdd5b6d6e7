"""Local ports over real TCP sockets, with a scripted relay."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app_client.client import Client
from app_client.forwarder import Connecting, Outside
from app_client.local_port import LocalPort
from app_client.port_lookup import Metadata
from app_client.settings import ClientSettings, Forward
from hybridge.program.lifetime import Lifetime
from hybridge.protocol import connection_string
from hybridge.protocol.errors import (
    AuthorizationFailed,
    HandshakeRefused,
    RelayError,
    Unreachable,
    UntrustedCertificate,
)
from hybridge.transport.listening import AddressUnusable
from hybridge.transport.stream import Stream
from hybridge.transport.tcp import TcpStream, dial_tcp
from hybridge.transport.timing import Timing
from tests.support import agent_ends
from tests.support.agent_ends import KEY, free_port, receive_all, tcp_pair


@dataclass
class Information:
    target: tuple[str, int] | None


@dataclass
class Relay:
    """Answers each connect as the test says; keeps the far ends."""

    answer: RelayError | None = None
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    ids: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    far_ends: asyncio.Queue[TcpStream] = field(default_factory=asyncio.Queue)
    metadata: Information | RelayError = field(default_factory=lambda: Information(None))

    def __post_init__(self) -> None:
        self.may_answer.set()

    def outside(self) -> Outside:
        return Outside(open_sender=self.open, read_metadata=self.read)

    def open(self, forward: Forward, settings: ClientSettings) -> Connecting:
        return ScriptedSender(self, forward.name)

    async def read(self, forward: Forward, settings: ClientSettings) -> Metadata:
        if isinstance(self.metadata, RelayError):
            raise self.metadata
        return self.metadata


@dataclass
class ScriptedSender:
    relay: Relay
    name: str

    async def connect(self, *, connection_id: str | None = None) -> Stream:
        relay = self.relay
        relay.ids.append(connection_id or "")
        relay.names.append(self.name)
        relay.asked.release()
        try:
            await relay.may_answer.wait()
        except asyncio.CancelledError:
            relay.cancelled.set()
            raise
        if relay.answer is not None:
            raise relay.answer
        near, far = tcp_pair()
        relay.far_ends.put_nowait(far)
        return near


def to(name: str, listen: tuple[str, int] | None = ("127.0.0.1", 0)) -> Forward:
    parsed = connection_string.parse(agent_ends.connection_string(name))
    return Forward(connection_string=parsed, listen=listen)


@dataclass
class Running:
    lifetime: Lifetime
    addresses: asyncio.Queue[tuple[str, tuple[str, int]]]
    client: Client


@contextlib.asynccontextmanager
async def running(
    relay: Relay,
    *forwards: Forward,
    timing: Timing | None = None,
    drain_seconds: float = 30,
    max_connections: int = 100,
    ready_file: Path | None = None,
) -> AsyncIterator[Running]:
    """A client that serves; stopped at the end, when all that it started must be gone."""
    lifetime = Lifetime()
    addresses: asyncio.Queue[tuple[str, tuple[str, int]]] = asyncio.Queue()

    def announce(forwarder: LocalPort, address: tuple[str, int]) -> None:
        addresses.put_nowait((forwarder.name, address))

    client = Client(
        ClientSettings(forwards=forwards, timing=timing or Timing(), drain_seconds=drain_seconds),
        max_connections=max_connections,
        announce=announce,
        ready_file=ready_file,
        outside=relay.outside(),
    )
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(client.run(lifetime))
        yield Running(lifetime, addresses, client)
        lifetime.stop()
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def dial(running: Running) -> Stream:
    _, (host, port) = await running.addresses.get()
    running.addresses.put_nowait(("", (host, port)))
    return await dial_tcp(host, port)


def with_event(caplog: pytest.LogCaptureFixture, event: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.__dict__.get("event") == event]


def only(group: pytest.ExceptionInfo[BaseExceptionGroup[BaseException]]) -> BaseException:
    error: BaseException = group.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    return error


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
    with caplog.at_level(logging.WARNING):
        async with running(relay, to("orders")) as client:
            application = await dial(client)

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


async def test_each_hybrid_connection_has_a_port_of_its_own() -> None:
    relay = Relay()
    async with running(relay, to("orders"), to("bills")) as client:
        ports = dict([await client.addresses.get(), await client.addresses.get()])
        ends = []
        for name in ("orders", "bills", "orders"):
            ends.append(await dial_tcp(*ports[name]))
            ends.append(await relay.far_ends.get())
        for end in ends:
            end.abort()

    assert relay.names == ["orders", "bills", "orders"]


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


async def outcome_of(stream: Stream) -> str:
    """How the peer ended it: an error's text, or nothing for an orderly end."""
    try:
        await stream.receive()
    except RelayError as error:
        return str(error)
    return ""


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


async def test_asked_to_stop_it_gives_the_port_back_and_lets_running_connections_end() -> None:
    relay = Relay()
    async with running(relay, to("orders")) as client:
        _, address = await client.addresses.get()
        application = await dial_tcp(*address)
        target = await relay.far_ends.get()

        client.lifetime.stop()
        await refused(address)
        await application.send(b"late")
        await application.send_eof()

        assert await receive_all(target) == b"late"
        await target.send_eof()
        assert await receive_all(application) == b""
        await application.close()
        await target.close()


async def refused(address: tuple[str, int]) -> None:
    """Wait until nothing listens there any more."""
    while True:
        try:
            stream = await dial_tcp(*address)
        except RelayError:
            return
        stream.abort()


async def test_what_still_runs_after_the_grace_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    relay = Relay()
    with caplog.at_level(logging.INFO):
        async with running(relay, to("orders"), drain_seconds=0.01) as client:
            application = await dial(client)
            target = await relay.far_ends.get()
            await application.send(b"x")
            assert await target.receive() == b"x"
            client.lifetime.stop()

            with pytest.raises(RelayError, match="reset"):
                await application.receive()
            for end in (application, target):
                end.abort()

    assert with_event(caplog, "drain_over")
    assert with_event(caplog, "connection_closed")[0].__dict__["outcome"] == "stopped"


async def test_the_port_is_that_of_the_metadata_on_loopback() -> None:
    port = free_port()
    relay = Relay(metadata=Information(("db.corp.local", port)))
    async with running(relay, to("orders", listen=None)) as client:
        assert await client.addresses.get() == ("orders", ("127.0.0.1", port))


async def test_a_relay_that_is_away_holds_back_only_the_port_that_it_must_name() -> None:
    relay = Relay(metadata=Unreachable("no route"))
    async with running(relay, to("waits", listen=None), to("ready")) as client:
        name, _ = await client.addresses.get()

        assert name == "ready"


async def test_a_wrong_key_is_the_end_when_the_port_must_be_asked_for() -> None:
    relay = Relay(metadata=AuthorizationFailed("401 InvalidSignature"))

    with pytest.raises(BaseExceptionGroup) as caught:
        async with running(relay, to("orders", listen=None)):
            await asyncio.Event().wait()

    error = only(caught)
    assert isinstance(error, AuthorizationFailed)
    assert "--listen" in error.hint


async def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BaseExceptionGroup) as caught:
            async with running(Relay(), to("orders", listen=("127.0.0.1", port))):
                await asyncio.Event().wait()

    error = only(caught)
    assert isinstance(error, AddressUnusable)
    assert f"127.0.0.1:{port}" in str(error)
    assert error.hint


async def test_a_port_for_the_whole_network_gets_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(Relay(), to("orders", listen=("0.0.0.0", 0))) as client:  # noqa: S104
        await client.addresses.get()

    assert len(with_event(caplog, "open_to_network")) == 1


async def test_the_ready_file_exists_while_all_ports_are_open(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    async with running(Relay(), to("orders"), to("bills"), ready_file=ready) as client:
        found = dict([await client.addresses.get(), await client.addresses.get()])
        await asyncio.sleep(0)

        document = json.loads(ready.read_text())
        assert {each["hybrid_connection"]: each["port"] for each in document["listening"]} == {
            name: port for name, (_, port) in found.items()
        }
    assert not ready.exists()


async def test_at_the_end_a_dial_in_flight_is_given_up_at_once() -> None:
    relay = Relay()
    relay.may_answer.clear()
    async with asyncio.timeout(30), running(relay, to("orders")) as client:
        local = await dial(client)
        await relay.asked.acquire()
        client.lifetime.stop()
        await relay.cancelled.wait()
        assert "reset" in await outcome_of(local)


async def test_a_hang_up_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    async with running(Relay(), to("orders")) as client:
        await client.addresses.get()
        assert client.lifetime.on_reload is not None
        client.lifetime.on_reload()

        assert not client.lifetime.stopping.is_set()
    assert with_event(caplog, "reload_refused")
