"""`RequestIntake`: what a listener does with the requests that its relay hands over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias
from weakref import WeakSet

from hybridge.control_channel import ControlChannel
from hybridge.exchange import Exchange, Surroundings, fetch
from hybridge.incoming_request import IncomingRequest
from hybridge.protocol import messages
from hybridge.protocol.errors import RelayError

_logger = logging.getLogger(__name__)

MAX_REQUESTS = 1_000
"""Most requests of one listener that are being answered or wait for that; more get 503."""

MAX_REFUSALS_AT_ONCE = 128
"""Requests over the limit that are answered 503 at a time; more are left to the relay's timer."""

RequestHandler: TypeAlias = Callable[[IncomingRequest], Awaitable[None]]
"""Answers one request; several run at a time."""


class RequestIntake:
    """Gives each request to the handler, or to the iteration, and answers where there is neither.

    Args:
        surroundings: Of the listener.
        max_requests: `MAX_REQUESTS`, or another bound.
    """

    def __init__(self, surroundings: Surroundings, *, max_requests: int) -> None:
        self.handler: RequestHandler | None = None
        self._surroundings = surroundings
        self._max_requests = max_requests
        self._is_iterated = False
        self._waiting: asyncio.Queue[IncomingRequest | None] = asyncio.Queue()
        self._serving: set[asyncio.Task[None]] = set()
        self._refusing: set[asyncio.Task[None]] = set()
        self._exchanges: WeakSet[Exchange] = WeakSet()
        self._is_leaving = False
        self._has_ended = False

    def take(self, request: messages.Request, body: bytes | None, channel: ControlChannel) -> None:
        """Take a request from the control channel, complete or only its address. Never waits."""
        if self._has_ended:
            return
        count = len(self._serving) + self._waiting.qsize()
        if count < self._max_requests and not self._is_leaving:
            self._start(self._serve, self._serving, request, body, channel)
        elif len(self._refusing) < MAX_REFUSALS_AT_ONCE:
            self._start(self._refuse, self._refusing, request, body, channel)
        else:
            _logger.warning("dropped a request: %d are being answered", self._max_requests)

    def _start(
        self,
        work: Callable[[IncomingRequest], Awaitable[None]],
        running: set[asyncio.Task[None]],
        request: messages.Request,
        body: bytes | None,
        channel: ControlChannel,
    ) -> None:
        task = self._surroundings.tasks.create_task(
            self._guard(work, request, body, channel), name=f"request {request.id or ''}"
        )
        running.add(task)
        task.add_done_callback(running.discard)

    async def _guard(
        self,
        work: Callable[[IncomingRequest], Awaitable[None]],
        request: messages.Request,
        body: bytes | None,
        channel: ControlChannel,
    ) -> None:
        """Keep one request's trouble from the others."""
        try:
            if request.is_complete:
                exchange = Exchange(request, self._surroundings, channel=channel)
            else:
                request, stream = await fetch(request.address, self._surroundings)
                exchange = Exchange(request, self._surroundings, stream=stream)
            self._exchanges.add(exchange)
            _logger.debug("request %s: %s", request.id, request.method)
            await work(IncomingRequest(exchange, body))
        except RelayError as error:
            _logger.info("request %s is over: %s", request.id or "", error)

    async def _serve(self, request: IncomingRequest) -> None:
        if self.handler is not None:
            try:
                async with request:
                    await self.handler(request)
            except Exception:
                # Logged and answered by the block; a handler's error ends its request only.
                _logger.debug("request %s ended with an error", request.id)
        elif self._is_iterated:
            self._waiting.put_nowait(request)
        else:
            await request.refuse(501, "The listener RequestHandler has not been configured.")

    async def _refuse(self, request: IncomingRequest) -> None:
        if self._is_leaving:
            await request.refuse(503, "The listener stops, and takes no more requests.")
        else:
            count = self._max_requests
            await request.refuse(503, f"The listener answers {count} requests already.")

    # --- the iteration, and the end -----------------------------------------------------------

    async def requests(self) -> AsyncIterator[IncomingRequest]:
        """Give the requests one by one, until `end`."""
        while (request := await self._waiting.get()) is not None:
            yield request
        self._waiting.put_nowait(None)

    def iterate(self) -> AsyncIterator[IncomingRequest]:
        """Begin to collect requests for an iteration."""
        self._is_iterated = True
        return self.requests()

    async def leave(self, seconds: float) -> None:
        """Refuse what comes from now on, and wait up to ``seconds`` for the running handlers."""
        self._is_leaving = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wait_idle()

    def end(self) -> None:
        """Take no more; the iteration ends. What is being answered goes on."""
        if not self._has_ended:
            self._has_ended = True
            self._waiting.put_nowait(None)

    async def wait_idle(self) -> None:
        """Wait until no handler runs."""
        while self._serving or self._refusing:
            await asyncio.wait(self._serving | self._refusing)

    def cancel(self) -> None:
        """Break off all that is not answered yet."""
        self.end()
        for task in (*self._serving, *self._refusing):
            task.cancel()
        for exchange in self._exchanges:
            if not exchange.over.is_set():
                exchange.give_up()
