"""One relayed HTTP request, forwarded to one HTTP target: h11 on a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import h11

from hcm_agent.allow_list import TargetNotAllowed
from hcm_agent.http_target import HttpTarget, sender_headers, target_headers, target_path
from hcm_agent.settings import Target
from hcm_agent.target import DIAL_SECONDS, describe
from hybridge.incoming_request import IncomingRequest
from hybridge.outgoing_response import OutgoingResponse
from hybridge.protocol.errors import (
    ConnectionLost,
    MalformedAddress,
    RelayError,
    TargetTimedOut,
    Unreachable,
)
from hybridge.protocol.redaction import one_line
from hybridge.transport.ending import Ending
from hybridge.transport.names import Admit
from hybridge.transport.stream import Stream
from hybridge.transport.tcp import dial_socket, open_tcp
from hybridge.transport.tls import open_tls

logger = logging.getLogger(__name__)

RESPONSE_SECONDS = 60.0
"""How long a target that has the whole request may take to answer: the relay waits as long."""

MAX_HEAD_BYTES = 65_536
"""Longest head of a target's response: no more fits into a message to the relay."""


class TargetFailed(RelayError):
    """The target answered nothing that can be passed on."""

    status = 502


class HttpDialer:
    """Opens connections to HTTP targets.

    Args:
        ca: PEM file of authorities that may vouch for ``https`` targets, beside the system's.
    """

    def __init__(self, ca: Path | None = None) -> None:
        self._ca = ca
        self._context: ssl.SSLContext | None = None

    async def dial(self, target: HttpTarget, *, admit: Admit | None = None) -> Stream:
        """Open TCP, and TLS where the target has it. A deadline is the caller's.

        Args:
            target: Where to.
            admit: Chooses from its addresses; its errors pass. None: all.

        Raises:
            RelayError: It cannot be reached, or its certificate is not trusted; 502 or 504.
        """
        sock = await dial_socket(target.host, target.port, admit=admit)
        if target.scheme == "http":
            return await open_tcp(sock)
        if self._context is None:
            self._context = ssl.create_default_context()
            self._context.set_alpn_protocols(["http/1.1"])
            if self._ca is not None:
                self._context.load_verify_locations(cafile=self._ca)
        try:
            return await open_tls(sock, self._context, server_hostname=target.host)
        except ssl.SSLCertVerificationError as error:
            raise TargetFailed(
                f"the certificate of {target.host_port} is not trusted: {error.verify_message}",
                hint="give the authority that signed it with --ca",
            ) from error
        except OSError as error:
            raise TargetFailed(
                f"TLS with {target.host_port} failed: {error.strerror or error}",
                hint="check that this port speaks TLS, else write http:// instead of https://",
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpForward:
    """What the requests of one hybrid connection are forwarded with."""

    target: HttpTarget
    hybrid_connection: str
    dial: Callable[[HttpTarget], Awaitable[Stream]]
    """With a deadline."""
    labels: Mapping[str, object]
    """What each log line carries."""
    ending: Ending
    """Of the agent: what has not reached the target then is refused soon."""

    async def forward(self, request: IncomingRequest) -> None:
        """Forward a request, and its answer; both are streamed, and a slow side slows the other.

        A target that cannot be reached is told to the sender as 502 or 504, with the reason. What
        goes wrong after the head has left breaks the response. One line in the log at the end.

        Raises:
            ConnectionLost: The sender has gone, or the relay cannot be reached.
        """
        started = time.monotonic()
        exchange = _TargetExchange(request)
        labels = {**self.labels, "id": request.id, "target": str(self.target)}
        outcome = "stopped"
        try:
            outcome = await self._forward(request, exchange)
        except RelayError as error:
            outcome = str(error)
            if exchange.response is not None:
                request.abandon()
                raise
            reason = self._describe(error)
            not_allowed = isinstance(error, TargetNotAllowed)
            event = "target_not_allowed" if not_allowed else "request_refused"
            fields = {"event": event, **labels, "hint": error.hint}
            logger.warning("refused: %s", reason, extra=fields)
            await request.refuse(error.status or 502, reason)
        finally:
            logger.info(
                "request relayed",
                extra={
                    "event": "request_relayed",
                    **labels,
                    "method": request.method,
                    "status": request.response.status if request.response else 0,
                    "seconds": round(time.monotonic() - started, 3),
                    "bytes_to_target": exchange.sent_bytes,
                    "bytes_to_sender": exchange.received_bytes,
                    "outcome": outcome,
                },
            )

    async def _forward(self, request: IncomingRequest, exchange: _TargetExchange) -> str:
        head = self._head(request)
        async with self.ending.grace(DIAL_SECONDS):
            stream = await self.dial(self.target)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(exchange.run(stream, head), name="http exchange")
                over = tasks.create_task(request.wait_over(), name="sender")
                await asyncio.wait({running, over}, return_when=asyncio.FIRST_COMPLETED)
                if not running.done():
                    running.cancel()
                over.cancel()
        finally:
            stream.abort()
        if exchange.error is not None:
            raise exchange.error
        is_whole = exchange.response is not None and exchange.response.is_complete
        return "finished" if is_whole else "the sender has gone"

    def _describe(self, error: RelayError) -> str:
        if isinstance(error, MalformedAddress | TargetNotAllowed):
            return str(error)
        return describe(Target(self.target.host, self.target.port), error)

    def _head(self, request: IncomingRequest) -> h11.Request:
        try:
            return h11.Request(
                method=request.method,
                target=target_path(self.target, self.hybrid_connection, request.target),
                headers=target_headers(
                    self.target,
                    request.headers,
                    method=request.method,
                    body_bytes=request.body.length,
                ),
            )
        except (h11.LocalProtocolError, UnicodeEncodeError) as error:
            raise MalformedAddress(f"HTTP cannot carry the request: {error}") from error


class _TargetExchange:
    """One request and its answer, on one connection to the target."""

    def __init__(self, request: IncomingRequest) -> None:
        self._request = request
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self.response: OutgoingResponse | None = None
        self.error: RelayError | None = None
        self.sent_bytes = 0
        """Of the request's body."""
        self.received_bytes = 0
        """Of the response's body."""

    async def run(self, stream: Stream, head: h11.Request) -> None:
        """Do all of it; what fails is in `error`."""
        try:
            await stream.send(self._http.send(head) or b"")
            async with asyncio.TaskGroup() as tasks:
                deadline = asyncio.timeout(None)
                uploading = tasks.create_task(self._upload(stream, deadline), name="upload")
                await self._download(stream, deadline)
                # A target may answer without having read everything.
                uploading.cancel()
        except* RelayError as group:
            self.error = _first(group)
        except* h11.RemoteProtocolError as group:
            self.error = TargetFailed(
                f"the target's answer is no HTTP: {one_line(str(group.exceptions[0]))}",
                hint="check that an HTTP service listens on this port",
            )

    async def _upload(self, stream: Stream, deadline: asyncio.Timeout) -> None:
        async for data in self._request.body:
            try:
                for piece in self._http.send_with_data_passthrough(h11.Data(data=data)) or ():
                    await stream.send(piece)
            except ConnectionLost:
                return  # What it answered before it closed counts; `_download` hears the rest.
            self.sent_bytes += len(data)
        with contextlib.suppress(ConnectionLost):
            await stream.send(self._http.send(h11.EndOfMessage()) or b"")
        if self.response is None:
            deadline.reschedule(asyncio.get_running_loop().time() + RESPONSE_SECONDS)

    async def _download(self, stream: Stream, deadline: asyncio.Timeout) -> None:
        try:
            async with deadline:
                head = await self._response_head(stream)
                deadline.reschedule(None)
        except TimeoutError as error:
            raise TargetTimedOut(
                f"the target did not answer the request within {RESPONSE_SECONDS:g} s"
            ) from error
        reason = bytes(head.reason).decode("latin-1")
        self.response = await self._request.start(
            head.status_code,
            reason=reason or None,
            headers=sender_headers(head.headers.raw_items()),
        )
        while True:
            event = await self._event(stream)
            if isinstance(event, h11.Data):
                self.received_bytes += len(event.data)
                await self.response.send(event.data)
            elif isinstance(event, h11.EndOfMessage):
                await self.response.close()
                return

    async def _response_head(self, stream: Stream) -> h11.Response:
        while True:
            event = await self._event(stream)
            if isinstance(event, h11.Response):
                return event
            if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
                raise TargetFailed("the target switched protocols, which was not asked for")

    async def _event(self, stream: Stream) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            data = await stream.receive()
            if not data and self.response is None and not self._http.trailing_data[0]:
                raise TargetFailed("the target closed the connection without an answer")
            self._http.receive_data(data)
        return event


def _first(group: BaseExceptionGroup[RelayError]) -> RelayError:
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    return Unreachable("the target failed")
