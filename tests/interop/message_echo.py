"""A listener that echoes WebSocket messages, whole and with their type; strict about frames.

The control channel is a raw peer's; each connection is the library websockets', which knows the
protocol for itself: it checks UTF-8, fragments and close codes, which the relay passes on unseen.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.interop.relay_on_443 import PORT, InteropRelay
from tests.support.raw import PING, PONG, TEXT, RawPeer, frame


@asynccontextmanager
async def message_echo(relay: InteropRelay, path: str) -> AsyncIterator[None]:
    """Listen on a hybrid connection for a block."""
    context = ssl.create_default_context(cafile=str(relay.ca))
    async with (
        await relay.peers.listener(path, relay.token_for(path)) as control,
        asyncio.TaskGroup() as tasks,
    ):
        accepting = tasks.create_task(_accept(control, context, tasks), name="accept")
        try:
            yield
        finally:
            accepting.cancel()


async def _accept(control: RawPeer, context: ssl.SSLContext, tasks: asyncio.TaskGroup) -> None:
    while True:
        each = await control.frame()
        if each.opcode == PING:
            await control.send(frame(PONG, each.payload))
        elif each.opcode == TEXT:
            address = json.loads(each.payload)["accept"]["address"]
            tasks.create_task(_echo(address, context), name="echo")


async def _echo(address: str, context: ssl.SSLContext) -> None:
    async with connect(
        address,
        ssl=context,
        host="127.0.0.1",
        port=PORT,
        compression=None,
        max_size=None,
        ping_interval=None,
        proxy=None,
    ) as connection:
        try:
            async for message in connection:
                await connection.send(message)
        except ConnectionClosed:
            return  # Closed with an error code, as a third of the suite's cases are.
