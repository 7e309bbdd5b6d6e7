"""Several connections over one rendezvous, between two ends of ours.

`Multiplex` is one end: it reads and writes the rendezvous, and gives each connection as a
`MultiplexedStream`, which looks like any other stream. The rules are those of
`hybridge.protocol.multiplex`; this carries them out.

A stream that is not read holds what its window let the other side send, and never holds up the
rendezvous, which is read all the time. A rendezvous that is lost breaks its streams and no others.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections import deque
from collections.abc import Callable, Mapping

from hybridge.protocol.errors import ConnectionLost, HandshakeRefused, ProtocolViolation, RelayError
from hybridge.protocol.multiplex import (
    Multiplexer,
)
from hybridge.protocol.multiplex_events import (
    Aborted,
    Accepted,
    Arrived,
    Asked,
    Ended,
    GoingAway,
    Granted,
    Moved,
    Ready,
    Refused,
    StreamEvent,
)
from hybridge.protocol.multiplex_frames import HEADER_BYTES
from hybridge.transport.multiplexed_stream import MultiplexedStream
from hybridge.transport.stream import HEADROOM_BYTES, RelayedStream
from hybridge.transport.timing import Timing

_logger = logging.getLogger(__name__)

MAX_HELD_CONTROL_BYTES = 1_048_576
"""Most bytes of frames other than data that are held for an other side that takes nothing."""

MAX_GATHERED_BYTES = 16_384
"""Most bytes of short frames that wait for the end of a turn of the event loop, to leave in one
message. A piece of data that is not shorter does not wait."""

MAX_TOKEN_LENGTH = 64
"""Longer than any `MultiplexedStream.token`."""


class Multiplex:
    """One end of a rendezvous that several connections share.

    Args:
        carrier: The rendezvous, joined, with `SUBPROTOCOL` agreed on.
        is_opener: Whether this side opens connections (a sender's), or takes them (a listener's).
        on_asked: Called with each connection that the other side asks for; taken with
            `MultiplexedStream.accept`, or `refuse`.
        timing: Waits, in seconds.
        labels: What each log line carries.
        on_heavy: Called when a connection carries so much that it should have a rendezvous of its
            own: open one with `MultiplexedStream.token`, and `MultiplexedStream.move_to` it.
    """

    def __init__(
        self,
        carrier: RelayedStream,
        *,
        is_opener: bool,
        on_asked: Callable[[MultiplexedStream, str], None] | None = None,
        timing: Timing | None = None,
        labels: Mapping[str, object] | None = None,
        on_heavy: Callable[[MultiplexedStream], None] | None = None,
    ) -> None:
        self.timing = timing or Timing()
        self.machine = Multiplexer(is_opener=is_opener)
        self.is_gone = False
        """Whether the rendezvous has ended or broken."""
        self.is_blocked = False
        """Whether the rendezvous holds bytes back."""
        self.pieces = 0
        """Pieces of data that its connections have sent and received."""
        self._carrier = carrier
        self._on_asked = on_asked
        self.on_heavy = on_heavy
        self._labels = dict(labels or {})
        self._streams: dict[int, MultiplexedStream] = {}
        self.waiting: dict[MultiplexedStream, None] = {}
        """Streams that will be told when the rendezvous takes more; the first comes first."""
        self._loop = asyncio.get_running_loop()
        self._held_control = 0
        self._gathered = bytearray(HEADROOM_BYTES)
        self._is_flush_due = False
        self._is_orderly = False
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._changed = asyncio.Event()
        self.idle_since = self._loop.time()
        """When its last connection ended, in the event loop's time."""

    async def run(self) -> None:
        """Say hello, and carry until the rendezvous is gone; cancelled, it is dropped."""
        try:
            self.send(self.machine.hello())
            self._carrier.attach(self)
            await self._gone
            if self._is_orderly:
                self._flush()
                await self._carrier.close()
        finally:
            self._end(ConnectionLost("this side dropped the rendezvous"))
            self._carrier.abort()

    async def wait_ready(self) -> None:
        """Wait until the other side has said hello. A deadline is the caller's.

        Raises:
            ConnectionLost: The rendezvous ended before.
        """
        await asyncio.shield(self._ready)

    @property
    def open_streams(self) -> int:
        """How many connections it carries."""
        return len(self._streams)

    @property
    def is_left(self) -> bool:
        """Whether the other side takes no new connections."""
        return self.machine.is_left

    @property
    def can_open(self) -> bool:
        """Whether `open` may be called."""
        return not self.is_gone and self.machine.can_open

    def find(self, token: str) -> MultiplexedStream | None:
        """Give the connection with this `MultiplexedStream.token`, if it is one of these."""
        # Any sender may write anything here; int() raises for thousands of digits.
        _, _, number = token[:MAX_TOKEN_LENGTH].rpartition("-")
        stream = self._streams.get(int(number)) if number.isdecimal() else None
        wanted = token.encode(errors="replace")
        if stream is None or not hmac.compare_digest(stream.token.encode(), wanted):
            return None
        return stream

    async def open(self, name: str) -> MultiplexedStream:
        """Open a connection, and wait until the other side has accepted it.

        A deadline is the caller's; cancelled, the connection is given up.

        Args:
            name: What both sides' logs call it.

        Raises:
            HandshakeRefused: The other side refused; with status and reason.
            ConnectionLost: The rendezvous broke, or takes no more connections.
        """
        if not self.can_open:
            raise ConnectionLost("the rendezvous takes no more connections")
        number, said = self.machine.open(name)
        stream = MultiplexedStream(self, number)
        self._add(number, stream)
        self.send(said)
        try:
            await stream.wait_answered()
        except BaseException:
            stream.abort()
            raise
        return stream

    def leave(self) -> None:
        """Take no new connections; those that are open go on."""
        if not self.is_gone:
            self.send(self.machine.go_away())
            self._changed.set()

    async def wait_idle(self) -> None:
        """Wait until it carries no connection, or is gone."""
        while self._streams and not self.is_gone:
            await self.wait_change()

    async def wait_change(self) -> None:
        """Wait until a connection is added or ends, or the other side takes no more, or it is gone.

        For one task at a time.
        """
        if not self.is_gone:
            self._changed.clear()
            await self._changed.wait()

    def close(self) -> None:
        """End the rendezvous in order; connections that it still carries break."""
        self._is_orderly = True
        error = ConnectionLost("this side closed the rendezvous")
        for stream in list(self._streams.values()):
            stream.abort()
            stream.lost(error)
        self._end(error)

    def abort(self) -> None:
        """Drop the rendezvous; what it carries breaks, here and at the other end."""
        self._end(ConnectionLost("this side dropped the rendezvous"))

    # --- what its streams ask for -------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send a frame that is not data; b"" is nothing.

        Such frames answer what the other side sent, so one that takes none of them may make this
        side hold `MAX_HELD_CONTROL_BYTES`, and no more.
        """
        if data and not self.is_gone:
            if self.is_blocked:
                self._held_control += len(data)
                if self._held_control > MAX_HELD_CONTROL_BYTES:
                    self._violated(ProtocolViolation("hybridge.mux: its answers are not read"))
                    return
            self._gathered += data
            self._flush_soon()

    def send_data(self, number: int, buffer: memoryview, start: int, end: int) -> bool:
        """Send ``buffer[start:end]``, at most `MAX_PAYLOAD_BYTES`, with its header before it.

        Returns:
            Whether more may be sent now, which is ``not is_blocked``.
        """
        header = self.machine.data(number, end - start)
        if end - start < MAX_GATHERED_BYTES and len(self._streams) > 1:
            self._gathered += header
            self._gathered += buffer[start:end]
            self._flush_soon()
            return not self.is_blocked
        self._flush()
        first = start - HEADER_BYTES
        buffer[first:start] = header
        if not self._carrier.write(buffer, first, end):
            self.is_blocked = True
        return not self.is_blocked

    def _flush_soon(self) -> None:
        """Let what other streams send in this turn of the event loop leave in the same message."""
        if len(self._gathered) >= MAX_GATHERED_BYTES or len(self._streams) < 2:
            self._flush()
        elif not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        if len(self._gathered) > HEADROOM_BYTES:
            room, self._gathered = self._gathered, bytearray(HEADROOM_BYTES)
            if not self._carrier.write(memoryview(room), HEADROOM_BYTES, len(room)):
                self.is_blocked = True

    def wait_for_room(self, stream: MultiplexedStream) -> None:
        """Note who goes on when the rendezvous takes more; first come, first served."""
        self.waiting.setdefault(stream)

    def _add(self, number: int, stream: MultiplexedStream) -> None:
        self._streams[number] = stream
        self._changed.set()

    def forget(self, number: int) -> None:
        """Hear that a stream is over."""
        if self._streams.pop(number, None) is None:
            return
        if not self._streams:
            self.idle_since = self._loop.time()
        self._changed.set()

    # --- what the rendezvous tells ------------------------------------------------------------

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        """Take what was read from the rendezvous."""
        if self._gone.done():
            return
        try:
            events = self.machine.receive(buffer, start, end)
        except ProtocolViolation as error:
            self._violated(error)
            return
        for event in events:
            if self.is_gone:
                return
            if isinstance(event, Arrived):
                if stream := self._streams.get(event.stream):
                    stream.arrived(buffer, event.start, event.end)
                continue
            match event:
                case Asked(number, name):
                    self._ask(number, name)
                case Ready():
                    self._ready.set_result(None)
                case GoingAway():
                    self._changed.set()
                case _:
                    # One that went while an earlier event of these was handled hears no more.
                    if stream := self._streams.get(event.stream):
                        self._tell(stream, event)

    def _ask(self, number: int, name: str) -> None:
        stream = MultiplexedStream(self, number)
        self._add(number, stream)
        if self._on_asked is not None:
            self._on_asked(stream, name)

    def _tell(self, stream: MultiplexedStream, event: StreamEvent) -> None:
        match event:
            case Granted():
                stream.go_on()
            case Ended():
                stream.peer_ended()
            case Moved():
                stream.peer_moved()
            case Aborted(number):
                self._lose(number, ConnectionLost("the other end broke the connection"))
            case Accepted():
                stream.answered(None)
            case Refused(number, status, reason):
                stream.answered(HandshakeRefused(status, reason))
                self.forget(number)

    def _lose(self, number: int, error: RelayError) -> None:
        stream = self._streams.get(number)
        self.forget(number)
        if stream is not None:
            stream.lost(error)

    def _violated(self, error: ProtocolViolation) -> None:
        _logger.warning(
            "a rendezvous ended: %s", error, extra={"event": "multiplex_violation", **self._labels}
        )
        self._end(ConnectionLost(f"the other end broke the protocol: {error}"))

    def drained(self) -> None:
        """Hear that the rendezvous takes more: whoever waits goes on, in turn."""
        self._held_control = 0
        self.is_blocked = False
        waiting = deque(self.waiting)
        self.waiting.clear()
        while waiting:
            if self.is_blocked or self.is_gone:
                # Those that had no turn stand before those that had one.
                self.waiting = dict.fromkeys([*waiting, *self.waiting])
                return
            waiting.popleft().go_on()

    def ended(self) -> None:
        """Hear that the other end closed the rendezvous."""
        try:
            self.machine.check_end()
        except ProtocolViolation as error:
            self._violated(error)
            return
        self._is_orderly = True
        self._end(ConnectionLost("the other end closed the rendezvous"))

    def broken(self, error: RelayError) -> None:
        """Hear that the rendezvous broke: so did all that it carried."""
        self._end(error)

    def _end(self, error: RelayError) -> None:
        if self.is_gone:
            return
        self.is_gone = True
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # Nobody need have waited.
        for number in list(self._streams):
            self._lose(number, error)
        self._changed.set()
        if not self._gone.done():
            self._gone.set_result(None)
