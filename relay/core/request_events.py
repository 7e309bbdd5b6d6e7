"""What happens to one relayed HTTP request, and what is to be done about it (section 7).

The events and actions of `relay.core.request_flow`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from hybridge.protocol.messages import Response


class Channel(enum.Enum):
    """Where a listener answers."""

    CONTROL = "control channel"
    RENDEZVOUS = "rendezvous"


# --- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ListenerCame:
    """A listener opened the request's address."""


@dataclass(frozen=True, slots=True)
class ResponseStarted:
    """A listener sent a ``response`` message."""

    channel: Channel
    response: Response


@dataclass(frozen=True, slots=True)
class ResponseBody:
    """More of the announced body came."""

    channel: Channel
    data: bytes


@dataclass(frozen=True, slots=True)
class ResponseEnded:
    """The announced body is complete."""

    channel: Channel


@dataclass(frozen=True, slots=True)
class ResponseUnusable:
    """The response names this request and cannot be passed on, or its body did not follow."""

    channel: Channel
    problem: str
    """A sentence for the sender."""


@dataclass(frozen=True, slots=True)
class ListenerViolated:
    """The listener broke the rules of the rendezvous socket (7.8)."""

    problem: str
    code: int = 1002


@dataclass(frozen=True, slots=True)
class ListenerClosed:
    """The listener sent a Close on the rendezvous socket."""

    is_clean: bool
    """Whether it says that this was all: code 1000, or none."""


@dataclass(frozen=True, slots=True)
class RendezvousBroken:
    """The rendezvous socket broke without a Close."""


@dataclass(frozen=True, slots=True)
class ControlChannelLost:
    """The control channel that carried the request is gone."""


@dataclass(frozen=True, slots=True)
class RequestComplete:
    """All of the request has been handed to the listener's socket."""


@dataclass(frozen=True, slots=True)
class SenderBroke:
    """The sender's body cannot be read; where it ends is not known."""

    status: int
    problem: str


@dataclass(frozen=True, slots=True)
class SenderLeft:
    """The sender's connection ended, or takes no more."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Nothing came for too long; see `RequestFlow.awaits`."""


Event = (
    ListenerCame
    | ResponseStarted
    | ResponseBody
    | ResponseEnded
    | ResponseUnusable
    | ListenerViolated
    | ListenerClosed
    | RendezvousBroken
    | ControlChannelLost
    | RequestComplete
    | SenderBroke
    | SenderLeft
    | TimePassed
)

# --- actions -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AcceptListener:
    """Answer the listener's visit 101. `sends_request`: and send it the request."""

    sends_request: bool


@dataclass(frozen=True, slots=True)
class DismissListener:
    """Answer the listener's visit with a refusal: the address is used or over."""


@dataclass(frozen=True, slots=True)
class StartResponse:
    """Send the sender the head of the listener's response."""

    response: Response


@dataclass(frozen=True, slots=True)
class SendBody:
    """Send the sender more of the body."""

    data: bytes


@dataclass(frozen=True, slots=True)
class EndResponse:
    """The response is complete."""


@dataclass(frozen=True, slots=True)
class RefuseSender:
    """Answer the sender with an error of the service (7.8)."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class AbortSender:
    """Break the sender's connection: its response is not complete, and must not look so."""

    why: str


@dataclass(frozen=True, slots=True)
class CloseRendezvous:
    """Send the listener a Close, and let go of the socket once it has answered."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class LeaveRendezvous:
    """Send nothing more, and wait shortly for the listener's Close; then break the socket.

    For a request whose body is not complete: a Close of ours would look like its end.
    """


@dataclass(frozen=True, slots=True)
class AbortRendezvous:
    """Break the rendezvous socket: the request's body is not complete, and must not look so."""


Action = (
    AcceptListener
    | DismissListener
    | StartResponse
    | SendBody
    | EndResponse
    | RefuseSender
    | AbortSender
    | CloseRendezvous
    | LeaveRendezvous
    | AbortRendezvous
)
