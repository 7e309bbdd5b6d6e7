"""What Microsoft's Java library puts on the wire, by a raw peer.

The library, com.microsoft.azure:azure-relay, is not to be had from Maven Central, so this stands in
for it: the frames, headers and JSON of its source, and what it does not survive.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

from tests.interop.relay_on_443 import HOST, InteropRelay
from tests.support.raw import PING, PONG, TEXT, Answer, RawPeer, close_frame, frame

JETTY = [
    ("User-Agent", "Jetty/9.4.6.v20170531"),
    ("Accept-Encoding", "gzip"),
    ("Pragma", "no-cache"),
    ("Cache-Control", "no-cache"),
]
"""What Jetty adds to each handshake."""

MAX_FRAME_BYTES = 65_536
"""Jetty's policy: a larger frame ends the connection."""

MAX_TEXT_BYTES = 65_536
"""Of a whole command."""

_URI = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/?%\[\]]*")
"""The characters that ``java.net.URI`` takes."""


def listener_resource(path: str) -> str:
    """What its listener signs."""
    return f"sb://{HOST}/{path}"


def sender_resource() -> str:
    """What its client signs: the path is lost."""
    return f"sb://{HOST}"


def to_json(document: object) -> bytes:
    """JSON as org.json writes it: compact, and a slash after ``<`` only has a backslash."""
    return json.dumps(document, separators=(",", ":")).encode()


def check_address(address: object) -> str:
    """Check an address as its listener needs it: a URI, and no piece of the query has two ``=``."""
    assert isinstance(address, str)
    assert _URI.fullmatch(address), address
    parts = urlsplit(address)
    assert parts.scheme == "wss"
    for piece in filter(None, parts.query.split("&")):
        assert len(unquote(piece).split("=")) <= 2, piece
    return address


@dataclass
class JavaListener:
    """The library's HybridConnectionListener."""

    relay: InteropRelay
    path: str
    control: RawPeer = field(init=False, repr=False)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.control.__aexit__()

    async def open(self) -> None:
        """Open the control channel, with a fresh token."""
        token = self.relay.token(listener_resource(self.path))
        self.control, answer = await self.relay.peers.upgrade(
            f"/$hc/{self.path}?sb-hc-action=listen&sb-hc-id={uuid.uuid4()}",
            ("ServiceBusAuthorization", token),
            *JETTY,
        )
        assert answer.status == 101, answer

    async def command(self, name: str) -> dict[str, object]:
        """Wait for a command. Another top-level key, or a command over 64 KiB, is its end."""
        while (each := await self.control.frame()).opcode != TEXT:
            assert each.opcode == PING, each
            await self.control.send(frame(PONG, each.payload))
        assert each.fin
        assert len(each.payload) <= MAX_TEXT_BYTES
        document = json.loads(each.payload)
        assert list(document) == [name], document
        command = document[name]
        assert isinstance(command, dict)
        check_address(command["address"])
        return command

    async def accept(self) -> RawPeer:
        """Accept the next sender; everything that it reads of the message must be there."""
        accept = await self.command("accept")
        uuid.UUID(str(accept["id"])[:36])
        headers = accept["connectHeaders"]
        assert isinstance(headers, dict)
        assert all(isinstance(each, str) for each in headers.values())
        remote = accept["remoteEndpoint"]
        assert isinstance(remote, dict)
        assert isinstance(remote["address"], str)
        assert isinstance(remote["port"], int)
        peer, answer = await self.visit(str(accept["address"]))
        assert answer.status == 101, answer
        return peer

    async def visit(self, address: str) -> tuple[RawPeer, Answer]:
        """Open a rendezvous address: no token, no sub-protocol."""
        return await self.relay.peers.visit(address, *JETTY)

    async def send(self, document: object) -> None:
        """Send a command."""
        await self.control.send(frame(TEXT, to_json(document)))


async def connect(relay: InteropRelay, path: str) -> RawPeer:
    """Start HybridConnectionClient.createConnectionAsync; its answer is still to come."""
    return await relay.peers.start_sender(
        f"/$hc/{path}?sb-hc-action=connect&sb-hc-id={uuid.uuid4()}",
        ("ServiceBusAuthorization", relay.token(sender_resource())),
        *JETTY,
    )


async def close_and_drop(peer: RawPeer, reason: str = "") -> None:
    """closeAsync: a Close, and TCP is gone at once; nobody waits for the answer."""
    await peer.send(close_frame(1000, reason))
    peer.writer.transport.close()
