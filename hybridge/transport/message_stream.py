"""A WebSocket whose messages matter: relayed HTTP on a rendezvous (sections 7.2 to 7.5).

The rendezvous of a request carries a text message with JSON, and a binary message whose fragments
are the body as it comes. Neither side need know the length of a body, and a slow reader slows the
writer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from hybridge.protocol.errors import ConnectionLost, MalformedMessage, RelayError
from hybridge.protocol.frames import Opcode, header, mask_frame
from hybridge.protocol.messages import MAX_RENDEZVOUS_REQUEST_BYTES
from hybridge.protocol.payload_reader import MessageReader
from hybridge.transport.handshake import shake_hands
from hybridge.transport.stream import HEADROOM_BYTES, MAX_INBOX_BYTES, Receiver, Wire
from hybridge.transport.timing import Timing
from hybridge.transport.websocket import FRAME_PAYLOAD_BYTES, WebSocketStream

MAX_INBOX_PIECES = 4_096
"""Most pieces, joined where they may be, that wait to be read: empty messages have no bytes to
count."""

END_REASON = "NormalClosure"
"""Reason of our Close after a response, as Microsoft's libraries give it (section 7.5)."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a message."""

    data: bytes
    """Empty only where it is last."""

    is_text: bool

    is_last: bool
    """Whether the message is complete with it."""


async def open_message_stream(wire: Wire, url: str, *, timing: Timing) -> MessageStream:
    """Do the dialling side's handshake on an open stream. A deadline is the caller's.

    Raises:
        HandshakeRefused: See `hybridge.transport.handshake.shake_hands`.
        Unreachable: See there.
    """
    rest, _ = await shake_hands(wire, url)
    return MessageStream(_MessageSocket(wire, rest=rest, timing=timing))


class MessageStream:
    """The dialling end of a request's rendezvous: messages both ways, in pieces.

    A relay that closes has no more to say and hears no more: there is no half-close here.
    """

    def __init__(self, socket: _MessageSocket) -> None:
        self._socket = socket
        self._inbox = socket.inbox
        self._message_open = False
        socket.attach(socket.inbox)

    @property
    def is_gone(self) -> bool:
        """Whether the relay has closed, or the connection broke."""
        return self._inbox.error is not None

    def when_gone(self, callback: Callable[[], None]) -> None:
        """Call back as soon as the relay has closed or the connection broke."""
        self._inbox.on_gone = callback
        if self.is_gone:
            callback()

    async def receive(self) -> Piece:
        """Wait for a part of a message.

        Raises:
            ConnectionLost: The relay closed, or the connection broke. All that came was given.
        """
        return await self._inbox.take()

    async def receive_text(self) -> str:
        """Wait for a whole text message.

        Raises:
            ConnectionLost: See `receive`.
            MalformedMessage: A binary one came, one over `MAX_RENDEZVOUS_REQUEST_BYTES`, or what is
                no UTF-8.
        """
        whole = bytearray()
        while True:
            piece = await self.receive()
            whole += piece.data
            if not piece.is_text:
                raise MalformedMessage("a binary message came where a command is due")
            if len(whole) > MAX_RENDEZVOUS_REQUEST_BYTES:
                raise MalformedMessage(
                    f"the message is larger than {MAX_RENDEZVOUS_REQUEST_BYTES} bytes"
                )
            if piece.is_last:
                break
        try:
            return whole.decode()
        except UnicodeDecodeError:
            raise MalformedMessage("the message is not UTF-8") from None

    async def send_text(self, text: str) -> None:
        """Send a text message in one frame.

        Raises:
            ConnectionLost: The relay closed, or the connection broke.
        """
        await self._send(Opcode.TEXT, text.encode(), fin=True)

    async def send_fragment(self, data: bytes | memoryview, *, is_last: bool = False) -> None:
        """Send a part of a binary message; the first one begins it. Errors as `send_text`.

        Returns when at most kernel buffers hold it: waiting here is the backpressure.
        """
        opcode = Opcode.CONTINUATION if self._message_open else Opcode.BINARY
        self._message_open = not is_last
        await self._send(opcode, data, fin=is_last)

    async def _send(self, opcode: Opcode, data: bytes | memoryview, *, fin: bool) -> None:
        view = memoryview(data).cast("B")
        for offset in range(0, len(view) or 1, FRAME_PAYLOAD_BYTES):
            piece = view[offset : offset + FRAME_PAYLOAD_BYTES]
            is_last = offset + len(piece) == len(view)
            self._inbox.check()
            self._socket.write_frame(opcode, piece, fin=fin and is_last)
            opcode = Opcode.CONTINUATION
            await self._inbox.wait_writable()

    async def close(self) -> None:
        """Send Close 1000, wait shortly for the relay's, and end TLS and TCP.

        What still comes is dropped.
        """
        self._inbox.on_gone = None
        self._socket.end_with(END_REASON)
        await self._socket.close()

    def abort(self) -> None:
        """Drop TCP without a Close, so that the relay sees a broken connection."""
        self._inbox.broken(ConnectionLost("the request was given up"))
        self._socket.abort()


class _MessageSocket(WebSocketStream):
    """A `WebSocketStream` that keeps messages apart."""

    def __init__(self, wire: Wire, *, rest: bytes, timing: Timing) -> None:
        super().__init__(wire, rest=rest, timing=timing)
        self._frames: MessageReader = MessageReader()
        self.inbox = _MessageInbox(self)

    def _deliver(
        self, receiver: Receiver, buffer: memoryview, spans: list[tuple[int, int]]
    ) -> None:
        for each in self._frames.pieces:
            self.inbox.add(
                bytes(buffer[each.start : each.end]), is_text=each.is_text, is_last=each.is_last
            )

    def write_frame(self, opcode: Opcode, data: memoryview, *, fin: bool) -> None:
        if self._close_sent:
            return
        size = len(data)
        key = next(self._keys)
        if not size:
            self._wire.send_now(header(opcode, 0, fin=fin, mask_key=key))
            return
        room = memoryview(bytearray(HEADROOM_BYTES + size))
        room[HEADROOM_BYTES:] = data
        frame = mask_frame(
            room, HEADROOM_BYTES, HEADROOM_BYTES + size, mask_key=key, opcode=opcode, fin=fin
        )
        self._wire.send_now(frame)

    def end_with(self, reason: str) -> None:
        self._send_close(1000, reason)


class _MessageInbox:
    """Turns pushed pieces into awaited ones. Holds `MAX_INBOX_BYTES` and one read at most."""

    def __init__(self, socket: _MessageSocket) -> None:
        self._socket = socket
        self._pieces: deque[tuple[bytearray, bool, bool]] = deque()
        self._size = 0
        self._paused = False
        self._changed = asyncio.Event()
        self.error: RelayError | None = None
        self.on_gone: Callable[[], None] | None = None

    def add(self, data: bytes, *, is_text: bool, is_last: bool) -> None:
        self._size += len(data)
        if self._pieces and not self._pieces[-1][2]:
            # The same message goes on: many small frames become one piece.
            whole = self._pieces.pop()[0]
            whole += data
        else:
            whole = bytearray(data)
        self._pieces.append((whole, is_text, is_last))
        is_full = self._size >= MAX_INBOX_BYTES or len(self._pieces) >= MAX_INBOX_PIECES
        if is_full and not self._paused:
            self._paused = True
            self._socket.pause()
        self._changed.set()

    async def take(self) -> Piece:
        while not self._pieces:
            self.check()
            self._changed.clear()
            await self._changed.wait()
        data, is_text, is_last = self._pieces.popleft()
        self._size -= len(data)
        if self._paused and not self._pieces:
            self._paused = False
            self._socket.resume()
        return Piece(bytes(data), is_text, is_last)

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    async def wait_writable(self) -> None:
        while self._socket.is_blocked and self.error is None:
            self._changed.clear()
            await self._changed.wait()
        self.check()

    # --- what the socket tells ----------------------------------------------------------------

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        raise AssertionError("pieces come by `add`")

    def ended(self) -> None:
        self.broken(ConnectionLost("the relay closed the request: its sender has gone"))

    def broken(self, error: RelayError) -> None:
        if self.error is not None:
            return
        self.error = error
        self._changed.set()
        if self.on_gone is not None:
            self.on_gone()

    def drained(self) -> None:
        self._changed.set()
