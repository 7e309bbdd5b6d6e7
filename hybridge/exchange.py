"""One relayed request's ways back to its sender: the control channel, or a rendezvous."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from hybridge.control_channel import ControlChannel
from hybridge.protocol import messages
from hybridge.protocol.errors import ConnectionLost, MalformedMessage, Unreachable
from hybridge.rendezvous import dial_rendezvous, join_rendezvous
from hybridge.transport.dialer import Dialer
from hybridge.transport.message_stream import MessageStream, open_message_stream
from hybridge.transport.timing import Timing

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What every request of one listener stands on."""

    dialer: Dialer
    timing: Timing
    tasks: asyncio.TaskGroup
    """Of the listener: nothing outlives it."""

    tracker: str
    """Host and hybrid connection, as ``host:path``, for the texts of errors."""

    flush_seconds: float
    """How long a begun response may wait to be completed before it leaves (section 7.5)."""


async def visit(url: str, surroundings: Surroundings) -> MessageStream:
    """Open a request's rendezvous. No token is needed there.

    Raises:
        HandshakeRefused: The request is over, or its sender has gone.
        MalformedAddress: The address leads outside the namespace.
        UntrustedCertificate: The certificate there is not trusted.
        Unreachable: It cannot be reached, or did not answer in time.
    """
    timing = surroundings.timing
    wire = await dial_rendezvous(surroundings.dialer, url, timing)
    return await join_rendezvous(wire, open_message_stream(wire, url, timing=timing), timing)


async def fetch(url: str, surroundings: Surroundings) -> tuple[messages.Request, MessageStream]:
    """Open the rendezvous at which a request waits, and read its head there (section 7.3).

    Raises:
        ConnectionLost: The sender has gone, or the connection broke.
        MalformedMessage: What came is no complete request.
        RelayError: See `visit`.
    """
    stream = await visit(url, surroundings)
    try:
        async with asyncio.timeout(surroundings.timing.open_timeout_seconds):
            text = await stream.receive_text()
            message = messages.parse(text, max_bytes=messages.MAX_RENDEZVOUS_REQUEST_BYTES)
        if not isinstance(message, messages.Request) or not message.is_complete:
            raise MalformedMessage("what came at the rendezvous is no complete request")
    except TimeoutError as error:
        stream.abort()
        raise Unreachable("the rendezvous gave no request in time") from error
    except BaseException:
        stream.abort()
        raise
    return message, stream


class Exchange:
    """What leads back to the sender of one request.

    Args:
        request: Complete.
        surroundings: Of the listener.
        channel: The control channel that the request came by; None for a rendezvous.
        stream: The rendezvous that the request came by; None for the control channel.
    """

    def __init__(
        self,
        request: messages.Request,
        surroundings: Surroundings,
        *,
        channel: ControlChannel | None = None,
        stream: MessageStream | None = None,
    ) -> None:
        self.request = request
        self.surroundings = surroundings
        self.stream = stream
        self.over = asyncio.Event()
        """Set when the response is complete, or the sender is known to have gone."""
        self._channel = channel
        self._is_given_up = False
        if stream is not None:
            stream.when_gone(self.over.set)

    @property
    def is_by_rendezvous(self) -> bool:
        """Whether a rendezvous is open: then the response must take it."""
        return self.stream is not None

    @property
    def is_lost(self) -> bool:
        """Whether nothing can be answered any more."""
        return self._is_given_up or (self.stream is not None and self.stream.is_gone)

    def check(self) -> None:
        """Raise ConnectionLost where nothing can be answered any more."""
        if self.is_lost:
            raise ConnectionLost(f"request {self.request.id} is over: it cannot be answered")

    async def rendezvous(self) -> MessageStream:
        """Give the rendezvous; open it where the request came by the control channel.

        Raises:
            ConnectionLost: The exchange is over.
            RelayError: See `visit`.
        """
        self.check()
        if self.stream is None:
            stream = await visit(self.request.address, self.surroundings)
            if self._is_given_up:
                stream.abort()
            self.stream = stream
            stream.when_gone(self.over.set)
        return self.stream

    async def send_by_control_channel(self, response: messages.Response, body: bytes) -> bool:
        """Answer where the request came from; False where that channel has closed.

        An answer belongs to the channel of its request: a later one does not know it.
        """
        if self._channel is None or not self._channel.is_open:
            return False
        try:
            await self._channel.send(response, body or None)
        except ConnectionLost:
            return False
        return True

    def give_up(self) -> None:
        """Break off, so that a sender that got a part of the response sees that it is broken."""
        self._is_given_up = True
        if self.stream is not None:
            self.stream.abort()
        self.over.set()
