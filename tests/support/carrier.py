"""A rendezvous without a relay: two joined streams that a test can hold up and cut."""

from __future__ import annotations

import asyncio

from hybridge.protocol.errors import ConnectionLost
from hybridge.transport.stream import HEADROOM_BYTES, Receiver, RelayedStream


class Carrier(RelayedStream):
    """One of two joined ends. Bytes arrive at the peer at the next turn of the event loop.

    Args:
        room: How many bytes may be on their way before the end is blocked.
        is_shared: Whether nobody may stop reading it.
    """

    def __init__(self, *, room: int = 262_144, is_shared: bool = True) -> None:
        super().__init__()
        self._is_shared = is_shared
        self._is_paused = False
        self.peer: Carrier = self
        self.room = room
        self.is_stuck = False
        """Whether nothing arrives: the network holds it up."""
        self.is_aborted = False
        self.is_closed = False
        self._receiver: Receiver | None = None
        self._on_the_way = bytearray()
        self._eof = False
        self._was_blocked = False
        self.messages = 0
        """How many messages this end has sent."""
        self._loop = asyncio.get_running_loop()

    def attach(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._is_paused = False
        self._loop.call_soon(self.peer._arrive)

    def write(self, buffer: memoryview, start: int, end: int) -> bool:
        assert start >= 14, "a WebSocket's header needs room"
        self.messages += 1
        self.write_bytes(bytes(buffer[start:end]))
        buffer[start - 14 : end] = b"\xee" * (end - start + 14)
        return not self.is_blocked

    def write_bytes(self, data: bytes) -> None:
        """Send what the test made up."""
        if self.is_aborted:
            return
        self._on_the_way += data
        self._was_blocked = self.is_blocked
        self._loop.call_soon(self._arrive)

    @property
    def is_blocked(self) -> bool:
        return len(self._on_the_way) > self.room

    def unstick(self) -> None:
        self.is_stuck = False
        self._arrive()

    def _arrive(self) -> None:
        receiver = self.peer._receiver
        if self.is_stuck or receiver is None or self.is_aborted or self.peer._is_paused:
            return
        data, self._on_the_way = bytes(self._on_the_way), bytearray()
        if data:
            room = memoryview(bytearray(HEADROOM_BYTES + len(data)))
            room[HEADROOM_BYTES:] = data
            receiver.data(room, HEADROOM_BYTES, HEADROOM_BYTES + len(data))
            room[:] = b"\xee" * len(room)
        if self._eof:
            self._eof = False
            receiver.ended()
        if self._was_blocked and self._receiver is not None:
            self._was_blocked = False
            self._receiver.drained()

    def write_eof(self) -> None:
        self._eof = True
        self._loop.call_soon(self._arrive)

    def pause(self) -> None:
        if self._is_shared:
            raise AssertionError("a rendezvous that is shared is read all the time")
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False
        self._loop.call_soon(self.peer._arrive)

    def abort(self) -> None:
        if not (self.is_aborted or self.is_closed):
            self.is_aborted = True
            receiver = self.peer._receiver
            if receiver is not None:
                self._loop.call_soon(receiver.broken, ConnectionLost("the connection broke"))

    async def close(self) -> None:
        self.is_closed = True
        self.write_eof()


def joined(*, room: int = 262_144, is_shared: bool = True) -> tuple[Carrier, Carrier]:
    """Give both ends of a rendezvous."""
    near, far = (Carrier(room=room, is_shared=is_shared) for _ in range(2))
    near.peer, far.peer = far, near
    return near, far
