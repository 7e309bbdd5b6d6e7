"""Carry one conversation of datagrams between a stream and UDP (section 10.3).

UDP has no end: a conversation is over when it has been silent for long enough, or when the other
end of the stream finishes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping

from hybridge.protocol.azbridge import LENGTH_BYTES, DatagramReader, datagram_header
from hybridge.protocol.errors import ConnectionLost, RelayError, Stopping
from hybridge.transport.ending import Ending
from hybridge.transport.stream import Stream

logger = logging.getLogger(__name__)

LAST_WORDS_SECONDS = 2.0
"""Once it shall end, how long a conversation may be silent: answers that are on their way."""


class Conversation:
    """Datagrams both ways between a stream and a UDP peer.

    Nothing is held back for the stream: while it takes no bytes, datagrams are lost, as UDP may
    lose them. Attributes:

        outcome: How it ended: ``idle``, ``finished``, ``stopped``, or what broke.
        to_stream, from_stream: Datagrams that were passed on.
        bytes_to_stream, bytes_from_stream: What they held.
        lost: Datagrams that the stream or the machine did not take.

    Args:
        stream: Behind the preamble. Nobody else reads it.
        deliver: Sends a datagram to the UDP peer; False where it was lost.
        idle_seconds: How long it may be silent.
        ends_with_stream: Whether it is over at once when the stream's other end finishes; else
            answers may still go there, until there are none for `LAST_WORDS_SECONDS`.
    """

    def __init__(
        self,
        stream: Stream,
        deliver: Callable[[bytes], bool],
        *,
        idle_seconds: float,
        ends_with_stream: bool,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._stream = stream
        self._deliver = deliver
        self._idle_seconds = idle_seconds
        self._ends_with_stream = ends_with_stream
        self._reader = DatagramReader()
        self._heard_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._over = asyncio.Event()
        self._error: RelayError | None = None
        self._reason = "idle"
        self.outcome = "stopped"
        self.to_stream = self.from_stream = 0
        self.bytes_to_stream = self.bytes_from_stream = 0
        self.lost = 0

    async def run(self, ending: Ending) -> None:
        """Carry until it is over, and close the stream.

        Args:
            ending: Of the program: what is said then may still be answered, and no more.

        Raises:
            ConnectionLost: The stream broke.
        """
        try:
            self._stream.attach(self)
            self._check()
            try:
                async with ending.grace():
                    await self._over.wait()
            except Stopping:
                self._wind_down("stopped")
                await self._over.wait()
            if self._error is not None:
                raise self._error
            await self._stream.close()
        finally:
            self._stream.abort()
            if self._timer is not None:
                self._timer.cancel()

    @property
    def is_over(self) -> bool:
        """Whether it passes nothing on any more."""
        return self._over.is_set()

    # --- from UDP -----------------------------------------------------------------------------

    def send(self, buffer: memoryview, start: int, end: int) -> None:
        """Send ``buffer[start:end]`` through the stream, as one message.

        As many bytes before ``start`` as `hybridge.transport.udp.ROOM_BYTES` may be overwritten.
        """
        self._heard_at = self._loop.time()
        if self._stream.is_blocked or self._over.is_set():
            self.lost += 1
            return
        size = end - start
        buffer[start - LENGTH_BYTES : start] = datagram_header(size)
        self._stream.write(buffer, start - LENGTH_BYTES, end)
        self.to_stream += 1
        self.bytes_to_stream += size

    # --- from the stream ----------------------------------------------------------------------

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        """Take what arrived; deliver each datagram that is whole."""
        if self._over.is_set():
            return
        self._heard_at = self._loop.time()
        for datagram in self._reader.feed(buffer, start, end):
            if self._deliver(datagram):
                self.from_stream += 1
                self.bytes_from_stream += len(datagram)
            else:
                self.lost += 1

    def ended(self) -> None:
        """Hear that the stream's other end has finished."""
        if not self._reader.is_between_datagrams:
            self.broken(ConnectionLost("the connection ended within a datagram"))
        elif self._ends_with_stream:
            self._finish("finished")
        else:
            self._wind_down("finished")

    def broken(self, error: RelayError) -> None:
        """Hear that the stream is gone."""
        if not self._over.is_set():
            self._error = error
            self._finish(str(error))

    def drained(self) -> None:
        """Hear that the stream takes bytes again: the next datagram will show."""

    # --- its end ------------------------------------------------------------------------------

    def _wind_down(self, reason: str) -> None:
        self._reason = reason
        self._idle_seconds = min(self._idle_seconds, LAST_WORDS_SECONDS)
        self._check()

    def _check(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        left = self._heard_at + self._idle_seconds - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check)
        else:
            self._finish(self._reason)

    def _finish(self, outcome: str) -> None:
        if not self._over.is_set():
            self.outcome = outcome
            self._over.set()


async def carry_datagrams(
    conversation: Conversation,
    ending: Ending,
    *,
    is_towards_target: bool,
    labels: Mapping[str, object],
) -> None:
    """Run a conversation, with one line in the log when it begins and one when it ends.

    Args:
        conversation: What to run. Its errors end here.
        ending: Of the program.
        is_towards_target: Whether the stream leads to the target, or to the application.
        labels: What both lines carry, among it the connection's id.
    """
    started = time.monotonic()
    logger.info("connection opened", extra={"event": "connection_opened", **labels})
    try:
        with contextlib.suppress(RelayError):  # It is the outcome.
            await conversation.run(ending)
    finally:
        each = conversation
        to, back = (each.to_stream, each.from_stream)
        to_bytes, back_bytes = (each.bytes_to_stream, each.bytes_from_stream)
        if not is_towards_target:
            to, back, to_bytes, back_bytes = back, to, back_bytes, to_bytes
        logger.info(
            "connection closed",
            extra={
                "event": "connection_closed",
                **labels,
                "seconds": round(time.monotonic() - started, 3),
                "datagrams_to_target": to,
                "datagrams_to_sender": back,
                "bytes_to_target": to_bytes,
                "bytes_to_sender": back_bytes,
                "datagrams_lost": each.lost,
                "outcome": each.outcome,
            },
        )
