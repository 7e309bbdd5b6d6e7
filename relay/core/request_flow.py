"""One relayed HTTP request, from its delivery to the end of its response (section 7).

Knows the protocol, touches no socket and no clock. The form of delivery is chosen here too.
"""

from __future__ import annotations

import enum
from typing import Final

from hybridge.protocol.messages import Response
from relay.core.request_events import (
    AbortRendezvous,
    AbortSender,
    AcceptListener,
    Action,
    Channel,
    CloseRendezvous,
    ControlChannelLost,
    DismissListener,
    EndResponse,
    Event,
    LeaveRendezvous,
    ListenerCame,
    ListenerClosed,
    ListenerViolated,
    RefuseSender,
    RendezvousBroken,
    RequestComplete,
    ResponseBody,
    ResponseEnded,
    ResponseStarted,
    ResponseUnusable,
    SendBody,
    SenderBroke,
    SenderLeft,
    StartResponse,
    TimePassed,
)

MAX_INLINE_BODY_BYTES: Final = 65_536
"""Largest request body that the control channel carries (clauses 92, 93)."""

NO_RESPONSE: Final = (
    "The request was routed to the listener but the listener did not respond in the required time."
)
BODY_STOPPED: Final = f"{NO_RESPONSE} No more of the request's body came."
LISTENER_GONE: Final = "The listener broke off before it answered the request."
BODY_MISSING: Final = "The listener announced a body and did not send it."
UNUSABLE: Final = "The listener's response cannot be passed on"


class State(enum.Enum):
    """Where a request stands."""

    WAITING = "waiting"
    """The listener has been told, and has not answered."""

    ANNOUNCED = "announced"
    """The response is there but for its body; the sender has got nothing, so an error still can."""

    ANSWERING = "answering"
    """The sender has got the head of the response."""

    ENDED = "ended"


class Form(enum.Enum):
    """How a request reaches its listener (section 7.3)."""

    CONTROL_CHANNEL = "control channel"
    """Whole, on the control channel."""

    RENDEZVOUS = "rendezvous"
    """The control channel has the address only; the listener opens it, and gets the request."""


def may_go_inline(body_length: int | None) -> bool:
    """Whether a request body may go by the control channel, as far as its length decides.

    Args:
        body_length: Bytes, or None where they are not known beforehand (chunked).
    """
    return body_length is not None and body_length <= MAX_INLINE_BODY_BYTES


class Awaited(enum.Enum):
    """What a request waits for, and so which time limit holds."""

    VISIT = "the listener's visit"
    REQUEST_BODY = "more of the request's body"
    RESPONSE = "the listener's response"
    RETURN = "a listener that lost its control channel, and may come to the address"
    RESPONSE_BODY = "more of the response's body"


class RequestFlow:
    """One request that a listener has been told of.

    Tell it what happened; carry out the actions it answers, in order.

        WAITING ── response ──▶ ANNOUNCED ── its body begins ──▶ ANSWERING ── it ends ──▶ ENDED
           │                        │ error for the sender           │ abort               ▲
           └── no answer: error ────┴────────────────────────────────┴─────────────────────┘

    A response without a body goes from WAITING to ENDED. One whose body comes by rendezvous skips
    ANNOUNCED: its head goes out at once, since its body may take its time. On the control channel
    the two come together, and a body that does not come can still be told as an error.

    Args:
        form: How the listener was told.
    """

    __slots__ = (
        "_channel",
        "_has_come",
        "_is_lost",
        "_is_open",
        "_response",
        "form",
        "is_request_complete",
        "state",
    )

    def __init__(self, form: Form) -> None:
        self.form = form
        self.state = State.WAITING
        self.is_request_complete = form is Form.CONTROL_CHANNEL
        self._channel: Channel | None = None
        self._response: Response | None = None
        self._has_come = False
        self._is_open = False
        self._is_lost = False

    @property
    def awaits(self) -> Awaited:
        """What comes next, if anything does."""
        if self.state is not State.WAITING:
            return Awaited.RESPONSE_BODY
        if not self._has_come:
            if self._is_lost:
                return Awaited.RETURN
            return Awaited.VISIT if self.form is Form.RENDEZVOUS else Awaited.RESPONSE
        return Awaited.RESPONSE if self.is_request_complete else Awaited.REQUEST_BODY

    def handle(self, event: Event) -> list[Action]:
        """Move on, and say what to do."""
        match event:
            case ListenerCame():
                return self._listener_came()
            case _ if self.state is State.ENDED:
                return []  # News that came too late to matter.
            case ResponseBody(channel, data):
                return self._body(data) if self._carries(channel) else []
            case ResponseStarted(channel, response):
                return self._started(channel, response)
            case ResponseEnded(channel):
                return self._complete() if self._carries(channel) else []
            case ResponseUnusable(channel, problem):
                is_first = self.state is State.WAITING
                return self._failed(502, problem) if is_first or self._carries(channel) else []
            case ListenerViolated(problem, code):
                return self._violated(problem, code)
            case ListenerClosed(is_clean):
                return self._rendezvous_ended(is_complete=is_clean, is_closed=True)
            case RendezvousBroken():
                return self._rendezvous_ended(is_complete=False, is_closed=False)
            case ControlChannelLost():
                return self._control_channel_lost()
            case RequestComplete():
                self.is_request_complete = True
                return []
            case SenderBroke(status, problem):
                return self._failed(status, problem)
            case SenderLeft():
                return self._ended([])
            case TimePassed():
                return self._time_passed()

    def _listener_came(self) -> list[Action]:
        if self.state is State.ENDED or self._has_come:
            # Clause 71: an address is good once.
            return [DismissListener()]
        self._has_come = self._is_open = True
        return [AcceptListener(sends_request=self.form is Form.RENDEZVOUS)]

    # --- the response -------------------------------------------------------------------------

    def _carries(self, channel: Channel) -> bool:
        return self._channel is channel

    def _started(self, channel: Channel, response: Response) -> list[Action]:
        if self.state is not State.WAITING:
            return []  # It has been answered on the other channel.
        self._channel = channel
        if not response.body:
            return self._ended([StartResponse(response), EndResponse()])
        if channel is Channel.CONTROL:
            self.state = State.ANNOUNCED
            self._response = response
            return []
        self.state = State.ANSWERING
        return [StartResponse(response)]

    def _head(self) -> list[Action]:
        response, self._response = self._response, None
        self.state = State.ANSWERING
        return [] if response is None else [StartResponse(response)]

    def _body(self, data: bytes) -> list[Action]:
        if self.state is State.ANSWERING:
            return [SendBody(data)]
        return [*self._head(), SendBody(data)]

    def _complete(self) -> list[Action]:
        return self._ended([*self._head(), EndResponse()])

    # --- the ends -----------------------------------------------------------------------------

    def _ended(self, actions: list[Action]) -> list[Action]:
        """End after these actions, with nobody at fault."""
        is_answered = any(isinstance(action, EndResponse) for action in actions)
        self.state = State.ENDED
        self._response = None
        if self._is_open:
            self._is_open = False
            if self.is_request_complete:
                actions.append(CloseRendezvous(1000, "NormalClosure"))
            elif is_answered:
                actions.append(LeaveRendezvous())
            else:
                actions.append(AbortRendezvous())
        return actions

    def _failed(self, status: int, problem: str) -> list[Action]:
        """End with an error for the sender, if it can still be told one."""
        if self.state is State.ANSWERING:
            return self._ended([AbortSender(problem)])
        return self._ended([RefuseSender(status, problem)])

    def _violated(self, problem: str, code: int) -> list[Action]:
        if not self._is_open:
            return []
        self._is_open = False
        close = CloseRendezvous(code, problem)
        if self._channel is Channel.CONTROL:
            return [close]  # The response comes elsewhere.
        return [*self._failed(502, f"{UNUSABLE}: {problem}"), close]

    def _rendezvous_ended(self, *, is_complete: bool, is_closed: bool) -> list[Action]:
        if not self._is_open:
            return []
        answers: list[Action] = [CloseRendezvous(1000, "NormalClosure")] if is_closed else []
        self._is_open = False
        if self._channel is Channel.CONTROL:
            return answers
        if self._channel is Channel.RENDEZVOUS and is_complete:
            return [*self._complete(), *answers]  # Clause 101.
        return [*self._failed(502, LISTENER_GONE), *answers]

    def _control_channel_lost(self) -> list[Action]:
        if self._channel is Channel.CONTROL:
            return self._failed(502, LISTENER_GONE)
        self._is_lost = True
        return []

    def _time_passed(self) -> list[Action]:
        match self.awaits:
            case Awaited.RETURN:
                return self._failed(502, LISTENER_GONE)
            case Awaited.REQUEST_BODY:
                return self._failed(504, BODY_STOPPED)
            case Awaited.VISIT | Awaited.RESPONSE:
                return self._failed(504, NO_RESPONSE)
            case Awaited.RESPONSE_BODY:
                return self._failed(504, f"{NO_RESPONSE} {BODY_MISSING}")
