"""`IncomingRequest`: a relayed HTTP request, for a listener to answer (section 7)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from hybridge.exchange import Exchange
from hybridge.outgoing_response import OutgoingResponse
from hybridge.protocol import messages
from hybridge.protocol.errors import BodyTooLarge, ConnectionLost, RelayError
from hybridge.protocol.http_headers import response_headers_to_relay

_logger = logging.getLogger(__name__)

MAX_READ_BYTES = 16_777_216
"""Longest body that `RequestBody.read` gives, unless told otherwise."""

Headers = Mapping[str, str] | Iterable[tuple[str, str]]
"""Headers of a response; a name may come several times in pairs, and is joined by ``", "``."""


class RequestBody:
    """The body of a request, as it comes. Iterate it once, or `read` it whole.

    A body that is not read slows its sender down.
    """

    def __init__(self, exchange: Exchange, whole: bytes | None) -> None:
        self._stream = exchange.stream if exchange.request.body else None
        self._whole = whole
        self.length: int | None = None if self._stream is not None else len(whole or b"")
        """How many bytes it has, where that is known beforehand: up to 64 KiB."""
        self._is_complete = self._stream is None and not whole

    @property
    def is_complete(self) -> bool:
        """Whether all of it has been read."""
        return self._is_complete

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """Give the next bytes, as they came; never none.

        Raises:
            ConnectionLost: The sender has gone, or the connection broke, before the body ended.
        """
        while not self._is_complete:
            if self._stream is None:
                self._is_complete = True
                return self._whole or b""
            piece = await self._stream.receive()
            if piece.is_text:
                self._stream.abort()
                raise ConnectionLost("a text message came where the body is due")
            self._is_complete = piece.is_last
            if piece.data:
                return piece.data
        raise StopAsyncIteration

    async def read(self, *, max_bytes: int = MAX_READ_BYTES) -> bytes:
        """Give all of the body, or the rest of it.

        Raises:
            BodyTooLarge: It is longer than ``max_bytes``. Unless the handler catches that, the
                sender gets 413.
            ConnectionLost: The sender has gone, or the connection broke, before the body ended.
        """
        whole = bytearray()
        async for data in self:
            whole += data
            if len(whole) > max_bytes:
                raise BodyTooLarge(
                    f"the body is longer than {max_bytes} bytes",
                    hint="iterate over request.body, or read with a larger max_bytes",
                )
        return bytes(whole)


class IncomingRequest:
    """A sender's HTTP request that waits for its answer, 60 seconds at most.

    Give one answer, with `respond` or `start`. Used as ``async with``, which a handler need not do,
    a request that is left without one is answered 500; an error in the block is logged, and
    answered 500 or, where a part of the response has left, breaks it off.
    """

    def __init__(self, exchange: Exchange, body: bytes | None) -> None:
        request = exchange.request
        self.id = request.id or ""
        """Names the request in everybody's logs; the relay's TrackingId."""
        self.method = request.method or ""
        """As it was sent, upper case."""
        self.target = request.request_target or ""
        """Path, decoded, and query, as it was sent: ``/orders/my file?x=%20``. The path begins
        with the hybrid connection's name."""
        self.headers = request.request_headers
        """Spelled as they came. Those that came several times are joined by ``", "``."""
        self.remote_endpoint = request.remote_endpoint
        """The sender's address as the relay saw it, or None."""
        self.body = RequestBody(exchange, body)
        self._exchange = exchange
        self._response: OutgoingResponse | None = None

    def __repr__(self) -> str:
        return f"<IncomingRequest {self.id} {self.method}>"

    @property
    def response(self) -> OutgoingResponse | None:
        """The answer, once it has been begun."""
        return self._response

    async def respond(
        self,
        status: int,
        body: bytes | bytearray | memoryview | AsyncIterable[bytes] = b"",
        *,
        reason: str | None = None,
        headers: Headers = (),
    ) -> None:
        """Answer, and return when the whole response has been handed over.

        Args:
            status: HTTP status, 200 to 999.
            body: All of it, or pieces of it as they become known.
            reason: Reason phrase; None for the usual one of the status.
            headers: Of the response. Those that frame a body are the relay's, and left out.

        Raises:
            ConnectionLost: The sender has gone, or the connection broke.
            MalformedMessage: Status, reason or headers cannot be sent, or are over 64 KiB.
            RelayError: A rendezvous is needed and cannot be opened; see `hybridge.exchange.visit`.
            RuntimeError: The request has been answered already.
        """
        if isinstance(body, AsyncIterable):
            async with self._begin(status, reason, headers, is_timed=True) as response:
                async for data in body:
                    await response.send(data)
            return
        response = self._begin(status, reason, headers, is_timed=False)
        await response.send(body)
        await response.close()

    async def start(
        self, status: int, *, reason: str | None = None, headers: Headers = ()
    ) -> OutgoingResponse:
        """Begin an answer whose body is written piece by piece; arguments and errors as `respond`.

        The sender sees status and headers at the latest after 2 seconds, or as soon as there are
        more than 64 KiB.
        """
        return self._begin(status, reason, headers, is_timed=True)

    def _begin(
        self, status: int, reason: str | None, headers: Headers, *, is_timed: bool
    ) -> OutgoingResponse:
        if self._response is not None:
            raise RuntimeError(f"request {self.id} has been answered already")
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        head = messages.Response(
            request_id=self.id,
            status_code=status,
            status_description=reason,
            response_headers=response_headers_to_relay(pairs),
        )
        self._response = OutgoingResponse(self._exchange, head, is_timed=is_timed)
        return self._response

    async def wait_over(self) -> None:
        """Wait until the response is complete, or the sender is known to have gone.

        Of a request that came by the control channel that is not known before a part of the
        response has left.
        """
        await self._exchange.over.wait()

    def abandon(self) -> None:
        """Give no answer, or no more of it: the sender gets an error, or a broken response."""
        if self._response is not None:
            self._response.abort()
        else:
            self._exchange.give_up()

    # --- what a handler left undone -----------------------------------------------------------

    async def refuse(self, status: int, message: str) -> None:
        """Answer with a reason that names the request, as Microsoft's listeners do. Clause 112.

        The same text is the body, since many clients show no reason phrases.

        Args:
            status: HTTP status.
            message: One sentence, with its full stop; the TrackingId is added.
        """
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        tracker = self._exchange.surroundings.tracker
        reason = f"{message} TrackingId:{self.id}, SystemTracker:{tracker}, Timestamp:{now}"
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        await self.respond(status, f"{reason}\n".encode(), reason=reason, headers=headers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        response = self._response
        if response is not None and response.is_complete:
            if error is not None:
                self._log(error)
            return
        if error is not None and not isinstance(error, Exception) and not _is_own(error):
            self.abandon()
            return
        if self._exchange.is_lost:
            _logger.info("request %s was over before it was answered: %s", self.id, error)
            self.abandon()
            return
        self._log(error)
        if response is not None and not await response.take_back():
            response.abort()
            return
        self._response = None
        await self._fail(error)

    def _log(self, error: BaseException | None) -> None:
        if error is None:
            _logger.error("request %s was left without a whole answer", self.id)
        elif isinstance(error, RelayError):
            _logger.error("the handler of request %s failed: %s", self.id, error)
        else:
            _logger.error("the handler of request %s failed", self.id, exc_info=error)

    async def _fail(self, error: BaseException | None) -> None:
        try:
            if isinstance(error, BodyTooLarge):
                await self.refuse(413, "The body of the request is too large.")
            elif error is None:
                await self.refuse(500, "The listener RequestHandler gave no answer.")
            else:
                await self.refuse(500, "The listener RequestHandler threw an exception.")
        except RelayError as problem:
            _logger.info("request %s could not be answered: %s", self.id, problem)
            self.abandon()


def _is_own(error: BaseException) -> bool:
    """Whether a handler ran into a cancellation of its own making: nobody cancelled its task."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and not (task and task.cancelling())
