"""Masked frames read as parts of messages, as they come: for who takes messages in (RFC 6455, 5).

The relay's end of a rendezvous that carries an HTTP request reads so.
"""

from __future__ import annotations

from typing import NamedTuple

from hybridge.protocol.frame_parser import FrameParser
from hybridge.protocol.frames import Opcode
from hybridge.protocol.mask import apply_mask, turn_key


class Part(NamedTuple):
    """Some of a message."""

    is_text: bool
    data: bytes
    is_last: bool
    """Whether the message ends with it."""


class PartReader(FrameParser):
    """Reads a client's frames. A message's bytes of one read are one part, however many frames."""

    __slots__ = ("_is_text", "_parts", "_pieces")

    def __init__(self) -> None:
        super().__init__(masked=True)
        self._is_text = False
        self._pieces: list[bytes] = []
        self._parts: list[Part] = []

    def feed(self, buffer: memoryview, start: int, end: int) -> list[Part]:
        """Take what was read; give the parts of messages in it, in order.

        Raises:
            ProtocolViolation: The frames break RFC 6455. Nothing more may be fed.
        """
        self._parts = []
        self._parse(buffer, start, end)
        if self._pieces:
            self._end_part(is_last=False)
        return self._parts

    def _begin(self, buffer: memoryview, position: int, length: int) -> None:
        if self._opcode != Opcode.CONTINUATION:
            self._is_text = self._opcode == Opcode.TEXT
        if not length and self._fin:
            self._end_part(is_last=True)

    def _payload(self, buffer: memoryview, start: int, end: int) -> None:
        key, phase = self._key, self._phase
        self._phase = (phase + end - start) & 3
        self._pieces.append(apply_mask(buffer[start:end], turn_key(key, phase) if phase else key))
        if not self._left and self._fin:
            self._end_part(is_last=True)

    def _end_part(self, *, is_last: bool) -> None:
        pieces, self._pieces = self._pieces, []
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._parts.append(Part(self._is_text, data, is_last))
