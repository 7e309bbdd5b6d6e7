"""`OutgoingResponse`: how the answer to a relayed request travels (section 7.5)."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import logging
from types import TracebackType
from typing import Self

from hybridge.exchange import Exchange
from hybridge.protocol import messages
from hybridge.protocol.errors import ConnectionLost, RelayError

_logger = logging.getLogger(__name__)

RESPONSE_FLUSH_SECONDS = 2.0
"""A response that is not complete this long after it was begun leaves by a rendezvous."""

MAX_CONTROL_CHANNEL_RESPONSE_BYTES = 65_536
"""Most bytes, JSON and body together, of a response on the control channel."""

_STATUSES_WITHOUT_BODY = frozenset({204, 304})


def fits_control_channel(response: messages.Response, body_bytes: int) -> bool:
    """Whether a complete response may go by the control channel."""
    text = messages.serialize(response)
    return len(text) + body_bytes <= MAX_CONTROL_CHANNEL_RESPONSE_BYTES


class _State(enum.Enum):
    HELD = "held: the sender has nothing yet"
    STREAMING = "streaming: the head has left, by a rendezvous"
    COMPLETE = "complete"
    BROKEN = "broken"


class OutgoingResponse:
    """A response that is being written. `IncomingRequest.start` makes it.

    As Microsoft's .NET SDK has it: what is complete within 2 seconds and not larger than 65,536
    bytes, JSON and body together, is one answer on the control channel; anything else goes by a
    rendezvous as it is written, and a slow sender slows `send`. Leave it with `close`, or use it as
    ``async with``: an error in the block breaks the response, so that the sender sees that.
    """

    def __init__(
        self, exchange: Exchange, response: messages.Response, *, is_timed: bool = True
    ) -> None:
        exchange.check()
        self._exchange = exchange
        self._has_body = (
            exchange.request.method != "HEAD" and response.status_code not in _STATUSES_WITHOUT_BODY
        )
        # Checks it, and raises where it is too large for any way.
        self._head = messages.Response.from_fields(response.to_fields())
        self._room = MAX_CONTROL_CHANNEL_RESPONSE_BYTES - len(
            messages.serialize(dataclasses.replace(self._head, body=True))
        )
        self._held = bytearray()
        self._state = _State.HELD
        self._lock = asyncio.Lock()
        self._flusher: asyncio.Task[None] | None = None
        if is_timed:
            self._flusher = exchange.surroundings.tasks.create_task(
                self._flush_later(), name=f"flush response {response.request_id}"
            )

    @property
    def status(self) -> int:
        """HTTP status."""
        return self._head.status_code

    @property
    def is_complete(self) -> bool:
        """Whether all of it has been handed over."""
        return self._state is _State.COMPLETE

    @property
    def has_left(self) -> bool:
        """Whether the sender may have seen a part of it: it can only be completed or broken."""
        return self._state is not _State.HELD

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send more of the body; waits while the sender does not take it.

        To a HEAD request, and with the statuses 204 and 304, there is no body: it is dropped.

        Raises:
            ConnectionLost: The sender has gone, or the connection broke.
            RelayError: The rendezvous cannot be opened; see `hybridge.exchange.visit`.
        """
        self._check_open()
        if not self._has_body or not len(data):
            return
        async with self._lock:
            self._check_open()
            view = memoryview(data).cast("B")
            is_held = self._state is _State.HELD and not self._exchange.is_by_rendezvous
            if is_held and len(self._held) + len(view) <= self._room:
                self._held += view
                return
            await self._leave()
            stream = await self._exchange.rendezvous()
            try:
                await stream.send_fragment(view)
            except BaseException:
                # How much has left is unknown: what follows must not make it look whole.
                self.abort()
                raise

    async def close(self) -> None:
        """Complete the response. A second call does nothing.

        Raises:
            ConnectionLost: The sender has gone, or the connection broke: the response is dropped.
            RelayError: The rendezvous cannot be opened; see `hybridge.exchange.visit`.
        """
        if self._state is _State.COMPLETE:
            return
        self._check_open()
        async with self._lock:
            self._check_open()
            self._stop_flusher()
            if self._state is _State.HELD and await self._answer_at_once():
                self._state = _State.COMPLETE
                self._exchange.over.set()
                return
            await self._leave()
            stream = await self._exchange.rendezvous()
            if self._has_body:
                await stream.send_fragment(b"", is_last=True)
            self._state = _State.COMPLETE
            try:
                await stream.close()
            finally:
                self._exchange.over.set()

    async def _answer_at_once(self) -> bool:
        if self._exchange.is_by_rendezvous or len(self._held) > self._room:
            return False
        head = dataclasses.replace(self._head, body=bool(self._held))
        return await self._exchange.send_by_control_channel(head, bytes(self._held))

    async def _leave(self) -> None:
        """Send the head, and what was held, by a rendezvous."""
        if self._state is not _State.HELD:
            return
        try:
            stream = await self._exchange.rendezvous()
            self._state = _State.STREAMING
            head = dataclasses.replace(self._head, body=self._has_body)
            await stream.send_text(messages.serialize(head))
            if self._held:
                await stream.send_fragment(bytes(self._held))
                self._held.clear()
        except BaseException:
            self.abort()
            raise

    async def _flush_later(self) -> None:
        await asyncio.sleep(self._exchange.surroundings.flush_seconds)
        try:
            async with self._lock:
                await self._leave()
        except RelayError as error:
            _logger.info("response %s is dropped: %s", self._head.request_id, error)

    def _check_open(self) -> None:
        if self._state is _State.COMPLETE:
            raise RuntimeError("the response is complete already")
        if self._state is _State.BROKEN or self._exchange.is_lost:
            raise ConnectionLost(
                f"request {self._head.request_id} is over: nobody hears the answer"
            )

    def _stop_flusher(self) -> None:
        if self._flusher is not None:
            self._flusher.cancel()

    def abort(self) -> None:
        """Break the response off: a sender that saw a part of it sees that it is not whole."""
        if self._state is not _State.COMPLETE:
            self._state = _State.BROKEN
            self._stop_flusher()
            self._exchange.give_up()

    async def take_back(self) -> bool:
        """Drop the response, if nothing of it has left; another may be given then."""
        if self.has_left:
            return False
        async with self._lock:
            if self._state is not _State.HELD:
                return False
            self._state = _State.BROKEN
            self._stop_flusher()
            return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self.close()
        elif not isinstance(error, Exception) or not await self.take_back():
            self.abort()
