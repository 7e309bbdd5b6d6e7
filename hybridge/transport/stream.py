"""The byte-stream interface: what the pump, the agent and the client see of TCP and WebSocket.

A stream is driven in one of two ways, and the first use decides:

- *pushed*: `attach` a `Receiver`, and it is called as things happen. Nothing is awaited between a
  read and the write it leads to, so one read buffer serves an event loop. This is the hot path.
- *awaited*: `receive`, `send`, `send_eof`. For tests, tools and applications.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from types import TracebackType

    from hybridge.protocol.errors import RelayError

FRAME_HEADROOM_BYTES = 14
"""Room for the header of a WebSocket frame: what `WebSocketStream.write` needs before the data."""

HEADROOM_BYTES = FRAME_HEADROOM_BYTES + 10
"""Writable bytes in front of the data that a `Receiver` is given: room for the header of a
WebSocket frame, and for a multiplexer's before it (8), rounded up."""

MAX_INBOX_BYTES = 262_144
"""Most bytes that an awaited stream holds for its reader before it stops reading the socket."""


class Receiver(Protocol):
    """Is told what happens on a stream, while it is not paused.

    After `ended` no data follows, but `drained` or `broken` may; after `broken` nothing does.
    """

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        """Bytes arrived: ``buffer[start:end]``, valid until this call returns.

        The `HEADROOM_BYTES` before ``start`` may be overwritten, and so may the data itself.
        """

    def ended(self) -> None:
        """The peer has finished sending: all that it sent was delivered. It may still read."""

    def broken(self, error: RelayError) -> None:
        """The stream is gone: what was delivered may be incomplete. Nothing more can be written."""

    def drained(self) -> None:
        """All that was held back has been written: more may be sent."""


class Stream:
    """A connection that carries bytes both ways, each way ending on its own.

    Subclasses (`Wire`, `WebSocketStream`) give the pushed side; the awaited side stands on it.
    """

    def __init__(self) -> None:
        self._inbox: _Inbox | None = None

    # --- pushed -------------------------------------------------------------------------------

    def attach(self, receiver: Receiver) -> None:
        """Start reading, and tell ``receiver`` what happens. Once only."""
        raise AssertionError("a subclass implements this")

    def write(self, buffer: memoryview, start: int, end: int) -> bool:
        """Send ``buffer[start:end]``; what the socket does not take at once is copied and held.

        The `HEADROOM_BYTES` before ``start`` may be overwritten. After an error this does nothing,
        and `Receiver.broken` tells.

        Returns:
            Whether more may be sent now, which is ``not is_blocked``. Otherwise stop feeding until
            `Receiver.drained`.
        """
        raise AssertionError("a subclass implements this")

    @property
    def is_blocked(self) -> bool:
        """Whether bytes are held back because the peer does not take them."""
        raise AssertionError("a subclass implements this")

    def write_eof(self) -> None:
        """Finish sending, after what is held. The other direction goes on."""
        raise AssertionError("a subclass implements this")

    def pause(self) -> None:
        """Stop reading: the peer is slowed down by its own full buffers."""
        raise AssertionError("a subclass implements this")

    def resume(self) -> None:
        """Read again."""
        raise AssertionError("a subclass implements this")

    def abort(self) -> None:
        """Break the connection at once, so that the peer sees an error and no orderly end."""
        raise AssertionError("a subclass implements this")

    async def close(self) -> None:
        """End the connection in order: what is held is written first. Returns when it is gone."""
        raise AssertionError("a subclass implements this")

    # --- awaited ------------------------------------------------------------------------------

    def _inbox_now(self) -> _Inbox:
        if self._inbox is None:
            self._inbox = _Inbox(self)
            self.attach(self._inbox)
        return self._inbox

    async def receive(self) -> bytes:
        """Wait for bytes; ``b""`` once the peer has finished sending.

        Raises:
            ConnectionLost: The connection broke. All that had arrived was given before.
        """
        return await self._inbox_now().take()

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``; returns when at most kernel buffers hold it.

        Raises:
            ConnectionLost: The connection broke; how much arrived is unknown.
        """
        inbox = self._inbox_now()
        inbox.check()
        view = memoryview(data).cast("B")
        step = 65_536
        room = memoryview(bytearray(HEADROOM_BYTES + min(step, len(view))))
        for offset in range(0, len(view), step):
            piece = view[offset : offset + step]
            room[HEADROOM_BYTES : HEADROOM_BYTES + len(piece)] = piece
            self.write(room, HEADROOM_BYTES, HEADROOM_BYTES + len(piece))
            await inbox.wait_writable()

    async def send_eof(self) -> None:
        """Finish sending; `receive` goes on working."""
        inbox = self._inbox_now()
        inbox.check()
        self.write_eof()
        await inbox.wait_writable()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self.close()
        else:
            self.abort()


class RelayedStream(Stream):
    """A connection through a hybrid connection, as its listener and its sender get it."""

    subprotocol: str | None = None
    """The WebSocket sub-protocol that both agreed on, or None."""


class Wire(Stream):
    """A TCP or TLS connection: what a WebSocket stands on, and what agent and client relay.

    Its receiver may be exchanged: `attach` again. Subclasses watch a socket themselves
    (`SocketStream`), or leave that to a loop that can do no other (`LoopStream`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        """The event loop that drives it."""

    @property
    def tls_version(self) -> str | None:
        """What protects it, ``TLSv1.2`` or ``TLSv1.3``; None for plain TCP."""
        return None

    def send_now(self, data: bytes) -> bool:
        """Send ``data``; what the socket does not take at once is held, without a copy.

        Returns:
            Whether more may be sent now, which is ``not is_blocked``.
        """
        raise AssertionError("a subclass implements this")

    def send_all(self, pieces: Iterable[bytes]) -> bool:
        """Send what belongs together, in one write where that is cheaper; see `send_now`."""
        for piece in pieces:
            self.send_now(piece)
        return not self.is_blocked

    @property
    def held_bytes(self) -> int:
        """How many bytes are held back because the peer does not take them."""
        raise AssertionError("a subclass implements this")

    @property
    def is_open(self) -> bool:
        """Whether the connection is still ours: neither closed nor told to be broken."""
        raise AssertionError("a subclass implements this")

    @property
    def unreceived_bytes(self) -> int:
        """How many bytes, held here or sent, the peer's machine has not got yet, where known."""
        return self.held_bytes

    @property
    def takes_no_more(self) -> bool:
        """Whether a write has failed: what is sent now goes nowhere. It may still be read."""
        return not self.is_open

    def has_input(self) -> bool:
        """Whether bytes, an end or an error wait while nothing is being read."""
        raise AssertionError("a subclass implements this")

    async def close(self, *, stall_seconds: float = 600.0) -> None:
        """Write what is held, end in order, and wait shortly for the peer's own end.

        Where that is cancelled before all was written, the connection breaks instead.

        Args:
            stall_seconds: A peer that takes nothing for this long is given up.
        """
        raise AssertionError("a subclass implements this")


def with_headroom(data: bytes | memoryview) -> memoryview:
    """Copy bytes to behind `HEADROOM_BYTES` that may be overwritten, as `Stream.write` wants it."""
    room = memoryview(bytearray(HEADROOM_BYTES + len(data)))
    room[HEADROOM_BYTES:] = data
    return room


def replay(receiver: Receiver, data: bytes) -> None:
    """Give a receiver bytes that were read before."""
    if data:
        room = with_headroom(data)
        receiver.data(room, HEADROOM_BYTES, len(room))


class _Inbox:
    """Turns pushed events into awaitable ones; holds `MAX_INBOX_BYTES` and one read at most."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._chunks: list[bytes] = []
        self._size = 0
        self._paused = False
        self._ended = False
        self._error: RelayError | None = None
        self._changed = asyncio.Event()

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        self._chunks.append(bytes(buffer[start:end]))
        self._size += end - start
        if self._size >= MAX_INBOX_BYTES and not self._paused:
            self._paused = True
            self._stream.pause()
        self._changed.set()

    def ended(self) -> None:
        self._ended = True
        self._changed.set()

    def broken(self, error: RelayError) -> None:
        self._error = error
        self._changed.set()

    def drained(self) -> None:
        self._changed.set()

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    async def take(self) -> bytes:
        while not self._chunks:
            if self._ended:
                return b""
            if self._error is not None:
                raise self._error
            self._changed.clear()
            await self._changed.wait()
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        if self._paused:
            self._paused = False
            self._stream.resume()
        return data

    async def wait_writable(self) -> None:
        while self._stream.is_blocked and self._error is None:
            self._changed.clear()
            await self._changed.wait()
        self.check()
