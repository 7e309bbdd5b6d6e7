"""Two ends of a TCP connection, one of them a stream, and what a stream tells."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from hybridge.protocol.errors import ConnectionLost, RelayError
from hybridge.transport.stream import HEADROOM_BYTES, Wire
from hybridge.transport.tcp import open_tcp
from tests.support.agent_ends import sockets_pair

BULK = bytes(range(256)) * 16_384
"""4 MiB: more than the kernel holds for a reader that does not read."""


@dataclass
class Ear:
    """Notes what a stream tells."""

    stream: Wire
    heard: bytearray = field(default_factory=bytearray)
    events: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    on_data: Callable[[], object] | None = None

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        assert start >= HEADROOM_BYTES
        buffer[start - HEADROOM_BYTES : start] = b"\xff" * HEADROOM_BYTES
        self.heard += buffer[start:end]
        buffer[start:end] = bytes(end - start)
        if self.on_data is not None:
            self.on_data()
        self.changed.set()

    def ended(self) -> None:
        self._note("ended")

    def broken(self, error: RelayError) -> None:
        assert isinstance(error, ConnectionLost)
        self._note("broken")

    def drained(self) -> None:
        self._note("drained")

    def _note(self, event: str) -> None:
        self.events.append(event)
        self.changed.set()

    async def until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self.changed.clear()
            await self.changed.wait()


async def streams() -> tuple[Wire, Wire]:
    near, far = sockets_pair()
    return await open_tcp(near), await open_tcp(far)


async def stream_and_socket() -> tuple[Wire, socket.socket]:
    near, far = sockets_pair()
    return await open_tcp(near), far


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def receive_all(stream: Wire) -> bytes:
    received = bytearray()
    while data := await stream.receive():
        received += data
    return bytes(received)


async def read_to_end(sock: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    received = bytearray()
    while data := await loop.sock_recv(sock, 262_144):
        received += data
    return bytes(received)


async def write_meets_reset(stream: Wire, leave: Callable[[], None]) -> None:
    """Let the peer leave with a reset, and the stream write before it hears of that.

    Both sockets become ready for the same look of the loop, and the one whose receiver writes comes
    first: the loop has seen the reset then, but the write takes the error, not the read to come.
    """
    other, other_far = await stream_and_socket()
    writer = Ear(other)
    writer.on_data = lambda: stream.send_now(b"more")
    other.attach(writer)
    # Loops begin to watch a socket when they look next.
    await asyncio.sleep(0.01)
    other_far.send(b"x")
    leave()
    await writer.until(lambda: bool(writer.heard))
    other.abort()
    other_far.close()


async def broken(stream: Wire) -> bool:
    try:
        await stream.receive()
    except ConnectionLost:
        return True
    return False
