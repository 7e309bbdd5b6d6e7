"""WebSocket frames as a stream: headers rewritten in place, masks, no reassembly (RFC 6455, 5).

Four users, one parser:

- `Forwarder`: the relay. Masked frames in, unmasked out, each passed on before it is complete.
- `PayloadReader`: our own ends. Unmasked frames in, places of payload in the buffer out; its
  `MessageReader` for those to whom messages matter.
- `hybridge.protocol.message_parts`: the relay's end of a rendezvous that carries an HTTP request.
- `mask_frame` and `control_frame`: frames that our own ends send.

Buffers follow one rule: the `MAX_HEADER_BYTES` in front of what is fed may be overwritten.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from hybridge.protocol.close_codes import valid_on_wire
from hybridge.protocol.errors import ProtocolViolation

try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover - a platform without the compiled wheel
    from websockets.utils import apply_mask

MAX_HEADER_BYTES = 14
"""Longest frame header: two bytes, eight of length, four of mask key."""

MAX_FORWARDED_FRAME_BYTES = 65_536
"""Most payload in one forwarded frame: Microsoft's Java SDK refuses larger ones (clause 80)."""

MAX_CONTROL_PAYLOAD_BYTES = 125
"""Most payload in a ping, pong or Close (RFC 6455, 5.5)."""

MAX_PENDING_PINGS = 16
"""Pings of one read that are answered one by one; of more, only the last (RFC 6455, 5.5.3)."""


_WHOLE_MESSAGE = (0x82, 0x81)
"""First byte of a binary or text message in one frame."""


class Opcode(enum.IntEnum):
    """What a frame is."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


@dataclass(frozen=True, slots=True)
class Close:
    """A Close frame as it came."""

    code: int | None
    """None where the frame was empty."""

    reason: str
    payload: bytes
    """Code and reason as they stood on the wire, for forwarding unchanged."""


def header(opcode: int, length: int, *, fin: bool = True, mask_key: bytes = b"") -> bytes:
    """Make a frame header; ``mask_key`` of four bytes for a client, empty for a server."""
    first = (0x80 if fin else 0) | opcode
    bit = 0x80 if mask_key else 0
    if length < 126:
        return bytes((first, bit | length)) + mask_key
    if length < 65_536:
        return bytes((first, bit | 126)) + length.to_bytes(2, "big") + mask_key
    return bytes((first, bit | 127)) + length.to_bytes(8, "big") + mask_key


def control_frame(opcode: Opcode, payload: bytes = b"", *, mask_key: bytes = b"") -> bytes:
    """Make a whole ping, pong or Close.

    Raises:
        ValueError: The payload is longer than `MAX_CONTROL_PAYLOAD_BYTES`.
    """
    if len(payload) > MAX_CONTROL_PAYLOAD_BYTES:
        raise ValueError(f"a control frame carries at most {MAX_CONTROL_PAYLOAD_BYTES} bytes")
    body = apply_mask(payload, mask_key) if mask_key and payload else payload
    return header(opcode, len(payload), mask_key=mask_key) + body


def close_payload(code: int, reason: str = "") -> bytes:
    """Give the payload of a Close frame; the reason is cut to 123 UTF-8 bytes."""
    text = reason.encode()[: MAX_CONTROL_PAYLOAD_BYTES - 2].decode(errors="ignore")
    return code.to_bytes(2, "big") + text.encode()


def mask_frame(
    buffer: memoryview,
    start: int,
    end: int,
    *,
    mask_key: bytes,
    opcode: int = Opcode.BINARY,
    fin: bool = True,
) -> bytes:
    """Make one masked frame of ``buffer[start:end]``, using the room before it for the header.

    Header and payload leave in one piece by one pass of the mask: the header is masked beforehand,
    so that the pass over both restores it.
    """
    length = end - start
    if length < 126:
        # Most messages of a conversation are short: then two pieces are cheaper than the trick.
        first = (0x80 if fin else 0) | opcode
        body = apply_mask(buffer[start:end], mask_key)
        return bytes((first, 0x80 | length)) + mask_key + body
    head = header(opcode, length, fin=fin, mask_key=mask_key)
    size = len(head)
    turned = turn_key(mask_key, -size)
    buffer[start - size : start] = apply_mask(head, turned)
    return apply_mask(buffer[start - size : end], turned)


def turn_key(key: bytes, by: int) -> bytes:
    """Rotate a mask key, so that it fits data that begins ``by`` bytes further on."""
    by %= 4
    return key[by:] + key[:by] if by else key


class FrameParser:
    """Takes a stream of frames apart, wherever it was cut. Subclasses say what becomes of payload.

    After each `feed`, look at `pings` and `close`.
    """

    __slots__ = (
        "_control",
        "_control_payload",
        "_fin",
        "_key",
        "_left",
        "_masked",
        "_message_open",
        "_opcode",
        "_partial",
        "_phase",
        "close",
        "payload_bytes",
        "pings",
    )

    def __init__(self, *, masked: bool) -> None:
        self._masked = masked
        self._partial = b""
        self._left = 0
        self._key = b""
        self._phase = 0
        self._opcode = 0
        self._fin = True
        self._message_open = False
        self._control: Opcode | None = None
        self._control_payload = b""
        self.pings: list[bytes] = []
        """Payloads of pings that came in the last `feed`; each wants a pong."""
        self.close: Close | None = None
        """The peer's Close, once it has come. What follows it is ignored."""
        self.payload_bytes = 0
        """Bytes of data payload so far."""

    def _begin(self, buffer: memoryview, position: int, length: int) -> None:
        """Hear of a new data frame of ``length`` bytes; its payload begins at ``position``."""
        raise AssertionError("a subclass implements this")

    def _payload(self, buffer: memoryview, start: int, end: int) -> None:
        """Hear of payload at ``buffer[start:end]``, still masked by the key turned to `_phase`."""
        raise AssertionError("a subclass implements this")

    def _parse(self, buffer: memoryview, start: int, end: int) -> None:
        if self.pings:
            self.pings = []
        position = start
        if self._partial:
            position -= len(self._partial)
            buffer[position:start] = self._partial
            self._partial = b""
        while position < end and self.close is None:
            if self._left:
                stop = min(end, position + self._left)
                self._left -= stop - position
                if self._control is None:
                    self.payload_bytes += stop - position
                    self._payload(buffer, position, stop)
                else:
                    self._control_payload += bytes(buffer[position:stop])
                    if not self._left:
                        self._end_control()
                position = stop
                continue
            after = self._header(buffer, position, end)
            if after is None:
                self._partial = bytes(buffer[position:end])
                return
            position = after

    def _short_message(self, buffer: memoryview, start: int, end: int) -> int:
        """Take one whole message of 1 to 125 bytes that came alone; give its length, else 0.

        The way of nearly every message of a conversation, which `_parse` would treat the same.
        """
        length = end - start - (6 if self._masked else 2)
        if (
            0 < length < 126
            and buffer[start] in _WHOLE_MESSAGE
            and buffer[start + 1] == length + (0x80 if self._masked else 0)
            and not (self._left or self._partial or self._message_open)
            and self.close is None
        ):
            if self.pings:
                self.pings = []
            self.payload_bytes += length
            return length
        return 0

    def _header(self, buffer: memoryview, position: int, end: int) -> int | None:
        """Read one frame header; give where the payload begins, or None if it is not all there."""
        available = end - position
        if available < 2:
            return None
        first, second = buffer[position], buffer[position + 1]
        length = second & 0x7F
        size = 2
        if length == 126:
            size = 4
        elif length == 127:
            size = 10
        masked = second & 0x80
        whole = size + 4 if masked else size
        opcode = first & 0x0F
        # Checked as early as it can be seen, not when the header is whole.
        if first & 0x70:
            raise ProtocolViolation("a reserved bit is set, though no extension was agreed on")
        if bool(masked) is not self._masked:
            raise ProtocolViolation(
                "a frame is not masked" if self._masked else "a frame is masked"
            )
        if opcode >= 8:
            self._check_control(first, opcode, length)
        else:
            self._check_data(opcode)
        if available < whole:
            return None
        if size > 2:
            length = int.from_bytes(buffer[position + 2 : position + size], "big")
            if length >> 63:
                raise ProtocolViolation("a frame's length has its highest bit set")
        if masked:
            self._key = bytes(buffer[position + size : position + whole])
            self._phase = 0
        self._left = length
        position += whole
        if opcode >= 8:
            self._control = Opcode(opcode)
            self._control_payload = b""
            if not length:
                self._end_control()
            return position
        self._control = None
        self._opcode = opcode
        self._fin = bool(first & 0x80)
        self._message_open = not self._fin
        self._begin(buffer, position, length)
        return position

    def _check_control(self, first: int, opcode: int, length: int) -> None:
        if opcode > Opcode.PONG:
            raise ProtocolViolation(f"opcode {opcode} is reserved")
        if not first & 0x80:
            raise ProtocolViolation("a control frame is fragmented")
        if length > MAX_CONTROL_PAYLOAD_BYTES:
            raise ProtocolViolation(
                f"a control frame is longer than {MAX_CONTROL_PAYLOAD_BYTES} bytes"
            )

    def _check_data(self, opcode: int) -> None:
        if opcode > Opcode.BINARY:
            raise ProtocolViolation(f"opcode {opcode} is reserved")
        if opcode and self._message_open:
            raise ProtocolViolation("a message begins before the one before it has ended")
        if not opcode and not self._message_open:
            raise ProtocolViolation("a continuation frame continues nothing")

    def _end_control(self) -> None:
        payload = self._control_payload
        if payload and self._masked:
            payload = apply_mask(payload, self._key)
        opcode, self._control, self._control_payload = self._control, None, b""
        if opcode is Opcode.PING:
            if len(self.pings) >= MAX_PENDING_PINGS:
                self.pings.pop()
            self.pings.append(payload)
        elif opcode is Opcode.CLOSE:
            self.close = parse_close(payload)


def parse_close(payload: bytes) -> Close:
    """Read the payload of a Close frame.

    Raises:
        ProtocolViolation: One byte, a code that must not be sent, or a reason that is not UTF-8.
    """
    if not payload:
        return Close(None, "", b"")
    if len(payload) == 1:
        raise ProtocolViolation("a Close carries half a code")
    code = int.from_bytes(payload[:2], "big")
    if not valid_on_wire(code):
        raise ProtocolViolation(f"a Close carries code {code}, which must not be sent")
    try:
        reason = payload[2:].decode()
    except UnicodeDecodeError as error:
        raise ProtocolViolation("a Close carries a reason that is not UTF-8") from error
    return Close(code, reason, payload)


class Forwarder(FrameParser):
    """Rewrites masked frames into unmasked ones, as they come (clauses 77 to 81).

    Message types and boundaries stay. A frame of up to `MAX_FORWARDED_FRAME_BYTES` stays one frame,
    a longer one becomes several. A frame that was begun must be finished before a control frame may
    go the same way: see `is_between_frames`.
    """

    __slots__ = ("_fresh", "_out", "_out_left", "_rest")

    def __init__(self) -> None:
        super().__init__(masked=True)
        self._out: list[bytes] = []
        self._out_left = 0
        self._rest = 0
        self._fresh = False

    @property
    def is_between_frames(self) -> bool:
        """Whether all that was begun on the outgoing side is complete."""
        return not self._out_left

    def feed(self, buffer: memoryview, start: int, end: int) -> list[bytes]:
        """Take what was read; give what to send to the other side, in order.

        Raises:
            ProtocolViolation: The frames break RFC 6455. Nothing more may be fed.
        """
        length = self._short_message(buffer, start, end)
        if length:
            body = start + 6
            payload = apply_mask(buffer[body:end], bytes(buffer[start + 2 : body]))
            return [bytes((buffer[start], length)) + payload]
        self._out = []
        self._parse(buffer, start, end)
        return self._out

    def _begin(self, buffer: memoryview, position: int, length: int) -> None:
        if length:
            self._rest = length
            self._fresh = True
        else:
            self._out.append(header(self._opcode, 0, fin=self._fin))

    def _payload(self, buffer: memoryview, start: int, end: int) -> None:
        key, phase = self._key, self._phase
        self._phase = (phase + end - start) & 3
        while start < end:
            size = 0
            if not self._out_left:
                length = min(self._rest, MAX_FORWARDED_FRAME_BYTES)
                self._rest -= length
                self._out_left = length
                head = header(
                    self._opcode if self._fresh else Opcode.CONTINUATION,
                    length,
                    fin=self._fin and not self._rest,
                )
                self._fresh = False
                size = len(head)
                # The header goes over the mask key, or over payload that has left already.
                turned = turn_key(key, phase - size)
                buffer[start - size : start] = apply_mask(head, turned)
            else:
                turned = turn_key(key, phase)
            take = min(self._out_left, end - start)
            self._out_left -= take
            self._out.append(apply_mask(buffer[start - size : start + take], turned))
            start += take
            phase = (phase + take) & 3


class PayloadReader(FrameParser):
    """Finds the payload in unmasked frames from a relay."""

    __slots__ = ("_spans",)

    def __init__(self) -> None:
        super().__init__(masked=False)
        self._spans: list[tuple[int, int]] = []

    @property
    def is_between_frames(self) -> bool:
        """Whether the last frame that was begun is complete."""
        return not self._left and not self._partial

    def feed(self, buffer: memoryview, start: int, end: int) -> list[tuple[int, int]]:
        """Take what was read; give where in ``buffer`` payload stands, as ``(start, end)``.

        Raises:
            ProtocolViolation: The frames break RFC 6455. Nothing more may be fed.
        """
        if self._short_message(buffer, start, end):
            return [(start + 2, end)]
        self._spans = []
        self._parse(buffer, start, end)
        return self._spans

    def _begin(self, buffer: memoryview, position: int, length: int) -> None:
        pass

    def _payload(self, buffer: memoryview, start: int, end: int) -> None:
        self._spans.append((start, end))


@dataclass(frozen=True, slots=True)
class MessagePiece:
    """Where a part of a message stands in the buffer that was fed; empty only where it is last."""

    start: int
    end: int
    is_text: bool
    is_last: bool
    """Whether the message is complete with it."""


class MessageReader(PayloadReader):
    """Finds messages in unmasked frames from a relay: of which kind, and where each one ends."""

    __slots__ = ("_is_text", "pieces")

    def __init__(self) -> None:
        super().__init__()
        self._is_text = False
        self.pieces: list[MessagePiece] = []
        """What came in the last `feed`, in order."""

    def feed(self, buffer: memoryview, start: int, end: int) -> list[tuple[int, int]]:
        """Take what was read; see `PayloadReader.feed`, and `pieces`."""
        self.pieces = []
        self._spans = []
        self._parse(buffer, start, end)
        return self._spans

    def _begin(self, buffer: memoryview, position: int, length: int) -> None:
        if self._opcode != Opcode.CONTINUATION:
            self._is_text = self._opcode == Opcode.TEXT
        if not length and self._fin:
            self.pieces.append(MessagePiece(position, position, self._is_text, True))

    def _payload(self, buffer: memoryview, start: int, end: int) -> None:
        super()._payload(buffer, start, end)
        is_last = self._fin and not self._left
        self.pieces.append(MessagePiece(start, end, self._is_text, is_last))
