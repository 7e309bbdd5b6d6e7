from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.http11 import Request
from websockets.server import ServerProtocol

from hybridge import IncomingConnection, Listener, Stream, WebSocketStream, connect
from hybridge.protocol.errors import (
    AuthorizationFailed,
    EndpointNotFound,
    HandshakeRefused,
    MalformedAddress,
    MalformedConnectionString,
    Unreachable,
    UntrustedCertificate,
)
from hybridge.transport.stream import RelayedStream
from hybridge.transport.timing import Timing
from relay.core.authorization import Grant
from relay.settings import RelaySettings
from relay.visit import Visit
from tests.support.raw import RelayPeers
from tests.support.relay import HOST, RunningRelay, certificate, running_relay
from tests.support.until import until

DEADLINE_SECONDS = 20.0


def sender(relay: RunningRelay, *, subprotocols: tuple[str, ...] = ()) -> connect:
    return connect(
        relay.connection_string(),
        ca=relay.ca,
        connect_to=relay.connect_to,
        subprotocols=subprotocols,
    )


@asynccontextmanager
async def ends(
    connection: IncomingConnection,
    sending: asyncio.Task[WebSocketStream],
    subprotocol: str | None = None,
) -> AsyncIterator[tuple[RelayedStream, WebSocketStream]]:
    """Accept; give the listener's and the sender's stream. Both close at the same time."""
    near, far = await connection.accept(subprotocol), await sending
    yield near, far
    async with asyncio.TaskGroup() as closing:
        closing.create_task(near.close())
        closing.create_task(far.close())


@asynccontextmanager
async def listening(
    relay: RunningRelay, *, key_name: str = "listenrule", lifetime: float = 3600.0
) -> AsyncIterator[Listener]:
    listener = Listener(
        relay.connection_string(key_name=key_name),
        ca=relay.ca,
        connect_to=relay.connect_to,
        token_lifetime_seconds=lifetime,
    )
    async with asyncio.timeout(DEADLINE_SECONDS), listener:
        yield listener


@pytest.fixture
async def relay() -> AsyncIterator[RunningRelay]:
    async with running_relay() as running:
        yield running


class Changes:
    """Hears of each change of a listener, and can be waited for."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._seen: asyncio.Queue[bool] = asyncio.Queue()
        listener.on_change = lambda: self._seen.put_nowait(listener.is_online)

    async def until(self, is_online: bool) -> None:
        while await self._seen.get() is not is_online:
            pass


async def test_an_accepted_sender_and_the_listener_talk_and_each_end_finishes_on_its_own(
    relay: RunningRelay,
) -> None:
    async with listening(relay) as listener, asyncio.TaskGroup() as tasks:
        await listener.wait_online()
        sending = tasks.create_task(sender(relay).open())
        connection = await anext(aiter(listener))
        async with ends(connection, sending) as (near, far):
            await far.send(b"question" * 50_000)
            await far.send_eof()
            question = b"".join([piece async for piece in pieces(near)])
            await near.send(b"answer")
            await near.send_eof()
            answer = b"".join([piece async for piece in pieces(far)])

    assert question == b"question" * 50_000
    assert answer == b"answer"


async def pieces(stream: Stream) -> AsyncIterator[bytes]:
    while data := await stream.receive():
        yield data


@pytest.mark.clause(66, 67)
@pytest.mark.parametrize("chosen", ["second", None])
async def test_the_listener_chooses_the_sub_protocol(
    relay: RunningRelay, chosen: str | None
) -> None:
    async with listening(relay) as listener, asyncio.TaskGroup() as tasks:
        await listener.wait_online()
        sending = tasks.create_task(sender(relay, subprotocols=("first", "second")).open())
        connection = await anext(aiter(listener))
        assert connection.subprotocols == ("first", "second")
        async with ends(connection, sending, chosen) as (near, far):
            assert near.subprotocol == far.subprotocol == chosen


async def test_a_rejected_sender_gets_the_listeners_own_words(relay: RunningRelay) -> None:
    async with listening(relay) as listener, asyncio.TaskGroup() as tasks:
        await listener.wait_online()

        async def refused() -> HandshakeRefused:
            with pytest.raises(HandshakeRefused) as caught:
                await sender(relay)
            return caught.value

        sending = tasks.create_task(refused())
        connection = await anext(aiter(listener))
        await connection.reject(450, "Nö, not + today")

    assert (sending.result().status, sending.result().reason) == (450, "Nö, not + today")


async def test_a_connection_is_good_for_one_answer(relay: RunningRelay) -> None:
    async with listening(relay) as listener, asyncio.TaskGroup() as tasks:
        await listener.wait_online()
        sending = tasks.create_task(sender(relay).open())
        connection = await anext(aiter(listener))
        async with ends(connection, sending):
            with pytest.raises(HandshakeRefused) as caught:
                await connection.accept()
    assert caught.value.status == 403


async def test_what_was_prepared_and_is_gone_is_dialled_again() -> None:
    settings = RelaySettings(drain_seconds=0.0, head_timeout_seconds=0.05)
    async with (
        running_relay(settings=settings) as relay,
        listening(relay) as listener,
        asyncio.TaskGroup() as tasks,
    ):
        await listener.wait_online()
        sending = tasks.create_task(sender(relay).open())
        connection = await anext(aiter(listener))
        await connection.prepare()
        wire = connection._wire
        assert wire is not None
        await until(wire.has_input)  # the relay gives the silent socket up

        async with ends(connection, sending):
            pass


async def test_the_first_attempts_error_is_given_and_attempts_go_on(relay: RunningRelay) -> None:
    async with listening(relay, key_name="sendrule") as listener:
        with pytest.raises(AuthorizationFailed, match="Listen"):
            await listener.wait_online()
        assert listener.last_error is not None
        assert listener.last_error.hint


async def test_an_unknown_hybrid_connection_is_not_found(relay: RunningRelay) -> None:
    string = relay.connection_string("nowhere", key_name="RootManageSharedAccessKey")
    key = string.split("SharedAccessKey=")[1].split(";")[0]
    async with Listener(
        string.replace(key, key[::-1]), ca=relay.ca, connect_to=relay.connect_to
    ) as listener:
        with pytest.raises(EndpointNotFound, match="nowhere"):
            await listener.wait_online()


async def test_a_relay_that_nobody_vouches_for_is_not_trusted(relay: RunningRelay) -> None:
    async with Listener(
        relay.connection_string(key_name="listenrule"), connect_to=relay.connect_to
    ) as listener:
        with pytest.raises(UntrustedCertificate) as caught:
            await listener.wait_online()
    assert "--ca" in caught.value.hint


async def test_a_relay_that_is_not_there_is_unreachable(unused_tcp_port: int) -> None:
    async with Listener(
        "Endpoint=sb://localhost/;SharedAccessKeyName=a;SharedAccessKey=b;EntityPath=c",
        connect_to=("127.0.0.1", unused_tcp_port),
    ) as listener:
        with pytest.raises(Unreachable, match="localhost"):
            await listener.wait_online()


@pytest.mark.parametrize(
    "text",
    [
        "Endpoint=sb://localhost/;SharedAccessKeyName=a;SharedAccessKey=b",
        "Endpoint=sb://localhost/;EntityPath=c",
    ],
)
def test_a_listener_needs_a_path_and_a_key(text: str) -> None:
    with pytest.raises(MalformedConnectionString) as caught:
        Listener(text)
    assert caught.value.hint


async def test_it_comes_back_after_the_relay_was_restarted() -> None:
    async with running_relay() as first:
        port = first.port
        async with listening(first) as listener:
            changes = Changes(listener)
            await listener.wait_online()
            await first.stop()
            await changes.until(False)
            async with running_relay(port=port) as second:
                await changes.until(True)
                assert second.service.gateway.listeners.count("ns1/hc1") == 1


async def test_asked_to_it_tries_at_once_however_long_it_would_wait(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = iter([0.0, 3_600.0, 3_600.0])
    monkeypatch.setattr("hybridge.listener.Backoff.next_delay", lambda *_: next(waits))
    text = f"Endpoint=sb://localhost:{unused_tcp_port}/;SharedAccessKeyName=r;SharedAccessKey=k"
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        Listener(f"{text};EntityPath=hc1") as listener,
    ):
        changes = Changes(listener)
        await changes.until(False)

        listener.retry()

        await changes.until(False)
    assert isinstance(listener.last_error, Unreachable)


async def test_a_token_is_renewed_before_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    renewals: asyncio.Queue[str] = asyncio.Queue()
    settings = RelaySettings(drain_seconds=0.0, token_grace_seconds=1.0)
    async with running_relay(settings=settings) as relay:
        gateway = relay.service.gateway
        renewed = gateway._renewed

        def renew(visit: Visit, token: str) -> Grant:
            renewals.put_nowait(token)
            return renewed(visit, token)

        monkeypatch.setattr(gateway, "_renewed", renew)
        async with listening(relay, lifetime=2.0) as listener:
            await listener.wait_online()
            changes = Changes(listener)
            tokens = {await renewals.get() for _ in range(2)}

            assert len(tokens) == 2
            assert listener.is_online
            assert changes._seen.empty()


@pytest.mark.clause(90)
async def test_accepted_connections_outlive_the_listener(relay: RunningRelay) -> None:
    async with listening(relay) as listener, asyncio.TaskGroup() as tasks:
        await listener.wait_online()
        sending = tasks.create_task(sender(relay).open())
        connection = await anext(aiter(listener))
        async with ends(connection, sending) as (near, far):
            await listener.stop_accepting()
            assert [each async for each in listener] == []
            await far.send(b"still here")
            assert await near.receive() == b"still here"


async def test_an_address_outside_the_namespace_is_not_followed(relay: RunningRelay) -> None:
    """A relay that lies: its own words, spoken through a listener's real control channel."""
    async with listening(relay) as listener:
        await listener.wait_online()
        [channel] = relay.service.gateway.listeners.channels("ns1/hc1")
        accept = {
            "address": "wss://evil.example.test/$hc/hc1?sb-hc-action=accept&sb-hc-id=1",
            "id": "1",
            "connectHeaders": {},
        }
        channel._protocol.send_text(json.dumps({"accept": accept}).encode())  # type: ignore[attr-defined]
        channel._flush()  # type: ignore[attr-defined]
        connection = await anext(aiter(listener))

        for answer in (connection.accept, lambda: connection.reject(400, "no")):
            with pytest.raises(MalformedAddress, match="evil"):
                await answer()


async def test_only_the_namespaces_own_name_is_redirected_by_connect_to() -> None:
    from hybridge.transport.dialer import Dialer

    dialer = Dialer(HOST, connect_to=("127.0.0.1", 8443))

    assert dialer.peer(HOST.upper(), 443) == ("127.0.0.1", 8443)
    assert dialer.peer("g1.servicebus.windows.net", 443) == ("g1.servicebus.windows.net", 443)


async def test_commands_that_are_none_are_ignored(relay: RunningRelay) -> None:
    async with listening(relay) as listener, asyncio.TaskGroup() as tasks:
        await listener.wait_online()
        [channel] = relay.service.gateway.listeners.channels("ns1/hc1")
        for text in ("no json", '{"unknown":{}}', '{"accept":{}}', '{"request":{"address":"x"}}'):
            channel._protocol.send_text(text.encode())  # type: ignore[attr-defined]
        channel._protocol.send_binary(b"stray")  # type: ignore[attr-defined]
        channel._flush()  # type: ignore[attr-defined]
        sending = tasks.create_task(sender(relay).open())
        connection = await anext(aiter(listener))
        async with ends(connection, sending):
            assert listener.is_online


async def test_a_sender_that_left_cannot_be_accepted(relay: RunningRelay) -> None:
    peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
    async with listening(relay) as listener:
        await listener.wait_online()
        sender = await peers.start_sender("/$hc/hc1", ("ServiceBusAuthorization", relay.token()))
        connection = await anext(aiter(listener))
        sender.reset()
        await until(lambda: relay.service.gateway.websockets.waiting_count == 0)
        with pytest.raises(HandshakeRefused) as caught:
            await connection.accept()
    assert caught.value.status == 403


async def test_a_deadline_of_the_listener_is_kept(unused_tcp_port_factory: object) -> None:
    """A relay that takes the connection and says nothing."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Listener(
            "Endpoint=sb://localhost/;SharedAccessKeyName=a;SharedAccessKey=b;EntityPath=c",
            connect_to=("127.0.0.1", port),
            timing=Timing(open_timeout_seconds=0.05),
        ) as listener:
            with pytest.raises(Unreachable, match="in time"):
                await listener.wait_online()


async def test_a_relay_that_says_nothing_is_not_waited_for_at_the_end() -> None:
    heard = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set()
        await reader.read()
        writer.close()

    async with (
        await asyncio.start_server(silent, "127.0.0.1", 0) as server,
        asyncio.timeout(DEADLINE_SECONDS / 4),
        Listener(
            "Endpoint=sb://localhost/;SharedAccessKeyName=a;SharedAccessKey=b;EntityPath=c",
            connect_to=server.sockets[0].getsockname()[:2],
        ) as listener,
    ):
        await heard.wait()
        await listener.stop_accepting()
        assert [each async for each in listener] == []


async def test_a_relay_that_does_not_answer_the_close_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hybridge.listener.LEAVE_SECONDS", 0.05)
    released = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handshake = ServerProtocol()
        handshake.receive_data(await reader.readuntil(b"\r\n\r\n"))
        [request] = handshake.events_received()
        assert isinstance(request, Request)
        handshake.send_response(handshake.accept(request))
        writer.writelines(handshake.data_to_send())
        await released.wait()
        writer.transport.abort()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cert, key, ca = certificate()
    context.load_cert_chain(cert, key)
    async with (
        asyncio.timeout(DEADLINE_SECONDS / 4),
        await asyncio.start_server(deaf, "127.0.0.1", 0, ssl=context) as server,
        Listener(
            f"Endpoint=sb://{HOST}/;SharedAccessKeyName=a;SharedAccessKey=b;EntityPath=c",
            ca=ca,
            connect_to=server.sockets[0].getsockname()[:2],
        ) as listener,
    ):
        await listener.wait_online()
        await listener.stop_accepting()
        assert not listener.is_online
        released.set()


async def test_an_error_of_the_block_comes_out_as_it_is() -> None:
    async with running_relay() as relay:
        with pytest.raises(AuthorizationFailed):
            async with listening(relay, key_name="sendrule") as listener:
                await listener.wait_online()
