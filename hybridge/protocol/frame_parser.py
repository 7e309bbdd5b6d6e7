"""Takes a stream of WebSocket frames apart, wherever it was cut (RFC 6455, 5)."""

from __future__ import annotations

from hybridge.protocol.errors import ProtocolViolation
from hybridge.protocol.frames import (
    MAX_CONTROL_PAYLOAD_BYTES,
    Close,
    Opcode,
    parse_close,
)
from hybridge.protocol.mask import apply_mask

MAX_PENDING_PINGS = 16
"""Pings of one read that are answered one by one; of more, only the last (RFC 6455, 5.5.3)."""


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

    @property
    def _is_plain(self) -> bool:
        """Whether a message that comes alone may be taken as it is: nothing is begun or over."""
        return not (self._left or self._partial or self._message_open or self.close or self.pings)

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
