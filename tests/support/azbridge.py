"""azbridge's two ends as raw peers: they know its bytes, and none of our code for them."""

from __future__ import annotations

import asyncio
import socket
from typing import Self

from tests.support.meeting import CONNECT
from tests.support.raw import (
    BINARY,
    CLOSE,
    DEADLINE_SECONDS,
    PING,
    Frame,
    RawPeer,
    RelayPeers,
    frame,
)
from tests.support.relay import RunningRelay

Address = tuple[str, int]


async def connect_raw(relay: RunningRelay) -> RawPeer:
    """A sender through the relay, as soon as a listener is there; 101 has come."""
    peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
    token = ("ServiceBusAuthorization", relay.token())
    while True:
        sender = await peers.start_sender(CONNECT, token)
        answer = await sender.answer()
        if answer.status == 101:
            return sender
        assert answer.status == 404, answer
        sender.writer.transport.abort()


async def next_frame(peer: RawPeer) -> Frame:
    """The next frame that is no ping, as it stands on the wire."""
    while True:
        each = await peer.frame()
        if each.opcode != PING:
            return each


async def binary(peer: RawPeer) -> bytes:
    """The next message, which must be one whole binary frame."""
    each = await next_frame(peer)
    assert each.opcode == BINARY, each
    assert each.fin, each
    return each.payload


async def closed(peer: RawPeer) -> int | None:
    """The code of the Close that comes next, before any byte."""
    each = await next_frame(peer)
    assert each.opcode == CLOSE, each
    return each.close[0]


async def say(peer: RawPeer, *messages: bytes) -> None:
    """Send binary messages in one write."""
    await peer.send(b"".join(frame(BINARY, message) for message in messages))


class Datagrams:
    """A UDP socket on loopback."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    async def receive(self) -> tuple[bytes, Address]:
        """The next datagram, and where it came from."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await asyncio.get_running_loop().sock_recvfrom(self._socket, 65_536)

    async def data(self) -> bytes:
        """The next datagram."""
        return (await self.receive())[0]

    def send(self, data: bytes, to: Address) -> None:
        self._socket.sendto(data, to)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
