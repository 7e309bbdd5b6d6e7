"""A stream without a socket: the test says what happens on it, and sees what was done to it."""

from __future__ import annotations

from hybridge.protocol.errors import ConnectionLost
from hybridge.transport.stream import HEADROOM_BYTES, Receiver, Stream


class ScriptedStream(Stream):
    """Does what a test says.

    Args:
        takes: How many bytes the peer takes before the stream is blocked; None for all.
    """

    def __init__(self, *, takes: int | None = None) -> None:
        super().__init__()
        self.sent = bytearray()
        self.is_reading = False
        self.is_aborted = False
        self.is_closed = False
        self.is_eof_sent = False
        self._takes = takes
        self._receiver: Receiver | None = None
        self._is_blocked = False

    # --- what the test says -------------------------------------------------------------------

    def arrive(self, data: bytes) -> None:
        assert self._receiver is not None
        room = memoryview(bytearray(HEADROOM_BYTES + len(data)))
        room[HEADROOM_BYTES:] = data
        self._receiver.data(room, HEADROOM_BYTES, HEADROOM_BYTES + len(data))
        # What the receiver keeps must be a copy: this is the process's one buffer.
        room[:] = b"\xee" * len(room)

    def end(self) -> None:
        assert self._receiver is not None
        self._receiver.ended()

    def break_off(self) -> None:
        assert self._receiver is not None
        self._receiver.broken(ConnectionLost("the connection broke"))

    def drain(self, *, takes: int | None = None) -> None:
        """Let the peer take what is held, and ``takes`` bytes more."""
        assert self._receiver is not None
        self._takes = takes
        self._is_blocked = False
        self._receiver.drained()

    # --- what is done to it -------------------------------------------------------------------

    def attach(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.is_reading = True

    def write(self, buffer: memoryview, start: int, end: int) -> bool:
        self.sent += buffer[start:end]
        buffer[start - HEADROOM_BYTES : end] = bytes(HEADROOM_BYTES + end - start)
        if self._takes is not None:
            self._takes -= end - start
            self._is_blocked = self._takes < 0
        return not self._is_blocked

    @property
    def is_blocked(self) -> bool:
        return self._is_blocked

    def write_eof(self) -> None:
        self.is_eof_sent = True

    def pause(self) -> None:
        self.is_reading = False

    def resume(self) -> None:
        self.is_reading = True

    def abort(self) -> None:
        self.is_aborted = True

    async def close(self) -> None:
        self.is_closed = True
