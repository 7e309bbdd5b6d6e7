"""The naive relay: what an afternoon with the high-level API of `websockets` gives.

    python -m benchmarks.naive relay CERTIFICATE PORT
    python -m benchmarks.naive agent CA PORT TARGET_PORT
    python -m benchmarks.naive client CA PORT LISTEN_PORT

The same three processes and the same TLS as Hybridge, a rendezvous for each connection; no tokens,
no logs, no half-close. A process prints ``ready`` when it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

LOOPBACK = "127.0.0.1"
READ_BYTES = 65_536


class Relay:
    """Joins what comes to ``/connect`` with what the agent sends to ``/accept/NUMBER``."""

    def __init__(self) -> None:
        self._agent: ServerConnection | None = None
        self._waiting: dict[str, asyncio.Future[ServerConnection]] = {}
        self._numbers = itertools.count()

    async def handle(self, websocket: ServerConnection) -> None:
        """Serve one WebSocket to its end."""
        path = websocket.request.path if websocket.request else ""
        if path == "/listen":
            self._agent = websocket
            await websocket.wait_closed()
        elif path == "/connect":
            await self._join(websocket)
        elif waiting := self._waiting.pop(path, None):
            waiting.set_result(websocket)
            await websocket.wait_closed()

    async def _join(self, sender: ServerConnection) -> None:
        if self._agent is None:
            return
        path = f"/accept/{next(self._numbers)}"
        self._waiting[path] = asyncio.get_running_loop().create_future()
        listener = self._waiting[path]
        await self._agent.send(path)
        accepted = await listener
        async with asyncio.TaskGroup() as group:
            group.create_task(_forward(sender, accepted))
            group.create_task(_forward(accepted, sender))


async def _forward(source: Connection, to: Connection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in source:
            await to.send(message)
    await to.close()


async def _carry(
    websocket: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Carry bytes both ways until one side ends."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_to_websocket(reader, websocket))
        group.create_task(_from_websocket(websocket, writer))


async def _to_websocket(reader: asyncio.StreamReader, websocket: Connection) -> None:
    with contextlib.suppress(ConnectionClosed, OSError):
        while data := await reader.read(READ_BYTES):
            await websocket.send(data)
    await websocket.close()


async def _from_websocket(websocket: Connection, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionClosed, OSError):
        async for message in websocket:
            writer.write(message if isinstance(message, bytes) else message.encode())
            await writer.drain()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _trusting(ca: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    return context


async def relay(certificate: str, port: str) -> None:
    """Serve for ever."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    handler = Relay().handle
    async with serve(handler, LOOPBACK, int(port), ssl=context, compression=None, backlog=1_024):
        await _ready()


async def agent(ca: str, port: str, target_port: str) -> None:
    """Accept all that the relay tells of, for ever."""
    context, address = _trusting(ca), f"wss://localhost:{port}"

    async def accept(path: str) -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            reader, writer = await asyncio.open_connection(LOOPBACK, int(target_port))
            async with connect(address + path, ssl=context, compression=None) as websocket:
                await _carry(websocket, reader, writer)

    async with (
        connect(f"{address}/listen", ssl=context, compression=None) as control,
        asyncio.TaskGroup() as group,
    ):
        print("ready", flush=True)
        async for message in control:
            group.create_task(accept(str(message)))


async def client(ca: str, port: str, listen_port: str) -> None:
    """Take local connections, for ever."""
    context, address = _trusting(ca), f"wss://localhost:{port}/connect"

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            async with connect(address, ssl=context, compression=None) as websocket:
                await _carry(websocket, reader, writer)

    async with await asyncio.start_server(take, LOOPBACK, int(listen_port), backlog=1_024):
        await _ready()


async def _ready() -> None:
    print("ready", flush=True)
    await asyncio.Event().wait()


ROLES: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
    "relay": relay,
    "agent": agent,
    "client": client,
}

if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(ROLES[sys.argv[1]](*sys.argv[2:]))
