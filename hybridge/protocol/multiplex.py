"""`Multiplexer`: one end of a rendezvous that carries several connections. No I/O.

One side opens streams, the sender's, and the other takes them, the listener's; both are ends of
ours, agreed by the sub-protocol `SUBPROTOCOL`. Both say HELLO first. A stream::

    opener   OPEN ──▶ ASKED ── ACCEPT ──▶ OPEN ── END both ways, or ABORT ──▶ gone
                        └───── REFUSE or ABORT ───────────────────────────────▲

Flow control is per stream: each side may send what the other granted, so a stalled stream holds up
no other, and what its reader must hold is bounded by its window. A window doubles while its reader
keeps up, within a budget that all streams share.

A stream that carries much moves to a rendezvous of its own: each side says MOVE behind its last
data here, and goes on there. So bulk costs what it costs without a multiplexer, and windows stay
small.

What the caller is told to send goes out in the order of the calls. A `ProtocolViolation` is the end
of the rendezvous; whatever streams it carried are lost with it, and no others.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from functools import partial

from hybridge.protocol import multiplex_frames as frames
from hybridge.protocol.errors import ProtocolViolation
from hybridge.protocol.multiplex_events import (
    Aborted,
    Accepted,
    Arrived,
    Asked,
    Ended,
    Event,
    GoingAway,
    Granted,
    Moved,
    Ready,
    Refused,
)
from hybridge.protocol.multiplex_frames import (
    MAX_DATA_BYTES,
    SECRET_BYTES,
    Control,
    FrameReader,
    Hello,
    Kind,
)

SUBPROTOCOL = "hybridge.mux"
"""WebSocket sub-protocol that only a listener of ours chooses."""

PLAIN_SUBPROTOCOL = "hybridge.plain"
"""Stands before it in an offer: listeners that echo the first one offered choose this."""

MOVE_SUBPROTOCOL = "hybridge.move"
"""WebSocket sub-protocol of the rendezvous that a stream moves to, offered in its place."""

MOVE_HEADER = "Hybridge-Stream"
"""Header of the handshake for it: `Multiplexer.token` of the stream."""

HEAVY_BYTES = 1_048_576
"""A stream that carries so much within `HEAVY_SECONDS`, both ways together, moves."""

HEAVY_SECONDS = 5.0

PIECE_WEIGHT_BYTES = 4_096
"""What each piece counts beyond its size: a lively conversation of small messages moves as well."""

MIN_LIVELY_SHARE = 4
"""It moves only if it makes one in so many of the pieces on its rendezvous: up to four such
conversations are faster each for itself, and eight together, as measured."""

INITIAL_WINDOW_BYTES = 65_536
"""What a side may send on a new stream before it hears more."""

MAX_WINDOW_BYTES = 262_144
"""How far the window of one stream grows."""

WINDOW_BUDGET_BYTES = 4_194_304
"""How much the windows of all streams may have grown together, beyond the initial ones."""

MAX_STREAMS = 256
"""Streams that a side takes at once; with the windows it bounds what a rendezvous holds."""

MAX_CREDIT_BYTES = 2**31 - 1
"""More than this nobody can be granted."""


@dataclass(slots=True)
class _Stream:
    """One stream, as this side sees it."""

    send_credit: int
    window: int
    is_open: bool = False
    has_sent_end: bool = False
    has_got_end: bool = False
    """Here an end is that of the stream or, with MOVE, that of its part on this rendezvous."""
    unconsumed: int = 0
    """Received, and not yet told to be consumed."""
    owed: int = 0
    """Consumed, and not yet granted again."""

    @property
    def receivable(self) -> int:
        """How much the other side may send yet."""
        return self.window - self.unconsumed - self.owed


@dataclass(slots=True)
class Multiplexer:
    """One end.

    Args:
        is_opener: Whether this side opens streams, or takes them.
        max_streams: How many streams this side takes at once.
        window: What the other side may send on a new stream at first, in bytes.
    """

    is_opener: bool
    max_streams: int = MAX_STREAMS
    window: int = INITIAL_WINDOW_BYTES
    secret: bytes = field(default_factory=partial(secrets.token_bytes, SECRET_BYTES), repr=False)
    is_leaving: bool = False
    """Whether this side takes no new streams."""
    is_left: bool = False
    """Whether the other side takes none."""
    _reader: FrameReader = field(default_factory=FrameReader)
    _streams: dict[int, _Stream] = field(default_factory=dict)
    _last: int = 0
    _peer: Hello | None = None
    _grown: int = 0

    # --- what this side does ------------------------------------------------------------------

    def hello(self) -> bytes:
        """Give the first bytes of this side."""
        return Hello(
            window=self.window,
            max_streams=0 if self.is_opener else self.max_streams,
            secret=self.secret,
        ).serialize()

    @property
    def streams(self) -> frozenset[int]:
        """The streams that are asked for or open."""
        return frozenset(self._streams)

    @property
    def can_open(self) -> bool:
        """Whether a stream may be opened now."""
        return (
            self.is_opener
            and self._peer is not None
            and not self.is_left
            and self._last < frames.MAX_STREAM
            and len(self._streams) < self._peer.max_streams
        )

    def open(self, name: str) -> tuple[int, bytes]:
        """Ask for a stream; `Accepted` or `Refused` follows. Only while `can_open`.

        Args:
            name: What the logs call it, at most `multiplex_frames.MAX_NAME_BYTES` of UTF-8.

        Returns:
            Its number, and what to send.
        """
        if self._peer is None or not self.can_open:
            raise AssertionError("no stream can be opened now")
        self._last += 1
        self._streams[self._last] = _Stream(send_credit=self._peer.window, window=self.window)
        return self._last, frames.opening(self._last, name)

    def accept(self, stream: int) -> bytes:
        """Open a stream that was asked for; b"" where the opener has given it up."""
        state = self._streams.get(stream)
        if state is None:
            return b""
        state.is_open = True
        return frames.frame(Kind.ACCEPT, stream)

    def refuse(self, stream: int, status: int, reason: str) -> bytes:
        """Do not open a stream that was asked for; b"" where the opener has given it up.

        Args:
            stream: Its number.
            status: HTTP status, 400 to 599.
            reason: Why, in one line.
        """
        if not self._forget(stream):
            return b""
        return frames.refusal(stream, status, reason)

    def is_open(self, stream: int) -> bool:
        """Whether a stream has been accepted, and has not gone."""
        state = self._streams.get(stream)
        return state is not None and state.is_open

    def sendable(self, stream: int) -> int:
        """How many bytes may be sent on a stream now; 0 for one that is gone or has ended."""
        state = self._streams.get(stream)
        if state is None or not state.is_open or state.has_sent_end:
            return 0
        return state.send_credit

    def data(self, stream: int, size: int) -> bytes:
        """Give the header for ``size`` bytes of data, which the caller sends behind it.

        Args:
            stream: An open stream.
            size: At least 1, at most `sendable` and `MAX_DATA_BYTES`.
        """
        state = self._streams[stream]
        if state.has_sent_end or not 0 < size <= min(state.send_credit, MAX_DATA_BYTES):
            raise AssertionError("this may not be sent")
        state.send_credit -= size
        return frames.data_header(stream, size)

    def end(self, stream: int) -> bytes:
        """Finish sending on a stream; reading goes on. b"" for one that is gone or has ended."""
        state = self._streams.get(stream)
        if state is None or state.has_sent_end:
            return b""
        state.has_sent_end = True
        self._forget_if_over(stream, state)
        return frames.frame(Kind.END, stream)

    def move(self, stream: int) -> bytes:
        """Say that what follows on a stream comes on its own rendezvous; as `end` for this one."""
        state = self._streams.get(stream)
        if state is None or state.has_sent_end:
            return b""
        state.has_sent_end = True
        self._forget_if_over(stream, state)
        return frames.frame(Kind.MOVE, stream)

    def token(self, stream: int) -> str:
        """Give what names a stream to the taking side, on another rendezvous, and to nobody else.

        Empty while the other side has not said hello.
        """
        opener = self.secret if self.is_opener else self._peer and self._peer.secret
        return f"{opener.hex()}-{stream}" if opener else ""

    def abort(self, stream: int) -> bytes:
        """Break a stream, or give up one that is asked for; b"" for one that is gone."""
        if not self._forget(stream):
            return b""
        return frames.frame(Kind.ABORT, stream)

    def consumed(self, stream: int, size: int) -> bytes:
        """Say that ``size`` bytes that arrived are held no more; give a grant to send, or b""."""
        state = self._streams.get(stream)
        if state is None:
            return b""
        if not 0 < size <= state.unconsumed:
            raise AssertionError("this has not arrived")
        state.unconsumed -= size
        state.owed += size
        if state.has_got_end or state.owed * 2 < state.window:
            return b""
        granted = state.owed
        state.owed = 0
        if not state.unconsumed:
            granted += self._grow(state)
        return frames.credit(stream, granted)

    def go_away(self) -> bytes:
        """Take no new streams from now on; b"" where that was said before."""
        if self.is_leaving:
            return b""
        self.is_leaving = True
        return frames.frame(Kind.GOAWAY, 0)

    # --- what the other side does -------------------------------------------------------------

    def receive(self, buffer: memoryview, start: int, end: int) -> list[Event]:
        """Read what arrived on the rendezvous.

        Raises:
            ProtocolViolation: The other side broke the rules. End the rendezvous.
        """
        events: list[Event] = []
        for found in self._reader.feed(buffer, start, end):
            if isinstance(found, Control):
                event = self._control(found)
            else:
                event = self._arrived(found.stream, found.start, found.end)
            if event is not None:
                events.append(event)
        return events

    def check_end(self) -> None:
        """Say that the rendezvous has ended in order.

        Raises:
            ProtocolViolation: It ended inside a frame, or with streams that have not ended. One
                that was asked for and has no answer is none: its OPEN may have crossed the end.
        """
        if not self._reader.is_between_frames:
            raise ProtocolViolation("hybridge.mux: the rendezvous ended inside a frame")
        if count := sum(state.is_open for state in self._streams.values()):
            raise ProtocolViolation(f"hybridge.mux: the rendezvous ended with {count} streams open")

    def _control(self, found: Control) -> Event | None:
        if self._peer is None:
            if found.kind is not Kind.HELLO:
                raise ProtocolViolation(f"hybridge.mux: {found.kind.name} came before HELLO")
            self._peer = Hello.parse(found.payload)
            return Ready()
        match found.kind:
            case Kind.HELLO:
                raise ProtocolViolation("hybridge.mux: HELLO came twice")
            case Kind.GOAWAY:
                self.is_left = True
                return GoingAway()
            case Kind.OPEN:
                return self._asked(found.stream, frames.parse_opening(found.payload))
            case Kind.ACCEPT | Kind.REFUSE:
                return self._answered(found)
            case Kind.CREDIT:
                return self._granted(found.stream, frames.parse_credit(found.payload))
            case Kind.END | Kind.MOVE:
                return self._ended(found.kind, found.stream)
            case _:
                # DATA is no control frame: ABORT is left.
                self._check_known(found.kind, found.stream)
                return Aborted(found.stream) if self._forget(found.stream) else None

    def _asked(self, stream: int, name: str) -> Event:
        if self.is_opener or self._peer is None:
            raise ProtocolViolation("hybridge.mux: OPEN came from the side that takes streams")
        if stream <= self._last:
            raise ProtocolViolation(f"hybridge.mux: stream {stream} was used before")
        if len(self._streams) >= self.max_streams:
            raise ProtocolViolation(
                f"hybridge.mux: more than {self.max_streams} streams were opened at once"
            )
        self._last = stream
        self._streams[stream] = _Stream(send_credit=self._peer.window, window=self.window)
        return Asked(stream, name)

    def _answered(self, found: Control) -> Event | None:
        if not self.is_opener:
            raise ProtocolViolation(f"hybridge.mux: {found.kind.name} came from the opening side")
        state = self._check_known(found.kind, found.stream)
        if state is None:
            return None
        if state.is_open:
            raise ProtocolViolation(f"hybridge.mux: stream {found.stream} was answered twice")
        if found.kind is Kind.ACCEPT:
            state.is_open = True
            return Accepted(found.stream)
        status, reason = frames.parse_refusal(found.payload)
        self._forget(found.stream)
        return Refused(found.stream, status, reason)

    def _granted(self, stream: int, size: int) -> Event | None:
        state = self._check_open(Kind.CREDIT, stream)
        if state is None:
            return None
        had_none = not state.send_credit
        state.send_credit += size
        if state.send_credit > MAX_CREDIT_BYTES:
            raise ProtocolViolation(f"hybridge.mux: stream {stream} was granted too much")
        return Granted(stream) if had_none and not state.has_sent_end else None

    def _ended(self, kind: Kind, stream: int) -> Event | None:
        state = self._check_open(kind, stream)
        if state is None:
            return None
        if state.has_got_end:
            raise ProtocolViolation(f"hybridge.mux: stream {stream} ended twice")
        state.has_got_end = True
        self._forget_if_over(stream, state)
        return Ended(stream) if kind is Kind.END else Moved(stream)

    def _arrived(self, stream: int, start: int, end: int) -> Event | None:
        state = self._streams.get(stream)
        size = end - start
        if state is None or not state.is_open or state.has_got_end or size > state.receivable:
            self._check_arrived(stream)
            return None
        state.unconsumed += size
        return Arrived(stream, start, end)

    def _check_arrived(self, stream: int) -> None:
        """Raise, unless the data is for a stream that is gone."""
        if self._peer is None:
            raise ProtocolViolation("hybridge.mux: DATA came before HELLO")
        state = self._check_open(Kind.DATA, stream)
        if state is None:
            return
        if state.has_got_end:
            raise ProtocolViolation(f"hybridge.mux: stream {stream} went on after its end")
        raise ProtocolViolation(f"hybridge.mux: stream {stream} sent beyond its window")

    # --- streams ------------------------------------------------------------------------------

    def _check_known(self, kind: Kind, stream: int) -> _Stream | None:
        """Give a stream; None for one that is gone, of which news may still be on the way."""
        if stream > self._last:
            raise ProtocolViolation(f"hybridge.mux: {kind.name} for stream {stream}, never opened")
        return self._streams.get(stream)

    def _check_open(self, kind: Kind, stream: int) -> _Stream | None:
        state = self._check_known(kind, stream)
        if state is not None and not state.is_open:
            raise ProtocolViolation(f"hybridge.mux: {kind.name} before stream {stream} is open")
        return state

    def _grow(self, state: _Stream) -> int:
        """Double a window, as far as it may; give by how much it grew."""
        more = min(state.window, MAX_WINDOW_BYTES - state.window, WINDOW_BUDGET_BYTES - self._grown)
        if more <= 0:
            return 0
        state.window += more
        self._grown += more
        return more

    def _forget(self, stream: int) -> bool:
        state = self._streams.pop(stream, None)
        if state is None:
            return False
        self._grown -= max(0, state.window - self.window)
        return True

    def _forget_if_over(self, stream: int, state: _Stream) -> None:
        if state.has_sent_end and state.has_got_end:
            self._forget(stream)
