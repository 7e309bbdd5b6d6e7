"""The sender's side of one HTTP request: its body in, one response out, and what comes behind it.

A request is read once, and answered at most once. The response's bytes of one turn leave together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Protocol

from hybridge.protocol.errors import MalformedRequest, RelayError
from hybridge.transport.stream import replay
from relay.core import tracking
from relay.request_body import BodyReader
from relay.response_writer import ResponseWriter
from relay.visit import Visit

MAX_EARLY_BYTES = 262_144
"""Body bytes held before the listener is there to take them; then the sender is not read."""

MAX_PIPELINED_BYTES = 65_536
"""Bytes of later requests held while one is served; then the sender is not read."""


class SenderEvents(Protocol):
    """Is told what a sender does during its request."""

    def request_body(self, pieces: list[bytes], *, is_done: bool) -> None:
        """More of the body came, and perhaps its end."""

    def sender_broke(self, error: MalformedRequest) -> None:
        """The body cannot be read any further."""

    def sender_left(self) -> None:
        """The connection ended, or takes no more."""

    def sender_drained(self) -> None:
        """All that was written has left."""


class HttpSender:
    """One request of a sender, from the end of its head on.

    Args:
        visit: The request.
        events: Who is told; None where the body is not wanted.
        is_last: Whether the connection carries no further request, whatever the sender wishes.
    """

    def __init__(
        self, visit: Visit, events: SenderEvents | None = None, *, is_last: bool = False
    ) -> None:
        self.visit = visit
        self.wire = visit.wire
        self.body = BodyReader(visit.head)
        self._events = events
        self.is_last = is_last
        """Whether the connection ends with this request; may be set until the response begins."""
        self._is_wanted = False
        self._is_held = False
        self._is_broken = False
        self._is_gone = False
        self._early = bytearray()
        self._pipelined = bytearray()
        self._writer = ResponseWriter(visit.head)
        self._out: list[bytes] = []
        self._flushed: asyncio.Future[None] | None = None
        self.body_bytes = 0
        """Bytes of the request's body so far."""
        self.sent_bytes = 0
        """Bytes of the response's body so far."""

    def start(self) -> None:
        """Take over the connection: read on, with what came with the head."""
        self.wire.attach(self)
        early, self.visit.early = self.visit.early, b""
        replay(self, early)
        if self.wire.is_open and not self._is_held:
            self.wire.resume()

    # --- the request --------------------------------------------------------------------------

    def want_body(self) -> None:
        """Read the body, and hand it on from now on."""
        self._is_wanted = True
        if not (self._early or self.body.is_done):
            # A sender that waits for this word has sent nothing yet.
            self._out.append(self._writer.continue_())
            self.flush()
        self.read_on()
        early, self._early = bytes(self._early), bytearray()
        self._read_body(early)

    def hold(self) -> None:
        """Read no more for now: the listener is slower."""
        if not self._is_held:
            self._is_held = True
            self.wire.pause()

    def read_on(self) -> None:
        """Read again."""
        if self._is_held and len(self._pipelined) < MAX_PIPELINED_BYTES:
            self._is_held = False
            self.wire.resume()

    def _read_body(self, data: bytes | memoryview) -> None:
        if self._is_broken:
            return
        try:
            pieces = self.body.feed(data)
        except MalformedRequest as error:
            self._is_broken = True
            self.hold()
            if self._events is not None:
                self._events.sender_broke(error)
            return
        self.body_bytes += sum(map(len, pieces))
        is_done = self.body.is_done
        if is_done:
            self._keep(self.body.rest)
        if self._events is not None:
            self._events.request_body(pieces, is_done=is_done)

    def _keep(self, data: bytes | memoryview) -> None:
        self._pipelined += data
        if len(self._pipelined) >= MAX_PIPELINED_BYTES:
            self.hold()

    # --- what the stream tells ----------------------------------------------------------------

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        """Take what the sender sent."""
        if self.body.is_done:
            self._keep(buffer[start:end])
        elif self._is_wanted:
            self._read_body(buffer[start:end])
        else:
            self._early += buffer[start:end]
            if len(self._early) >= MAX_EARLY_BYTES:
                self.hold()

    def ended(self) -> None:
        """Hear that the sender ended TLS or TCP: it waits for no answer any more."""
        self._left()

    def broken(self, error: RelayError) -> None:
        """Hear that the stream broke."""
        self._left()

    def drained(self) -> None:
        """Hear that all that was held has been written."""
        if self.wire.takes_no_more:
            self._left()
            return
        self._settle()
        if self._events is not None:
            self._events.sender_drained()

    def _left(self) -> None:
        self._is_gone = True
        self._settle()
        if self._events is not None:
            self._events.sender_left()

    def _settle(self) -> None:
        if self._flushed is not None and not self._flushed.done():
            self._flushed.set_result(None)

    # --- the response -------------------------------------------------------------------------

    def start_response(
        self,
        status: int,
        reason: str | None,
        headers: Iterable[tuple[str, str]],
        *,
        body_length: int | None,
    ) -> None:
        """Begin the response. A request whose body is not all here yet is the connection's last."""
        if self.is_last or not self.body.is_done:
            self._writer.keeps_alive = False
        self._out.append(
            self._writer.start(status, reason, headers, body_length=body_length, now=time.time())
        )

    def send_body(self, data: bytes) -> None:
        """Send more of the response's body."""
        self.sent_bytes += len(data)
        self._out.append(self._writer.data(data))

    def end_response(self) -> None:
        """Complete the response."""
        self._out.append(self._writer.end())

    def answer(self, status: int, reason: str, body: bytes, *headers: tuple[str, str]) -> None:
        """Send a whole response of the relay's own."""
        self.start_response(status, reason, headers, body_length=len(body))
        self._out += (self._writer.data(body), self._writer.end())
        self.flush()

    def refuse(self, status: int, message: str) -> None:
        """Send an error of the service: a status and the JSON body of section 7.8."""
        reason = self.visit.reason(message, http=True)
        headers = [("Content-Type", "application/json")]
        if status == 503:
            headers.append(("Retry-After", "1"))
        self.answer(status, reason, tracking.error_body(status, reason), *headers)

    def flush(self) -> None:
        """Write what has been given since the last time."""
        out, self._out = self._out, []
        if any(out):
            self.wire.send_now(out[0] if len(out) == 1 else b"".join(out))

    # --- the end ------------------------------------------------------------------------------

    async def finish(self, *, stall_seconds: float) -> bytes | None:
        """After the response: give what the sender sent behind its request, for the next.

        Returns:
            None where there is no next: the connection has been ended, in order.
        """
        if self._is_gone or not (self._writer.keeps_alive and self.body.is_done):
            await self.wire.close(stall_seconds=stall_seconds)
            return None
        # Who does not read its responses gets no more of them.
        while self.wire.is_blocked and self.wire.is_open:
            before = self.wire.held_bytes
            self._flushed = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(stall_seconds):
                    await self._flushed
            except TimeoutError:
                if self.wire.held_bytes >= before:
                    self.wire.abort()
        self.wire.pause()
        return None if self._is_gone or not self.wire.is_open else bytes(self._pipelined)
