"""The relay's way with frames: masked ones in, unmasked ones out, as they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hybridge.protocol.frame_parser import FrameParser
from hybridge.protocol.frames import Opcode, header
from hybridge.protocol.mask import apply_mask, turn_key

MAX_FORWARDED_FRAME_BYTES = 65_536
"""Most payload in one forwarded frame: Microsoft's Java SDK refuses larger ones (clause 80)."""


MAX_JOINED_BYTES = 65_536
"""Small frames of one read that leave in one write, at most."""

_SHORT_HEADS = {
    first: [bytes((first, length)) for length in range(126)]
    for first in (0x80 | Opcode.TEXT, 0x80 | Opcode.BINARY)
}
"""By its first byte, the headers of a whole message, as they leave."""


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
        # A whole short message that comes alone, as nearly all of a conversation do.
        length = end - start - 6
        if 0 < length < 126 and buffer[start + 1] == 0x80 + length and self._is_plain:
            heads = _SHORT_HEADS.get(buffer[start])
            if heads is not None:
                self.payload_bytes += length
                body = start + 6
                payload = apply_mask(buffer[body:end], bytes(buffer[start + 2 : body]))
                return [heads[length] + payload]
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


def joined(pieces: Sequence[bytes]) -> Iterator[bytes]:
    """Give frames as they are written: many small ones in one piece, large ones as they are."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        if size + len(piece) > MAX_JOINED_BYTES and waiting:
            yield b"".join(waiting)
            waiting, size = [], 0
        waiting.append(piece)
        size += len(piece)
    if waiting:
        yield b"".join(waiting) if len(waiting) > 1 else waiting[0]
