"""Read an HTTP head from a stream, and not a byte more than came with it."""

from __future__ import annotations

import asyncio

from hybridge.protocol.errors import RelayError
from hybridge.transport.stream import Wire, replay


class HeadReader:
    """Collects bytes up to the blank line that ends an HTTP head; then stops reading.

    What came after the head is kept in `rest`.

    Args:
        stream: Where the head comes from.
        max_bytes: Longest head.
        early: What was read of it before.
    """

    def __init__(self, stream: Wire, *, max_bytes: int, early: bytes = b"") -> None:
        self._stream = stream
        self._early = early
        self._max_bytes = max_bytes
        self._bytes = bytearray()
        self._done: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self.rest = b""

    async def read(self) -> bytes | None:
        """Give the head, blank line included; None where the peer left or sent too much.

        `is_too_long` tells the two apart. A deadline is the caller's.
        """
        self._stream.attach(self)
        replay(self, self._early)
        if not self._done.done():
            self._stream.resume()
        return await self._done

    def give_up(self) -> None:
        """Wait for nothing more: `read` gives None."""
        self._stream.pause()
        self._finish(None)

    @property
    def is_too_long(self) -> bool:
        """Whether the limit was passed before a blank line came."""
        return len(self._bytes) > self._max_bytes

    @property
    def is_empty(self) -> bool:
        """Whether the peer sent nothing at all."""
        return not self._bytes

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        searched = max(0, len(self._bytes) - 3)
        self._bytes += buffer[start:end]
        found = self._bytes.find(b"\r\n\r\n", searched)
        size = found + 4
        if found >= 0 and size <= self._max_bytes:
            self._stream.pause()
            self.rest = bytes(self._bytes[size:])
            self._finish(bytes(self._bytes[:size]))
        elif len(self._bytes) > self._max_bytes:
            self._stream.pause()
            self._finish(None)

    def ended(self) -> None:
        self._finish(None)

    def broken(self, error: RelayError) -> None:
        self._finish(None)

    def drained(self) -> None:
        pass

    def _finish(self, head: bytes | None) -> None:
        if not self._done.done():
            self._done.set_result(head)
