"""A stream whose first bytes are a preamble: read those, then use what follows as a stream."""

from __future__ import annotations

import asyncio
from typing import Generic, Protocol, TypeVar

from hybridge.protocol.errors import RelayError
from hybridge.transport.stream import HEADROOM_BYTES, Receiver, Stream, replay, with_headroom


class Preamble(Protocol):
    """Reads a preamble, without I/O."""

    @property
    def is_complete(self) -> bool: ...

    def feed(self, data: bytes) -> int:
        """Take what arrived; give how many bytes of it belong to the preamble."""


Read = TypeVar("Read", bound=Preamble)


class PrefacedStream(Stream, Generic[Read]):
    """Reads a preamble from a stream, and is then what comes after it.

    What arrives behind the preamble is held, one read at most, until somebody attaches. Attributes:

        preamble: What reads it.

    Args:
        stream: Nobody has read from it. It belongs to this from now on.
        preamble: Decides where the preamble ends.
    """

    def __init__(self, stream: Stream, preamble: Read) -> None:
        super().__init__()
        self.preamble = preamble
        self._stream = stream
        self._receiver: Receiver | None = None
        self._is_paused = False
        self._rest = b""
        self._has_ended = False
        self._error: RelayError | None = None
        self._settled = asyncio.Event()

    async def read_preamble(self) -> None:
        """Return when the preamble is complete, or the peer has finished sending without it.

        A deadline is the caller's.

        Raises:
            ConnectionLost: The stream broke before.
        """
        self._stream.attach(self)
        await self._settled.wait()
        if self._error is not None and not self.preamble.is_complete:
            raise self._error

    def send_message(self, data: bytes) -> None:
        """Send a few bytes of a preamble, as one message where the stream has messages."""
        room = with_headroom(data)
        self._stream.write(room, HEADROOM_BYTES, len(room))

    # --- the stream that follows --------------------------------------------------------------

    def attach(self, receiver: Receiver) -> None:
        """Start reading what follows; see `Stream.attach`."""
        self._receiver = receiver
        self._is_paused = False
        rest, self._rest = self._rest, b""
        replay(receiver, rest)
        if self._has_ended:
            receiver.ended()
        if self._error is not None:
            receiver.broken(self._error)
        elif not self._is_paused:
            self._stream.resume()

    @property
    def is_blocked(self) -> bool:
        """Whether bytes are held back because the peer does not take them."""
        return self._stream.is_blocked

    def write(self, buffer: memoryview, start: int, end: int) -> bool:
        """Send ``buffer[start:end]``; see `Stream.write`."""
        return self._stream.write(buffer, start, end)

    def write_eof(self) -> None:
        """Finish sending. The other direction goes on."""
        self._stream.write_eof()

    def pause(self) -> None:
        """Stop reading."""
        self._is_paused = True
        self._stream.pause()

    def resume(self) -> None:
        """Read again."""
        self._is_paused = False
        self._stream.resume()

    def abort(self) -> None:
        """Break the connection at once."""
        self._stream.abort()

    async def close(self) -> None:
        """End the connection in order; see `Stream.close`."""
        await self._stream.close()

    # --- what the stream tells ----------------------------------------------------------------

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        """Take what arrived."""
        if self._receiver is not None:
            self._receiver.data(buffer, start, end)
            return
        came = bytes(buffer[start:end])
        if self.preamble.is_complete:
            self._rest += came  # Read at the same time.
        else:
            self._rest = came[self.preamble.feed(came) :]
            self._pause_if_complete()

    def _pause_if_complete(self) -> None:
        if self.preamble.is_complete:
            self._stream.pause()
            self._settled.set()

    def ended(self) -> None:
        """Hear that the peer has finished sending."""
        self._has_ended = True
        self._settled.set()
        if self._receiver is not None:
            self._receiver.ended()

    def broken(self, error: RelayError) -> None:
        """Hear that the stream is gone."""
        self._error = error
        self._settled.set()
        if self._receiver is not None:
            self._receiver.broken(error)

    def drained(self) -> None:
        """Hear that more may be sent."""
        if self._receiver is not None:
            self._receiver.drained()
