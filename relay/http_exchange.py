"""One relayed HTTP request: sender and listener meet the heart (`relay.core.request_flow`)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hybridge.protocol import http_headers, messages
from hybridge.protocol.errors import MalformedMessage, MalformedRequest
from relay.core.listeners import Delivery, RequestInvitation
from relay.core.operations import Operation
from relay.core.request_events import (
    AbortRendezvous,
    AbortSender,
    AcceptListener,
    Action,
    CloseRendezvous,
    DismissListener,
    EndResponse,
    Event,
    LeaveRendezvous,
    ListenerCame,
    RefuseSender,
    RequestComplete,
    SendBody,
    SenderBroke,
    SenderLeft,
    StartResponse,
    TimePassed,
)
from relay.core.request_flow import Awaited, RequestFlow, may_go_inline
from relay.diagnostics import report
from relay.http_sender import HttpSender
from relay.request_leg import RequestLeg
from relay.settings import RelaySettings
from relay.visit import Visit

BODY_TOO_SLOW = "The request body did not come in time."
HEADERS_TOO_LARGE = "The request headers are too large for the listener."

_FAILURES = {
    502: Operation.LISTENER_ACCEPTING_HTTP_REQUEST_FAILED,
    504: Operation.LISTENER_ACCEPTING_REQUEST_TIMEOUT,
}


class Exchange:
    """A request from its head to the end of its response.

    Args:
        visit: The request; its token has been checked.
        entity: Namespace and hybrid connection, as the directory knows them.
        settings: Waits and limits.
        is_last: Whether the sender's connection carries no further request.
    """

    def __init__(
        self, visit: Visit, *, entity: str, settings: RelaySettings, is_last: bool = False
    ) -> None:
        self.visit = visit
        self.entity = entity
        self.invitation: RequestInvitation | None = None
        self.outcome = Operation.LISTENER_SENT_HTTP_RESPONSE
        """What it came to, for the log."""
        self.why = "its response is complete"
        self.status = 0
        """HTTP status of the answer; 0 while there is none."""
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self.sender = HttpSender(visit, self, is_last=is_last)
        self.leg: RequestLeg | None = None
        self._flow: RequestFlow | None = None
        self._delivery: Delivery | None = None
        self._undelivered: list[Event] = []
        self._body = bytearray()
        self._collected: asyncio.Future[None] | None = None
        self.delivered: asyncio.Future[None] = self._loop.create_future()
        """Done when a listener has been told, or it is over before."""
        self.over: asyncio.Future[bool] = self._loop.create_future()
        """Done at the end; whether the sender has got one whole response."""
        self._began_at = self._active_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._awaited: Awaited | None = None
        self._held_before = 0
        self._stalled_since: float | None = None

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return round(self._loop.time() - self._began_at, 3)

    @property
    def payload_bytes(self) -> int:
        """What of both bodies has been carried so far."""
        return self.sender.body_bytes + self.sender.sent_bytes

    @property
    def held_bytes(self) -> int:
        """What is held back for sender and listener."""
        leg = self.leg.wire.held_bytes if self.leg is not None else 0
        return self.sender.wire.held_bytes + leg

    # --- before a listener is told ------------------------------------------------------------

    async def collect(self) -> bytes | None:
        """Wait for a body that the control channel may carry.

        Returns:
            All of it; None where the request must go by rendezvous, or is `over`.
        """
        if self.over.done() or not may_go_inline(self.sender.body.length):
            return None
        if not self.sender.body.is_done:
            self._collected = self._loop.create_future()
            self.sender.want_body()
            await self._collecting(self._collected)
        return None if self.over.done() else bytes(self._body)

    async def _collecting(self, collected: asyncio.Future[None]) -> None:
        while not collected.done():
            before = len(self._body)
            try:
                async with asyncio.timeout(self._settings.body_gap_seconds):
                    await asyncio.shield(collected)
            except TimeoutError:
                if len(self._body) == before and not self.over.done():
                    self.refuse(408, BODY_TOO_SLOW)

    def refuse(self, status: int, message: str) -> None:
        """Answer with an error before any listener is told."""
        self._refuse(status, message)
        self._end(is_answered=True)

    def deliver(self, delivery: Delivery) -> None:
        """Hear how a listener was told."""
        if self.over.done():
            delivery.forget()
            return
        self._delivery = delivery
        self._flow = RequestFlow(delivery.form)
        self._body = bytearray()
        self._touch()
        self._watch()
        self._settle_delivered()
        early, self._undelivered = self._undelivered, []
        if early:
            self.take(early)

    def _settle_delivered(self) -> None:
        if not self.delivered.done():
            self.delivered.set_result(None)

    # --- what the sender does -----------------------------------------------------------------

    def request_body(self, pieces: list[bytes], *, is_done: bool) -> None:
        """Hand on more of the body."""
        if self.over.done():
            return
        if self.leg is not None:
            self.leg.send_body(pieces, is_last=is_done)
            self._touch()
            if is_done:
                self._tell(RequestComplete())
            if self.leg.is_blocked:
                self.sender.hold()
            return
        for piece in pieces:
            self._body += piece
        if is_done and self._collected is not None and not self._collected.done():
            self._collected.set_result(None)

    def sender_broke(self, error: MalformedRequest) -> None:
        """Hear that the body cannot be read any further."""
        if self._flow is None:
            self.refuse(error.status or 400, f"{error}.")
        else:
            self._tell(SenderBroke(error.status or 400, f"{error}."))

    def sender_left(self) -> None:
        """Hear that the sender has gone."""
        if not self.over.done():
            self._note(Operation.SENDER_CONNECTION_CLOSED, "the sender left")
            self._end(is_answered=False)
            self._tell(SenderLeft())

    def sender_drained(self) -> None:
        """Hear that the sender has taken all there was."""
        self._touch()
        if self.leg is not None:
            self.leg.resume()

    # --- what the listener does ---------------------------------------------------------------

    def meet(self, visit: Visit, accept: list[tuple[str, str]]) -> RequestLeg | None:
        """Let a listener in that opened the address; None where it is dismissed."""
        if self._flow is None:
            return None  # The sender left before.
        for action in self._flow.handle(ListenerCame()):
            if isinstance(action, AcceptListener):
                return self._accept(visit, accept, sends_request=action.sends_request)
            assert isinstance(action, DismissListener)  # noqa: S101  # there is no third
        return None

    def _accept(
        self, visit: Visit, accept: list[tuple[str, str]], *, sends_request: bool
    ) -> RequestLeg:
        assert self.invitation is not None  # noqa: S101  # it is delivered
        visit.switch_protocols(accept)
        leg = self.leg = RequestLeg(
            visit.wire, request_id=self.invitation.id, owner=self, settings=self._settings
        )
        self._touch()
        if sends_request:
            self._send_request(leg)
        self._watch()
        leg.start(visit.early)
        return leg

    def _send_request(self, leg: RequestLeg) -> None:
        assert self.invitation is not None and self._delivery is not None  # noqa: S101, PT018
        # An empty body is announced all the same: Microsoft's Java SDK needs it (7.3).
        message = self.invitation.message(self._delivery.address, has_body=True)
        limit = messages.MAX_RENDEZVOUS_REQUEST_BYTES
        try:
            text = messages.serialize(message, max_bytes=limit)
        except MalformedMessage:
            leg.start(b"")
            self._tell(SenderBroke(431, HEADERS_TOO_LARGE))
            return
        leg.send_request(text.encode())
        if self.invitation.body is not None:
            # It was collected, and went by rendezvous for the size of its headers.
            leg.send_body([self.invitation.body], is_last=True)
            self._tell(RequestComplete())
        elif self.sender.body.is_done:
            leg.send_body([], is_last=True)
            self._tell(RequestComplete())
        else:
            self.sender.want_body()

    def take(self, events: Sequence[Event]) -> None:
        """Hear what a listener sent, on either channel."""
        if self._flow is None:
            if not self.over.done():
                self._undelivered += events
            return
        self._touch()
        self._perform([action for event in events for action in self._flow.handle(event)])

    def leg_drained(self) -> None:
        """Hear that the listener has taken all there was."""
        self._touch()
        self.sender.read_on()

    # --- actions ------------------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        if self._flow is not None:
            self._perform(self._flow.handle(event))

    def _perform(self, actions: list[Action]) -> None:
        is_whole = any(isinstance(action, EndResponse) for action in actions)
        for action in actions:
            match action:
                case SendBody(data):
                    self.sender.send_body(data)
                case StartResponse(response):
                    length = None
                    if is_whole:
                        length = sum(len(a.data) for a in actions if isinstance(a, SendBody))
                    self._start_response(response, length)
                case EndResponse():
                    self.sender.end_response()
                    self.sender.flush()
                    self._end(is_answered=True)
                case RefuseSender(status, message):
                    self._refuse(status, message)
                    self._end(is_answered=True)
                case AbortSender(why):
                    self._note(Operation.LISTENER_RETURNING_HTTP_RESPONSE_FAILED, why)
                    self.sender.wire.abort()
                    self._end(is_answered=False)
                case CloseRendezvous(code, reason):
                    if self.leg is not None:
                        self.leg.close(code, reason)
                case LeaveRendezvous():
                    if self.leg is not None:
                        self.leg.leave()
                case AbortRendezvous():
                    if self.leg is not None:
                        self.leg.abort()
        if not self.over.done():
            self._flush()
            self._watch()

    def _flush(self) -> None:
        self.sender.flush()
        if self.sender.wire.takes_no_more:
            self.sender_left()
        elif self.leg is not None and self.sender.wire.is_blocked:
            self.leg.pause()

    def _start_response(self, response: messages.Response, length: int | None) -> None:
        headers = http_headers.response_headers_to_sender(
            response.response_headers, via_host=self.visit.host
        )
        has_type = any(name.lower() == "content-type" for name, _ in headers)
        if response.body and not has_type:
            headers.append(("Content-Type", self._settings.default_response_content_type))
        self.status = response.status_code
        returning = Operation.LISTENER_RETURNING_HTTP_RESPONSE
        report(returning, "a response begins", labels=self.visit.labels, status=self.status)
        self.sender.start_response(
            response.status_code, response.status_description, headers, body_length=length
        )

    def _refuse(self, status: int, message: str) -> None:
        failed = _FAILURES.get(status, Operation.PROCESSING_REQUEST_FAILED)
        self._note(failed, message)
        self.status = status
        self.sender.refuse(status, message)

    def _note(self, outcome: Operation, why: str) -> None:
        self.outcome, self.why = outcome, why

    def abort(self, why: str) -> None:
        """Break everything."""
        if not self.over.done():
            self._note(Operation.PROCESSING_REQUEST_FAILED, why)
            self.sender.wire.abort()
            self._end(is_answered=False)
            self._tell(SenderLeft())
        if self.leg is not None:
            self.leg.abort()

    def _end(self, *, is_answered: bool) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._delivery is not None:
            delivery, self._delivery = self._delivery, None
            delivery.forget()
        if not self.over.done():
            self.over.set_result(is_answered)
        if self._collected is not None and not self._collected.done():
            self._collected.set_result(None)
        self._settle_delivered()

    # --- time ---------------------------------------------------------------------------------

    def _touch(self) -> None:
        self._active_at = self._loop.time()

    def _watch(self) -> None:
        """Set the timer where another limit holds than before."""
        if self._flow is not None and self._flow.awaits is not self._awaited:
            self._awaited = self._flow.awaits
            self._set_timer(self._active_at + self._limit())

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if self.over.done() else self._loop.call_at(at, self._check_time)

    def _check_time(self) -> None:
        now = self._loop.time()
        due = self._active_at + self._limit()
        is_sender_slow = self.sender.wire.is_blocked
        if is_sender_slow and self._is_stalled(now):
            self.abort("the sender took nothing for too long")
        elif is_sender_slow or (self.leg is not None and self.leg.is_blocked):
            due = now + self._limit()  # Who is slow is slowed; the leg's own watch sees it stall.
        elif now >= due:
            self._tell(TimePassed())
        self._set_timer(due)

    def _is_stalled(self, now: float) -> bool:
        held = self.sender.wire.held_bytes
        if self._stalled_since is None or held != self._held_before:
            self._held_before, self._stalled_since = held, now
        return now - self._stalled_since >= self._settings.stalled_peer_timeout_seconds

    def _limit(self) -> float:
        settings = self._settings
        assert self._flow is not None  # noqa: S101  # it is delivered
        match self._flow.awaits:
            case Awaited.VISIT:
                return settings.accept_timeout_seconds
            case Awaited.RETURN:
                return settings.listener_return_seconds
            case Awaited.RESPONSE:
                return settings.response_timeout_seconds
            case Awaited.REQUEST_BODY | Awaited.RESPONSE_BODY:
                return settings.body_gap_seconds
