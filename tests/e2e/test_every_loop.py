"""Relay, listener and sender on every kind of event loop, also on one that cannot watch sockets."""

from __future__ import annotations

import asyncio

import pytest

from hybridge import Listener, connect
from hybridge.protocol.errors import ConnectionLost, HandshakeRefused
from hybridge.transport.listening import open_sockets
from hybridge.transport.loop_stream import LoopStream
from hybridge.transport.pump import pump
from hybridge.transport.stream import RelayedStream
from hybridge.transport.tcp import dial_tcp, open_tcp
from hybridge.transport.tls_stream import TlsStream
from hybridge.transport.websocket import WebSocketStream
from tests.support.loops import UnwatchingLoop, on_every_loop
from tests.support.relay import RunningRelay, running_relay

BULK = bytes(range(256)) * 32_768
"""8 MiB."""


def listener_at(relay: RunningRelay) -> Listener:
    return Listener(
        relay.connection_string(key_name="listenrule"), ca=relay.ca, connect_to=relay.connect_to
    )


def sender_at(relay: RunningRelay) -> connect:
    return connect(relay.connection_string(), ca=relay.ca, connect_to=relay.connect_to)


async def joined(relay: RunningRelay, listener: Listener) -> tuple[RelayedStream, WebSocketStream]:
    """A sender's and a listener's end of one connection."""
    async with asyncio.TaskGroup() as tasks:
        connecting = tasks.create_task(_open(relay))
        connection = await anext(listener)
        await connection.prepare()
        return await connection.accept(), await connecting


async def _open(relay: RunningRelay) -> WebSocketStream:
    return await sender_at(relay)


async def receive_all(stream: WebSocketStream) -> bytes:
    received = bytearray()
    while data := await stream.receive():
        received += data
    return bytes(received)


@on_every_loop
async def test_a_late_answer_arrives_whole_after_a_half_close() -> None:
    async with running_relay() as relay, listener_at(relay) as listener:
        await listener.wait_online()
        far, near = await joined(relay, listener)
        if isinstance(asyncio.get_running_loop(), UnwatchingLoop):
            assert isinstance(near._wire, TlsStream)
            assert isinstance(near._wire._wire, LoopStream)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(near.send(b"the question"))
            assert await far.receive() == b"the question"
            tasks.create_task(near.send_eof())
            assert await far.receive() == b""
            tasks.create_task(far.send(BULK))
            received = bytearray()
            while len(received) < len(BULK):
                received += await near.receive()
            tasks.create_task(far.send_eof())
            assert await near.receive() == b""
        assert received == BULK
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(near.close())
            tasks.create_task(far.close())


@on_every_loop
async def test_an_abort_is_no_end() -> None:
    async with running_relay() as relay, listener_at(relay) as listener:
        await listener.wait_online()
        far, near = await joined(relay, listener)
        await near.send(b"half of it")
        assert await far.receive() == b"half of it"

        near.abort()

        with pytest.raises(ConnectionLost):
            await far.receive()
        far.abort()


@on_every_loop
async def test_a_slow_reader_is_slowed_and_gets_every_byte() -> None:
    async with running_relay() as relay, listener_at(relay) as listener:
        await listener.wait_online()
        far, near = await joined(relay, listener)
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(near.send(BULK * 4))
            first = await far.receive()
            for _ in range(2_000):
                await asyncio.sleep(0)
            assert not sending.done()
            received = bytearray(first)
            while len(received) < 4 * len(BULK):
                received += await far.receive()
        assert received == BULK * 4
        near.abort()
        far.abort()


@on_every_loop
async def test_a_rejected_sender_hears_why() -> None:
    async with running_relay() as relay, listener_at(relay) as listener:
        await listener.wait_online()
        async with asyncio.TaskGroup() as tasks:
            refused = tasks.create_task(_refusal(relay))
            await (await anext(listener)).reject(502, "The target db:5432 refused the connection.")
            answer = await refused

    assert answer.status == 502
    assert "The target db:5432 refused the connection." in str(answer)


async def _refusal(relay: RunningRelay) -> HandshakeRefused:
    with pytest.raises(HandshakeRefused) as caught:
        await sender_at(relay)
    return caught.value


@on_every_loop
async def test_tcp_at_both_ends_is_carried_through_the_relay() -> None:
    sockets = open_sockets("127.0.0.1", 0, flag="--port")
    loop = asyncio.get_running_loop()
    async with running_relay() as relay, listener_at(relay) as listener:
        await listener.wait_online()
        far, near = await joined(relay, listener)
        app = await dial_tcp("127.0.0.1", sockets[0].getsockname()[1])
        local = await open_tcp((await loop.sock_accept(sockets[0]))[0])
        to_target = await dial_tcp("127.0.0.1", sockets[0].getsockname()[1])
        target = await open_tcp((await loop.sock_accept(sockets[0]))[0])
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pump(local, near))
            tasks.create_task(pump(far, to_target))
            tasks.create_task(app.send(BULK))
            received = bytearray()
            while len(received) < len(BULK):
                received += await target.receive()
            await app.send_eof()
            assert await target.receive() == b""
            await target.send(b"late answer")
            await target.send_eof()
            assert await app.receive() == b"late answer"
            assert await app.receive() == b""
        assert received == BULK
        async with asyncio.TaskGroup() as tasks:
            for stream in (app, local, near, far, to_target, target):
                tasks.create_task(stream.close())
    sockets[0].close()


@on_every_loop
async def test_plain_http_at_the_tls_port_is_told_so() -> None:
    async with running_relay() as relay:
        stream = await dial_tcp("127.0.0.1", relay.port)
        await stream.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await stream.receive()
        assert answer.startswith(b"HTTP/1.1 400 ")
        await stream.close()
