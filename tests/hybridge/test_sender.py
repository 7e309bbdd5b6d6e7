from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from hybridge import Sender, WebSocketStream, connect
from hybridge.protocol.errors import (
    ConnectionLost,
    HandshakeRefused,
    InvalidSetting,
    MalformedConnectionString,
    RelayError,
    Unreachable,
    UntrustedCertificate,
)
from hybridge.transport.timing import Timing
from tests.support.raw import BINARY, CLOSE, TEXT, RawPeer, RelayPeers, close_frame, frame
from tests.support.relay import (
    HOST,
    RunningRelay,
    hybrid_connection,
    namespace,
    running_relay,
)


@pytest.fixture
async def relay() -> AsyncIterator[RunningRelay]:
    connections = (
        hybrid_connection(),
        hybrid_connection("open", requires_client_authorization=False),
    )
    async with running_relay(namespace(*connections)) as running:
        yield running


@asynccontextmanager
async def joined(
    relay: RunningRelay, *, timing: Timing | None = None
) -> AsyncIterator[tuple[WebSocketStream, RawPeer]]:
    """Our sender, and a raw listener at the other end of its rendezvous."""
    peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
    control = await peers.listener("hc1", relay.token(key_name="listenrule"))
    async with control, asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(
            connect(
                relay.connection_string(), ca=relay.ca, connect_to=relay.connect_to, timing=timing
            ).open()
        )
        accept = (await control.command())["accept"]
        assert isinstance(accept, dict)
        peer, answer = await peers.visit(accept["address"])
        assert answer.status == 101
        stream = await sending
        async with peer:
            try:
                yield stream, peer
            finally:
                stream.abort()


async def test_path_query_headers_and_id_reach_the_listener(relay: RunningRelay) -> None:
    peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
    number = "0f3c0000-0000-4000-8000-000000000001"
    async with (
        await peers.listener("hc1", relay.token(key_name="listenrule")) as control,
        asyncio.TaskGroup() as tasks,
    ):
        opening = tasks.create_task(
            connect(
                relay.connection_string(),
                ca=relay.ca,
                connect_to=relay.connect_to,
                connection_id=number,
                headers=[("X-Who", "me")],
                suffix="my file",
                query="color=r%65d",
            ).open()
        )
        accept = (await control.command())["accept"]
        assert isinstance(accept, dict)
        peer, _ = await peers.visit(accept["address"])
        (await opening).abort()
        peer.reset()

    assert accept["id"].startswith(number)
    assert "/$hc/hc1/my%20file?color=r%65d&" in accept["address"]
    assert accept["connectHeaders"]["X-Who"] == "me"
    assert "ServiceBusAuthorization" not in accept["connectHeaders"]


async def test_messages_of_any_kind_and_size_are_one_stream_of_bytes(relay: RunningRelay) -> None:
    async with joined(relay) as (stream, peer):
        await peer.send(
            frame(TEXT, b"a")
            + frame(BINARY, b"")
            + frame(BINARY, b"b", fin=False)
            + frame(0, b"c" * 70_000)
            + close_frame(1000)
        )
        received = b""
        while data := await stream.receive():
            received += data
        assert received == b"ab" + b"c" * 70_000
        assert await stream.receive() == b""


@pytest.mark.parametrize("code", [1000, 1001, None])
async def test_a_clean_close_is_the_end(relay: RunningRelay, code: int | None) -> None:
    async with joined(relay) as (stream, peer):
        await peer.send(frame(BINARY, b"all") + close_frame(code))
        assert await stream.receive() == b"all"
        assert await stream.receive() == b""


async def break_by_code(peer: RawPeer) -> None:
    await peer.send(close_frame(1011, "out of order"))


async def break_by_reset(peer: RawPeer) -> None:
    peer.reset()


async def break_by_leaving(peer: RawPeer) -> None:
    peer.writer.close()


async def break_by_nonsense(peer: RawPeer) -> None:
    await peer.send(b"\xff\xff\xff\xff")


@pytest.mark.parametrize(
    "breaking", [break_by_code, break_by_reset, break_by_leaving, break_by_nonsense]
)
async def test_a_broken_end_looks_broken(
    relay: RunningRelay, breaking: Callable[[RawPeer], Awaitable[None]]
) -> None:
    async with joined(relay) as (stream, peer):
        await peer.send(frame(BINARY, b"part"))
        assert await stream.receive() == b"part"
        await breaking(peer)
        with pytest.raises(ConnectionLost):
            await stream.receive()
        with pytest.raises(ConnectionLost):
            await stream.send(b"more")
        with pytest.raises(ConnectionLost):
            await stream.send_eof()


async def test_leaving_the_block_closes_in_order_and_an_error_breaks(relay: RunningRelay) -> None:
    async with joined(relay) as (stream, peer):
        async with stream:
            await stream.send(b"x" * 200_000)
            await peer.send(close_frame(1000))
        got = b""
        while (each := await peer.frame()).opcode != CLOSE:
            got += each.payload
        assert (got, each.close) == (b"x" * 200_000, (1000, "Shutdown"))

    async with joined(relay) as (stream, peer):
        with pytest.raises(KeyError):
            async with stream:
                raise KeyError
        assert not await peer.ended()


async def test_an_anonymous_sender_needs_no_key(relay: RunningRelay) -> None:
    string = f"Endpoint=sb://{HOST}/;EntityPath="
    with pytest.raises(HandshakeRefused) as open_one:
        await connect(string + "open", ca=relay.ca, connect_to=relay.connect_to)
    with pytest.raises(HandshakeRefused) as protected:
        await connect(string + "hc1", ca=relay.ca, connect_to=relay.connect_to)

    assert (open_one.value.status, protected.value.status) == (404, 401)
    assert open_one.value.reason.startswith("There are no listeners connected for the endpoint.")
    assert "TrackingId:" in protected.value.reason


async def test_every_refusal_is_an_error_that_tells(
    relay: RunningRelay, unused_tcp_port: int
) -> None:
    string = relay.connection_string()

    async def refused(wanted: type[RelayError], **options: object) -> RelayError:
        with pytest.raises(wanted) as caught:
            await connect(string, **options)  # type: ignore[arg-type]
        assert str(caught.value)
        return caught.value

    await refused(UntrustedCertificate, connect_to=relay.connect_to)
    nobody = await refused(Unreachable, ca=relay.ca, connect_to=("127.0.0.1", unused_tcp_port))
    assert nobody.hint
    await refused(Unreachable, ca=relay.ca, connect_to=("no-such-host.invalid", 443))
    await refused(InvalidSetting, ca=relay.ca.parent / "missing.pem")


async def test_a_relay_that_says_nothing_is_given_up(relay: RunningRelay) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        sender = Sender(
            relay.connection_string(),
            ca=relay.ca,
            connect_to=server.sockets[0].getsockname(),
            timing=Timing(open_timeout_seconds=0.05),
        )
        with pytest.raises(Unreachable, match="in time"):
            await sender.connect()


async def test_what_is_no_relay_is_named_so(relay: RunningRelay) -> None:
    from tests.support.relay import certificate

    cert, key, ca = certificate()
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    answers = [b"220 smtp.example.test ready\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b""]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.pop(0))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        where = server.sockets[0].getsockname()[:2]
        for wanted in (Unreachable, HandshakeRefused, Unreachable):
            with pytest.raises(wanted):
                await connect(relay.connection_string(), ca=ca, connect_to=where)


@pytest.mark.parametrize(
    "text", ["", "nonsense", "Endpoint=sb://localhost/;SharedAccessKeyName=a;SharedAccessKey=b"]
)
def test_a_sender_needs_a_connection_string_with_a_path(text: str) -> None:
    with pytest.raises(MalformedConnectionString) as caught:
        connect(text)
    assert caught.value.hint


async def test_a_silent_relay_is_seen_by_its_missing_pongs(relay: RunningRelay) -> None:
    hasty = Timing(ping_interval_seconds=0.05, pong_timeout_seconds=0.05)
    async with joined(relay, timing=hasty) as (stream, _):
        # The relay hears us no more: its side of our connection stops being read.
        [pair] = relay.service.gateway.websockets.pairs
        pair.sender.wire.pause()
        with pytest.raises(ConnectionLost, match="ping"):
            await stream.receive()
