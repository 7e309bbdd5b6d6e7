"""Who is online, and how a listener is told of a sender (section 4.6).

`ListenerDirectory` is the seam for several relay nodes that share their listeners: the sender's
node asks it, and does not know where the listener's control channel ends. `Listeners` is its form
within one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from hybridge.protocol.errors import EndpointNotFound, QuotaExceeded
from hybridge.protocol.messages import RemoteEndpoint, Request
from relay.core.request_events import Event
from relay.core.request_flow import Form

MAX_LISTENERS = 25
"""Listeners of one hybrid connection (clause 57)."""

NO_LISTENERS = "There are no listeners connected for the endpoint."
ALL_EXCLUDED = (
    "None of the connected listeners meet the AllowedListeners/DisallowedListeners criteria."
)

_ALLOWED = "microsoft-relay-allowedlisteners"
_DISALLOWED = "microsoft-relay-disallowedlisteners"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """What a listener needs to know of a sender, but for the host by which it reaches the relay."""

    id: str
    """Names the connection in everybody's logs."""

    path: str
    """Hybrid connection and suffix as the sender wrote them, percent-encoded."""

    query: str
    """The sender's own query, without ``sb-hc-`` parameters."""

    secret: str
    """What makes the rendezvous address known to the listener alone."""

    connect_headers: Mapping[str, str]
    remote_endpoint: RemoteEndpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestInvitation:
    """What a listener needs to know of an HTTP request, but for the host of its address."""

    id: str
    """Names the request; the response repeats it, so it is never the sender's choice."""

    path: str
    """Hybrid connection and suffix as the sender wrote them, percent-encoded."""

    query: str
    """The sender's own query, without ``sb-hc-`` parameters."""

    secret: str
    """What makes the rendezvous address known to the listener alone."""

    request_target: str
    method: str
    request_headers: Mapping[str, str]
    remote_endpoint: RemoteEndpoint

    body: bytes | None
    """The whole body, where the control channel may carry it: empty if there is none. None: the
    request goes by rendezvous."""

    def message(self, address: str, *, has_body: bool) -> Request:
        """Give the complete ``request`` message (7.2)."""
        return Request(
            address=address,
            id=self.id,
            request_target=self.request_target,
            method=self.method,
            remote_endpoint=self.remote_endpoint,
            request_headers=self.request_headers,
            body=has_body,
        )


class Answers(Protocol):
    """Is told what a listener answers on its control channel, one read at a time."""

    def take(self, events: Sequence[Event]) -> None:
        """Hear of the response and its body, or that the control channel is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How a request was handed to a listener."""

    listener_id: str
    address: str
    """Where the listener can come, for the request or with the response."""

    form: Form
    forget: Callable[[], None]
    """Call it when the request is over: what the listener still says of it is then ignored."""


class ControlChannelHandle(Protocol):
    """A listener's control channel, as the directory sees it."""

    def invite(self, invitation: Invitation) -> None:
        """Tell the listener of a sender.

        Raises:
            QuotaExceeded: The message would be longer than a control message may be.
        """

    def request(self, invitation: RequestInvitation, answers: Answers) -> tuple[str, Form]:
        """Tell the listener of an HTTP request; give its address, and how it was told."""
        ...

    def forget(self, request_id: str) -> None:
        """Ignore what the listener still says of a request."""

    def retire(self, code: int, reason: str) -> None:
        """Close it once the requests that it carries have been answered."""

    def close(self, code: int, reason: str) -> None:
        """Close it with a WebSocket close code."""


@dataclass(frozen=True, slots=True)
class Criteria:
    """Which listeners a sender allows: all, those named, or those not named. Ids in lower case."""

    allowed: frozenset[str] | None = None
    disallowed: frozenset[str] = frozenset()

    @classmethod
    def from_headers(cls, headers: Sequence[tuple[str, str]]) -> Criteria:
        """Read ``Microsoft-Relay-AllowedListeners`` and ``-DisallowedListeners``."""
        named: dict[str, set[str]] = {}
        for name, value in headers:
            key = name.lower()
            if key in (_ALLOWED, _DISALLOWED):
                ids = (part.strip().lower() for part in value.split(","))
                named.setdefault(key, set()).update(i for i in ids if i)
        allowed = named.get(_ALLOWED)
        return cls(
            allowed=None if not allowed else frozenset(allowed),
            disallowed=frozenset(named.get(_DISALLOWED, ())),
        )

    def admits(self, listener_id: str) -> bool:
        """Whether this listener may be chosen."""
        key = listener_id.lower()
        return key not in self.disallowed and (self.allowed is None or key in self.allowed)


class ListenerDirectory(Protocol):
    """How a sender's node reaches listeners, wherever they are."""

    async def invite(self, entity: str, invitation: Invitation, criteria: Criteria) -> str:
        """Tell one listener, chosen at random among those admitted; give its id.

        Raises:
            EndpointNotFound: Nobody is online, or all are excluded.
        """
        ...

    async def request(
        self, entity: str, invitation: RequestInvitation, criteria: Criteria, answers: Answers
    ) -> Delivery:
        """Hand an HTTP request to one listener, chosen as in `invite`.

        What it answers on its control channel comes to ``answers``, wherever that channel ends;
        what it brings to the rendezvous address comes to the sender's node directly.

        Raises:
            EndpointNotFound: Nobody is online, or all are excluded.
        """
        ...

    def count(self, entity: str) -> int:
        """Say how many listeners are online."""
        ...


class Listeners:
    """The listeners of one process.

    An entity is named by its namespace and hybrid connection in lower case: ``demo-ns/orders-db``.

    Args:
        choose: Picks one of several, as `random.choice` does.
        limit: Most listeners of one hybrid connection.
        limit_status: HTTP status for one too many.
    """

    def __init__(
        self,
        choose: Callable[[Sequence[str]], str],
        *,
        limit: int = MAX_LISTENERS,
        limit_status: int = 429,
    ) -> None:
        self._choose = choose
        self._limit = limit
        self._limit_status = limit_status
        self._online: dict[str, dict[str, ControlChannelHandle]] = {}

    def register(self, entity: str, listener_id: str, channel: ControlChannelHandle) -> None:
        """Put a listener online. An older channel of the same id is replaced, and closed with 1001.

        Raises:
            QuotaExceeded: The hybrid connection has all the listeners it may have.
        """
        channels = self._online.setdefault(entity, {})
        key = listener_id.lower()
        older = channels.get(key)
        if older is None and len(channels) >= self._limit:
            raise QuotaExceeded(
                f"QuotaExceeded: The maximum number of listeners ({self._limit}) is connected.",
                hint="stop a listener, or use another hybrid connection",
                status=self._limit_status,
            )
        channels[key] = channel
        if older is not None:
            older.close(1001, "Replaced by a newer control channel of the same listener.")

    def unregister(self, entity: str, listener_id: str, channel: ControlChannelHandle) -> None:
        """Take a listener offline; of a channel that was replaced, nothing is left to do."""
        channels = self._online.get(entity, {})
        if channels.get(listener_id.lower()) is channel:
            del channels[listener_id.lower()]
            if not channels:
                del self._online[entity]

    def count(self, entity: str) -> int:
        """Say how many listeners are online."""
        return len(self._online.get(entity, ()))

    def channels(self, entity: str) -> Iterator[ControlChannelHandle]:
        """Give the control channels of one hybrid connection."""
        return iter(list(self._online.get(entity, {}).values()))

    def entities(self) -> list[str]:
        """Name the hybrid connections that have a listener."""
        return list(self._online)

    async def invite(self, entity: str, invitation: Invitation, criteria: Criteria) -> str:
        """Tell one listener, chosen at random among those admitted; give its id.

        Raises:
            EndpointNotFound: Nobody is online, or all are excluded.
            QuotaExceeded: The sender's headers do not fit a control message.
        """
        chosen, channel = self._chosen(entity, criteria)
        channel.invite(invitation)
        return chosen

    async def request(
        self, entity: str, invitation: RequestInvitation, criteria: Criteria, answers: Answers
    ) -> Delivery:
        """Hand an HTTP request to one listener, chosen as in `invite`.

        Raises:
            EndpointNotFound: Nobody is online, or all are excluded.
        """
        chosen, channel = self._chosen(entity, criteria)
        address, form = channel.request(invitation, answers)
        return Delivery(
            listener_id=chosen,
            address=address,
            form=form,
            forget=partial(channel.forget, invitation.id),
        )

    def _chosen(self, entity: str, criteria: Criteria) -> tuple[str, ControlChannelHandle]:
        channels = self._online.get(entity)
        if not channels:
            raise EndpointNotFound(NO_LISTENERS, hint="start a listener, such as `hcm run`")
        candidates = [listener_id for listener_id in channels if criteria.admits(listener_id)]
        if not candidates:
            raise EndpointNotFound(ALL_EXCLUDED, hint="correct the ids in the two headers")
        chosen = self._choose(candidates)
        return chosen, channels[chosen]
