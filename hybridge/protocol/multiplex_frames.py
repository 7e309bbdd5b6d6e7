"""Frames of `hybridge.mux`: several connections in the byte stream of one rendezvous.

Each frame is a header of `HEADER_BYTES`, big-endian, and its payload::

    kind (1)  zero (1)  payload length (2)  stream number (4)  payload (length)

========  ======  ===============================================================================
kind      stream  payload
========  ======  ===============================================================================
HELLO     0       version (1), window in bytes (4), streams taken at once (4), secret
                  (`SECRET_BYTES`); more is ignored
OPEN      new     what the opener calls it, UTF-8, at most `MAX_NAME_BYTES`
ACCEPT    open    none
REFUSE    open    HTTP status (2), reason, UTF-8, at most `MAX_REASON_BYTES`
DATA      open    at least one byte
CREDIT    open    how many bytes more may be sent (4), at least one
END       open    none: the sender of it sends no more data on this stream
ABORT     open    none: the stream broke
MOVE      open    none: the sender of it sends the rest on a rendezvous of the stream's own
GOAWAY    0       none: the sender of it takes no new streams
========  ======  ===============================================================================

`hybridge.protocol.multiplex` says when each is allowed. Nothing here depends on how the rendezvous
cuts the bytes, so any relay may re-frame them.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, field

from hybridge.protocol.errors import ProtocolViolation

HEADER_BYTES = 8

MAX_DATA_BYTES = 65_535
"""Longest payload of a DATA frame: what its length can say."""

MAX_NAME_BYTES = 256
"""Longest name of a stream in OPEN."""

MAX_REASON_BYTES = 1_024
"""Longest reason in REFUSE."""

MAX_CONTROL_BYTES = 2 + MAX_REASON_BYTES
"""Longest payload of a frame that is not DATA; one is held until it is complete."""

MAX_STREAM = 2**32 - 1
"""Highest stream number."""

_HEADER = struct.Struct(">BBHI")


class Kind(enum.IntEnum):
    """What a frame says."""

    HELLO = 1
    OPEN = 2
    ACCEPT = 3
    REFUSE = 4
    DATA = 5
    CREDIT = 6
    END = 7
    ABORT = 8
    GOAWAY = 9
    MOVE = 10


_KINDS = {kind.value: kind for kind in Kind}
_OF_NO_STREAM = frozenset({Kind.HELLO, Kind.GOAWAY})
_EMPTY = frozenset({Kind.ACCEPT, Kind.END, Kind.ABORT, Kind.GOAWAY, Kind.MOVE})


def frame(kind: Kind, stream: int, payload: bytes = b"") -> bytes:
    """Give a whole frame that is not DATA."""
    return _HEADER.pack(kind, 0, len(payload), stream) + payload


def data_header(stream: int, size: int) -> bytes:
    """Give the header of a DATA frame with 1 to `MAX_DATA_BYTES` bytes."""
    return _HEADER.pack(Kind.DATA, 0, size, stream)


@dataclass(frozen=True, slots=True)
class Control:
    """A whole frame that is not DATA."""

    kind: Kind
    stream: int
    payload: bytes


@dataclass(
    slots=True
)  # Not frozen: that would make it four times as dear, and there is one a message.
class Span:
    """Data of a stream: ``buffer[start:end]`` of the buffer that was fed; never empty."""

    stream: int
    start: int
    end: int


class FrameReader:
    """Finds frames in bytes, however they are cut. Data is not held: it is told as it comes.

    Holds a header and a control frame at most, `HEADER_BYTES` and `MAX_CONTROL_BYTES`.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._data_left = 0
        self._data_stream = 0

    @property
    def is_between_frames(self) -> bool:
        """Whether the bytes so far end where a frame ends."""
        return not self._held and not self._data_left

    def feed(self, buffer: memoryview, start: int, end: int) -> list[Control | Span]:
        """Read ``buffer[start:end]``.

        Raises:
            ProtocolViolation: This is no frame; nothing that follows can be read.
        """
        found: list[Control | Span] = []
        while start < end:
            if self._data_left:
                size = min(self._data_left, end - start)
                found.append(Span(self._data_stream, start, start + size))
                self._data_left -= size
                start += size
                continue
            if not self._held and end - start >= HEADER_BYTES:
                # Nearly every frame: a whole header of DATA. Any other is read below.
                kind, zero, size, stream = _HEADER.unpack_from(buffer, start)
                if kind == Kind.DATA and size and stream and not zero:
                    start += HEADER_BYTES
                    if size <= end - start:
                        found.append(Span(stream, start, start + size))
                        start += size
                    else:
                        self._data_left, self._data_stream = size, stream
                    continue
            start = self._read_frame(buffer, start, end, found)
        return found

    def _read_frame(
        self, buffer: memoryview, start: int, end: int, found: list[Control | Span]
    ) -> int:
        """Read up to the end of a control frame, or of the header of a DATA frame."""
        held = self._held
        start = self._hold(buffer, start, end, HEADER_BYTES)
        if len(held) < HEADER_BYTES:
            return start
        number, zero, size, stream = _HEADER.unpack_from(held)
        kind = _KINDS.get(number)
        if kind is None or zero:
            raise ProtocolViolation(f"hybridge.mux: there is no frame {number}/{zero}")
        if (kind in _OF_NO_STREAM) != (stream == 0):
            raise ProtocolViolation(f"hybridge.mux: {kind.name} names stream {stream}")
        if kind is Kind.DATA:
            if not size:
                raise ProtocolViolation("hybridge.mux: DATA without data")
            self._data_left, self._data_stream = size, stream
            held.clear()
            return start
        if size > MAX_CONTROL_BYTES or (size and kind in _EMPTY):
            raise ProtocolViolation(f"hybridge.mux: {kind.name} has {size} bytes")
        start = self._hold(buffer, start, end, HEADER_BYTES + size)
        if len(held) == HEADER_BYTES + size:
            found.append(Control(kind, stream, bytes(held[HEADER_BYTES:])))
            held.clear()
        return start

    def _hold(self, buffer: memoryview, start: int, end: int, size: int) -> int:
        """Hold bytes until there are ``size``; give where the rest begins."""
        taken = min(max(0, size - len(self._held)), end - start)
        self._held += buffer[start : start + taken]
        return start + taken


# --- payloads ------------------------------------------------------------------------------------

VERSION = 1

SECRET_BYTES = 16
"""Random bytes in HELLO: who names them is the other side of this rendezvous."""

_HELLO = struct.Struct(f">BII{SECRET_BYTES}s")
_CREDIT = struct.Struct(">I")
_STATUS = struct.Struct(">H")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a side says first."""

    window: int
    """Bytes that the other side may send on each new stream before it is given more."""

    max_streams: int
    """Streams that this side takes at once."""

    secret: bytes = field(repr=False)
    """`SECRET_BYTES` random bytes."""

    def serialize(self) -> bytes:
        """Give the frame."""
        return frame(
            Kind.HELLO, 0, _HELLO.pack(VERSION, self.window, self.max_streams, self.secret)
        )

    @classmethod
    def parse(cls, payload: bytes) -> Hello:
        """Read the payload.

        Raises:
            ProtocolViolation: It is too short, or of another version.
        """
        if len(payload) < _HELLO.size:
            raise ProtocolViolation("hybridge.mux: HELLO is too short")
        version, window, max_streams, secret = _HELLO.unpack_from(payload)
        if version != VERSION:
            raise ProtocolViolation(f"hybridge.mux: version {version}, and {VERSION} is known here")
        return cls(window=window, max_streams=max_streams, secret=secret)


def credit(stream: int, size: int) -> bytes:
    """Give a CREDIT frame."""
    return frame(Kind.CREDIT, stream, _CREDIT.pack(size))


def parse_credit(payload: bytes) -> int:
    """Read the payload of CREDIT.

    Raises:
        ProtocolViolation: It is not four bytes, or grants nothing.
    """
    if len(payload) != _CREDIT.size:
        raise ProtocolViolation("hybridge.mux: CREDIT is not four bytes long")
    (size,) = _CREDIT.unpack(payload)
    if not size:
        raise ProtocolViolation("hybridge.mux: CREDIT grants nothing")
    return int(size)


def refusal(stream: int, status: int, reason: str) -> bytes:
    """Give a REFUSE frame; a reason over `MAX_REASON_BYTES` is cut at a character."""
    text = reason.encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore").encode()
    return frame(Kind.REFUSE, stream, _STATUS.pack(status) + text)


def parse_refusal(payload: bytes) -> tuple[int, str]:
    """Read status and reason of REFUSE.

    Raises:
        ProtocolViolation: The status is absent or no error, or the reason is not UTF-8.
    """
    if len(payload) < _STATUS.size:
        raise ProtocolViolation("hybridge.mux: REFUSE has no status")
    (status,) = _STATUS.unpack_from(payload)
    if not 400 <= status <= 599:
        raise ProtocolViolation(f"hybridge.mux: REFUSE has status {status}")
    return int(status), _text(Kind.REFUSE, payload[_STATUS.size :])


def opening(stream: int, name: str) -> bytes:
    """Give an OPEN frame; the name is at most `MAX_NAME_BYTES` long."""
    return frame(Kind.OPEN, stream, name.encode())


def parse_opening(payload: bytes) -> str:
    """Read the name in OPEN.

    Raises:
        ProtocolViolation: It is too long or not UTF-8.
    """
    if len(payload) > MAX_NAME_BYTES:
        raise ProtocolViolation(f"hybridge.mux: OPEN has a name of {len(payload)} bytes")
    return _text(Kind.OPEN, payload)


def _text(kind: Kind, payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise ProtocolViolation(f"hybridge.mux: {kind.name} is not UTF-8") from None
