"""Our own ends' way with frames: where payload stands in what a relay sent."""

from __future__ import annotations

from dataclasses import dataclass

from hybridge.protocol.frame_parser import FrameParser
from hybridge.protocol.frames import Opcode

_WHOLE_MESSAGE = (0x80 | Opcode.TEXT, 0x80 | Opcode.BINARY)
"""First bytes of a message in one frame."""


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
        # A whole short message that comes alone, as nearly all of a conversation do.
        length = end - start - 2
        if (
            0 < length < 126
            and buffer[start + 1] == length
            and buffer[start] in _WHOLE_MESSAGE
            and self._is_plain
        ):
            self.payload_bytes += length
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
