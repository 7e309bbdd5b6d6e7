"""WebSocket frames: what they are made of, and how ours are made (RFC 6455, 5).

Frames that come are read as a stream, in place, and without putting messages together:

- `hybridge.protocol.frame_parser`: takes the stream apart.
- `hybridge.protocol.forwarder`: the relay. Masked frames in, unmasked out, each passed on before it
  is complete.
- `hybridge.protocol.payload_reader`: our own ends. Unmasked frames in, places of payload in the
  buffer out; also for those to whom messages matter.
- `hybridge.protocol.message_parts`: the relay's end of a rendezvous that carries an HTTP request.

Buffers follow one rule: the `MAX_HEADER_BYTES` in front of what is fed may be overwritten.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from hybridge.protocol.close_codes import valid_on_wire
from hybridge.protocol.errors import ProtocolViolation
from hybridge.protocol.mask import apply_mask, turn_key

MAX_HEADER_BYTES = 14
"""Longest frame header: two bytes, eight of length, four of mask key."""

MAX_CONTROL_PAYLOAD_BYTES = 125
"""Most payload in a ping, pong or Close (RFC 6455, 5.5)."""


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
