"""One HTTP request's body, out of the bytes after its head.

Chunk lines are read by a grammar without leniency, and nothing else reads them: a check that stood
before another parser would have to find the same lines and so be that parser (decision 0003).
What is read here is framed anew for the listener: chunks, extensions and trailers do not go on.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from hybridge.protocol.errors import MalformedRequest
from relay.request_head import RequestHead

MAX_CHUNK_LINE_BYTES = 256
"""Longest line before a chunk: size, extensions, CR and LF."""

MAX_TRAILER_BYTES = 8_192
"""Most bytes of trailer lines, the empty line at their end left out."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e]|\\[\t\x20-\x7e])*"'
# At most 15 digits: whatever integer somebody puts it into, it fits.
_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})(?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*\r\n"
)
_BEGUN_CHUNK_LINE = re.compile(rb"(?:[0-9A-Fa-f]{1,15}(?:;[\t\x20-\x7e]*)?\r?)?")
_TRAILER_LINE = re.compile(rb"(" + _TOKEN + rb"):[\t\x20-\x7e\x80-\xff]*\r\n")
_BEGUN_TRAILER_LINE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*\r?")
# In a trailer they would come too late for us, and at the right time for somebody else.
_NO_TRAILERS = frozenset(
    {b"content-length", b"transfer-encoding", b"host", b"connection", b"te", b"upgrade"}
)


class _Phase(Enum):
    PAYLOAD = auto()
    """So many bytes of a body with a length."""

    CHUNK_LINE = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    """CR and LF after a chunk."""

    TRAILERS = auto()
    DONE = auto()


class BodyReader:
    """Reads one request's body out of the bytes after its head.

    Feed it what comes; it gives the payload in pieces and knows where the body ends. However the
    bytes are split, the payload, the end and the verdict are the same.

    Holds at most one line: `MAX_CHUNK_LINE_BYTES`, or `MAX_TRAILER_BYTES` after the last chunk.
    Payload is copied once, out of the buffer that is fed.

        CHUNK_LINE ──▶ CHUNK ──▶ CHUNK_END ──┐          PAYLOAD ──▶ DONE
            ▲  └── size 0 ──▶ TRAILERS ──▶ DONE
            └────────────────────────────────┘

    Args:
        head: The request's head, as `relay.request_head.parse_head` gave it: it has one framing
            or none.

    Protocol:
        Section 7.3; clauses 92, 94, 95. RFC 9112, sections 6 and 7.1.
    """

    def __init__(self, head: RequestHead) -> None:
        self.length: int | None = None
        """Bytes of payload: 0 where there is no body; None where it is chunked, not known before.

        A chunked body of no chunks has None here, not 0: the sender announced a body.
        """
        self.rest = b""
        """Once `is_done`: what came behind the body, the first bytes of the next request."""
        self._left = 0
        self._line = b""
        self._trailer_bytes = 0
        if head.value("Transfer-Encoding") is not None:
            self._phase = _Phase.CHUNK_LINE
        else:
            self.length = self._left = int(head.value("Content-Length") or 0)
            self._phase = _Phase.PAYLOAD if self.length else _Phase.DONE

    @property
    def is_done(self) -> bool:
        """Whether the body is complete."""
        return self._phase is _Phase.DONE

    def feed(self, data: memoryview | bytes) -> list[bytes]:
        """Take the next bytes; give the payload in them, one piece a chunk, none of them empty.

        What comes when the body is complete is added to `rest`: who feeds on bounds it.

        Raises:
            MalformedRequest: 400; a chunk or trailer line is not exact, or too long. Whatever
                follows on the connection is not to be read: it must be answered and closed, and
                the payload so far is no complete body.
        """
        # A chunk may be one byte: a copy of all is cheaper than one of every line.
        data = bytes(data)
        view = memoryview(data)
        size = len(view)
        at = 0
        pieces: list[bytes] = []
        while at < size and self._phase is not _Phase.DONE:
            if self._phase is _Phase.PAYLOAD or self._phase is _Phase.CHUNK:
                end = min(at + self._left, size)
                pieces.append(bytes(view[at:end]))
                self._left -= end - at
                at = end
                if not self._left:
                    is_chunk = self._phase is _Phase.CHUNK
                    self._phase = _Phase.CHUNK_END if is_chunk else _Phase.DONE
            elif self._phase is _Phase.CHUNK_LINE:
                at = self._read_whole_chunks(data, at, pieces)
                at += self._read_chunk_line(view[at : at + MAX_CHUNK_LINE_BYTES])
            elif self._phase is _Phase.CHUNK_END:
                at += self._read_chunk_end(view[at : at + 2])
            else:
                at += self._read_trailer(view[at : at + MAX_TRAILER_BYTES])
        if at < size:
            self.rest += bytes(view[at:])
        return pieces

    def _read_whole_chunks(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Take the chunks that are complete here, most of them; give where they end.

        One read may hold ten thousands: whoever sends those must not hold up the others.
        """
        if self._line:
            return at
        while match := _CHUNK_LINE.match(data, at, at + MAX_CHUNK_LINE_BYTES):
            start = match.end()
            end = start + int(match[1], 16)
            if start == end or not data.startswith(b"\r\n", end):
                break
            pieces.append(data[start:end])
            at = end + 2
        return at

    def _read_chunk_line(self, view: memoryview) -> int:
        line, taken = self._read_line(view)
        if len(line) > MAX_CHUNK_LINE_BYTES:
            raise MalformedRequest(f"a chunk line is longer than {MAX_CHUNK_LINE_BYTES} bytes")
        if line[-1:] != b"\n":
            if _BEGUN_CHUNK_LINE.fullmatch(line) is None:
                raise MalformedRequest("a chunk does not begin with its size in hexadecimal")
            self._line = line
            return taken
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise MalformedRequest("a chunk does not begin with its size in hexadecimal")
        self._left = int(match[1], 16)
        self._phase = _Phase.CHUNK if self._left else _Phase.TRAILERS
        return taken

    def _read_chunk_end(self, view: memoryview) -> int:
        line = self._line + bytes(view[: 2 - len(self._line)])
        taken = len(line) - len(self._line)
        if not b"\r\n".startswith(line):
            raise MalformedRequest("a chunk does not end with CR and LF after its bytes")
        self._line = b"" if line == b"\r\n" else line
        if not self._line:
            self._phase = _Phase.CHUNK_LINE
        return taken

    def _read_trailer(self, view: memoryview) -> int:
        line, taken = self._read_line(view)
        if line == b"\r\n":
            self._phase = _Phase.DONE
        elif line != b"\r" and self._trailer_bytes + len(line) > MAX_TRAILER_BYTES:
            raise MalformedRequest(f"the trailers are longer than {MAX_TRAILER_BYTES} bytes")
        elif line[-1:] != b"\n":
            if _BEGUN_TRAILER_LINE.fullmatch(line) is None:
                raise MalformedRequest("a trailer line is not NAME: value")
            self._line = line
        else:
            match = _TRAILER_LINE.fullmatch(line)
            if match is None:
                raise MalformedRequest("a trailer line is not NAME: value")
            if match[1].lower() in _NO_TRAILERS:
                raise MalformedRequest("a trailer says what only a header may say")
            self._trailer_bytes += len(line)
        return taken

    def _read_line(self, view: memoryview) -> tuple[bytes, int]:
        """Give the line so far, up to a LF where there is one, and how much of it is new."""
        new = bytes(view)
        end = new.find(b"\n") + 1
        if end:
            new = new[:end]
        line, self._line = self._line + new, b""
        return line, len(new)
