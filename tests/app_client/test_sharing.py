"""The client's connections share rendezvous, also across a reload of its settings."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from app_client.client import Client
from app_client.settings import ClientSettings, Forward
from hybridge import Listener
from hybridge.program.lifetime import Lifetime
from hybridge.protocol import connection_string
from hybridge.protocol.errors import ConnectionLost
from hybridge.transport.stream import Stream
from hybridge.transport.tcp import dial_tcp
from tests.support.relay import RunningRelay, running_relay


async def echo(listener: Listener) -> None:
    async def serve(stream: Stream) -> None:
        with contextlib.suppress(ConnectionLost):
            while data := await stream.receive():
                await stream.send(data)
            await stream.close()

    async with asyncio.TaskGroup() as connections:
        async for connection in listener:
            connections.create_task(serve(await connection.accept()))


@contextlib.asynccontextmanager
async def echoing(relay: RunningRelay) -> AsyncIterator[None]:
    text = relay.connection_string(key_name="listenrule")
    waiting = Listener(text, ca=relay.ca, connect_to=relay.connect_to, is_multiplexing=True)
    async with waiting, asyncio.TaskGroup() as tasks:
        await waiting.wait_online()
        serving = tasks.create_task(echo(waiting))
        yield
        serving.cancel()


async def say(stream: Stream, text: bytes) -> None:
    await stream.send(text)
    assert await stream.receive() == text


async def finish(stream: Stream) -> None:
    await stream.send_eof()
    assert await stream.receive() == b""
    await stream.close()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("after", [True, False])
async def test_old_and_new_connections_go_on_over_a_reload(before: bool, after: bool) -> None:
    async with running_relay() as relay, echoing(relay), asyncio.TaskGroup() as tasks:
        forward = Forward(
            connection_string=connection_string.parse(relay.connection_string()),
            listen=("127.0.0.1", 0),
        )
        settings = ClientSettings(
            forwards=(forward,), ca=relay.ca, connect_to=relay.connect_to, is_multiplexing=before
        )
        opened: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        lifetime = Lifetime()
        client = Client(
            settings,
            max_connections=10,
            announce=lambda _, address: opened.put_nowait(address),
            load=lambda: replace(settings, is_multiplexing=after),
        )
        running = tasks.create_task(client.run(lifetime))
        address = await opened.get()
        old = await dial_tcp(*address)
        await say(old, b"before")

        assert lifetime.on_reload is not None
        lifetime.on_reload()
        new = await dial_tcp(*address)
        await say(new, b"after")
        await say(old, b"still here")
        for stream in (old, new):
            await finish(stream)
        lifetime.stop()
        await running
