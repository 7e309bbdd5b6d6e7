"""A raw TLS peer, written without the project's own code: it can misbehave, and it has no opinion.

It dials with SNI and sends exactly the bytes it is told to.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import os
import socket
import ssl
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
DEADLINE_SECONDS = 40.0
"""How long a busy machine may take for what follows at once."""


@dataclass(frozen=True)
class Answer:
    """An HTTP response head (and body, where it has a Content-Length)."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass(frozen=True)
class Frame:
    """One WebSocket frame as it stood on the wire."""

    opcode: int
    payload: bytes
    fin: bool = True
    masked: bool = False
    rsv: int = 0

    @property
    def close(self) -> tuple[int | None, str]:
        if not self.payload:
            return None, ""
        return struct.unpack("!H", self.payload[:2])[0], self.payload[2:].decode()


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bytes | None = b"\x11\x22\x33\x44"
) -> bytes:
    """Write a frame; ``mask=None`` leaves it unmasked, which a client must not do."""
    first = (0x80 if fin else 0) | opcode
    bit = 0 if mask is None else 0x80
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, bit | size)
    elif size < 65_536:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    if mask is None:
        return head + payload
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    masked = (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big") if size else b""
    return head + mask + masked


def close_frame(code: int | None = 1000, reason: str = "") -> bytes:
    payload = b"" if code is None else struct.pack("!H", code) + reason.encode()
    return frame(CLOSE, payload)


def upgrade_request(
    target: str, *, host: str, headers: list[tuple[str, str]] | None = None, key: str | None = None
) -> bytes:
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key or base64.b64encode(os.urandom(16)).decode()}",
        "Sec-WebSocket-Version: 13",
        *(f"{name}: {value}" for name, value in headers or []),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@functools.cache
def _trusting(ca: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca))


class RawPeer:
    """A TLS connection to the relay. Use as ``async with``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def dial(
        cls, port: int, *, ca: Path, name: str, context: ssl.SSLContext | None = None
    ) -> Self:
        if context is None:
            context = _trusting(ca)
        async with asyncio.timeout(DEADLINE_SECONDS):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname=name, limit=1 << 20
            )
        return cls(reader, writer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def receive_exactly(self, size: int) -> bytes:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.reader.readexactly(size)

    async def answer(self, *, has_body: bool = True) -> Answer:
        """Read one HTTP response, its body by its length or its chunks; HEAD has none."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            head = await self.reader.readuntil(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1")[:-4].split("\r\n")
        _, status, reason = (status_line + " ").split(" ", 2)
        headers = [(k, v.strip()) for k, _, v in (line.partition(":") for line in lines)]
        answer = Answer(int(status), reason.rstrip(" "), headers)
        if not has_body:
            return answer
        if answer.all("Transfer-Encoding") == ["chunked"]:
            return replace(answer, body=await self.chunks())
        length = int(next(iter(answer.all("Content-Length")), "0"))
        return replace(answer, body=await self.receive_exactly(length) if length else b"")

    async def chunk(self) -> bytes:
        """Read one chunk; the last is empty."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            size = int((await self.reader.readuntil(b"\r\n"))[:-2], 16)
        data = await self.receive_exactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    async def chunks(self) -> bytes:
        """Read chunks up to the last."""
        whole = bytearray()
        while piece := await self.chunk():
            whole += piece
        return bytes(whole)

    async def frame(self) -> Frame:
        """Read one frame."""
        first, second = await self.receive_exactly(2)
        size = second & 0x7F
        if size == 126:
            size = struct.unpack("!H", await self.receive_exactly(2))[0]
        elif size == 127:
            size = struct.unpack("!Q", await self.receive_exactly(8))[0]
        if second & 0x80:
            await self.receive_exactly(4)
        payload = await self.receive_exactly(size) if size else b""
        return Frame(
            first & 0x0F, payload, bool(first & 0x80), bool(second & 0x80), (first & 0x70) >> 4
        )

    async def message(self) -> tuple[int, bytes]:
        """Read one data message; pings and pongs on the way are left out."""
        opcode, whole = 0, b""
        while True:
            each = await self.frame()
            if each.opcode in (PING, PONG):
                continue
            if each.opcode == CLOSE:
                raise AssertionError(f"a Close came instead of a message: {each.close}")
            opcode, whole = opcode or each.opcode, whole + each.payload
            if each.fin:
                return opcode, whole

    async def command(self) -> dict[str, object]:
        """Read one JSON command of a control channel."""
        opcode, payload = await self.message()
        assert opcode == TEXT
        document = json.loads(payload)
        assert isinstance(document, dict)
        return document

    async def close(self) -> tuple[int | None, str]:
        """Read on until a Close comes; give its code and reason."""
        while True:
            each = await self.frame()
            if each.opcode == CLOSE:
                return each.close

    async def ended(self) -> bool:
        """Wait for the end; True where it was an orderly one, False for a reset."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while await self.reader.read(65_536):
                    pass
        except (ConnectionError, ssl.SSLError):
            return False
        return True

    def reset(self) -> None:
        """Drop TCP with RST: no Close, no close_notify."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class RelayPeers:
    """Makes raw listeners and senders for one relay."""

    def __init__(self, port: int, *, ca: Path, host: str) -> None:
        self.port = port
        self.ca = ca
        self.host = host

    async def dial(self) -> RawPeer:
        return await RawPeer.dial(self.port, ca=self.ca, name=self.host)

    async def request(self, data: bytes) -> tuple[RawPeer, Answer]:
        """Send raw bytes on a new connection; give it, and the answer."""
        peer = await self.dial()
        await peer.send(data)
        return peer, await peer.answer()

    async def upgrade(
        self, target: str, *headers: tuple[str, str], host: str | None = None
    ) -> tuple[RawPeer, Answer]:
        """Do a WebSocket handshake; give the connection and the answer, whatever it is."""
        return await self.request(
            upgrade_request(target, host=host or self.host, headers=list(headers))
        )

    async def listener(self, path: str, token: str, *, listener_id: str | None = None) -> RawPeer:
        """Register a listener; its control channel is answered 101."""
        target = f"/$hc/{path}?sb-hc-action=listen"
        if listener_id is not None:
            target += f"&sb-hc-id={listener_id}"
        peer, answer = await self.upgrade(target, ("ServiceBusAuthorization", token))
        assert answer.status == 101, answer
        return peer

    async def start_sender(self, target: str, *headers: tuple[str, str]) -> RawPeer:
        """Send a sender's handshake; its answer is still to come."""
        peer = await self.dial()
        await peer.send(upgrade_request(target, host=self.host, headers=list(headers)))
        return peer

    async def visit(self, address: str, *headers: tuple[str, str]) -> tuple[RawPeer, Answer]:
        """Open a rendezvous address as a listener does."""
        parts = urlsplit(address)
        return await self.upgrade(f"{parts.path}?{parts.query}", *headers, host=parts.netloc)

    async def pair(
        self, listener: RawPeer, target: str, *headers: tuple[str, str]
    ) -> tuple[RawPeer, RawPeer]:
        """Join a new sender and a listener; give the sender's and the listener's connection."""
        sender = await self.start_sender(target, *headers)
        accept = (await listener.command())["accept"]
        assert isinstance(accept, dict)
        near, answer = await self.visit(accept["address"])
        assert answer.status == 101, answer
        assert (await sender.answer()).status == 101
        return sender, near
