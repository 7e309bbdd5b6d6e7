"""A dialling end of ours, and a raw peer at its other end that plays the relay."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hybridge.transport.stream import Wire
from hybridge.transport.tcp import dial_tcp
from hybridge.transport.timing import Timing
from hybridge.transport.websocket import WebSocketStream, open_websocket
from tests.support.raw import CLOSE, RawPeer, frame

URL = "wss://ns1.servicebus.windows.net/$hc/hc1?sb-hc-action=connect"


@asynccontextmanager
async def raw_pair() -> AsyncIterator[tuple[Wire, RawPeer]]:
    """A wire of ours, and a raw peer at its other end."""
    arrived: asyncio.Future[RawPeer] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set_result(RawPeer(reader, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20) as server:
        wire = await dial_tcp("127.0.0.1", server.sockets[0].getsockname()[1])
        async with await arrived as peer:
            yield wire, peer
            wire.abort()


def switching(request: bytes, *headers: str) -> bytes:
    """Answer 101 as a relay does."""
    found = re.search(rb"Sec-WebSocket-Key: (\S+)", request)
    assert found
    digest = hashlib.sha1(found[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()  # noqa: S324
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def request_of(peer: RawPeer) -> bytes:
    async with asyncio.timeout(20):
        return await peer.reader.readuntil(b"\r\n\r\n")


@asynccontextmanager
async def websocket_pair(
    *, behind: bytes = b"", timing: Timing | None = None
) -> AsyncIterator[tuple[WebSocketStream, RawPeer]]:
    """An open WebSocket; ``behind`` comes in one piece with the 101."""
    async with raw_pair() as (wire, peer), asyncio.TaskGroup() as tasks:
        opening = tasks.create_task(open_websocket(wire, URL, timing=timing))
        await peer.send(switching(await request_of(peer)) + behind)
        stream = await opening
        yield stream, peer
        stream.abort()


def say(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """Write a frame as a server does."""
    return frame(opcode, payload, fin=fin, mask=None)


def closing(code: int, reason: str = "") -> bytes:
    return say(CLOSE, code.to_bytes(2, "big") + reason.encode())
