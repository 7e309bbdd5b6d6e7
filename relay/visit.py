"""A request at the gateway, from its head on: what every door needs to know of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.server import ServerProtocol

from hybridge.protocol.address import Target
from hybridge.protocol.errors import MalformedRequest, RelayError
from hybridge.protocol.messages import RemoteEndpoint
from hybridge.protocol.redaction import one_line
from hybridge.transport.stream import Wire
from relay.core import tracking
from relay.namespace import Namespace
from relay.request_head import RequestHead
from relay.responses import response, switching_protocols

Rest = Callable[[], Awaitable[None]]
"""What is left to do for a request once it has been answered."""


@dataclass(slots=True, kw_only=True)
class Visit:
    """One request: its head, its connection, and where it leads."""

    wire: Wire
    head: RequestHead
    early: bytes
    """What was read after the head."""

    remote: RemoteEndpoint
    tracking_id: str
    host: str
    """The namespace host as the request named it, without a port."""

    target: Target
    namespace: Namespace
    _labels: Mapping[str, str] | None = field(default=None, init=False, repr=False)

    @property
    def path(self) -> str:
        """Hybrid connection and suffix, as the request wrote them."""
        return self.target.path

    @property
    def entity(self) -> str:
        """Namespace and hybrid connection in lower case; of one that is not there, the path."""
        found = self.namespace.find(self.target.segments)
        name = found[0].name if found else tracking.shown_path(self.path)
        return f"{self.namespace.name}/{name}".lower()

    @property
    def labels(self) -> Mapping[str, str]:
        """What every log line about this request carries. Made once, at its first line."""
        if self._labels is None:
            entity = one_line(self.entity)
            self._labels = {
                "id": self.tracking_id,
                "hybrid_connection": entity,
                "endpoint": f"sb://{self.host}/{entity.partition('/')[2]}",
            }
        return self._labels

    def reason(self, message: str, *, http: bool = False) -> str:
        """Write a reason phrase: message, TrackingId, SystemTracker, Timestamp (clause 45)."""
        return tracking.phrase(
            message,
            tracking_id=self.tracking_id,
            host=self.host,
            path=self.path,
            now=time.time(),
            http=http,
        )

    def websocket_accept(self) -> list[tuple[str, str]]:
        """Check the WebSocket handshake; give the headers of the 101.

        Raises:
            MalformedRequest: It is none that RFC 6455 knows.
            UnknownWebSocketVersion: It is of another version than 13.
        """
        request = Request(
            path=self.head.target,
            headers=Headers(self.head.headers),
            method=self.head.method,
            protocol=f"HTTP/{self.head.http_version}",
        )
        if self.head.values("Sec-WebSocket-Version") not in ([], ["13"]):
            raise UnknownWebSocketVersion("Only version 13 of WebSocket is spoken here.")
        if self.head.announces_body:
            # What follows the head would be frames to us, and a body to a proxy before us.
            raise MalformedRequest("This is no WebSocket handshake: it announces a body.")
        answer = ServerProtocol().accept(request)
        if answer.status_code != 101:
            problem = (answer.body or b"").decode().strip().rpartition(": ")[2]
            raise MalformedRequest(f"This is no WebSocket handshake: {problem}")
        return [(name, value) for name, value in answer.headers.raw_items() if name != "Date"]

    async def refuse(self, status: int, reason: str, *headers: tuple[str, str]) -> None:
        """Answer a WebSocket handshake with a status and end the connection (section 4.2)."""
        self.wire.send_now(response(status, reason, headers, now=time.time()))
        await self.wire.close()

    async def refuse_for(self, error: RelayError) -> None:
        """Answer a WebSocket handshake with the status that an error stands for."""
        headers = []
        if isinstance(error, UnknownWebSocketVersion):
            headers.append(("Sec-WebSocket-Version", "13"))
        if error.status == 503:
            headers.append(("Retry-After", "1"))
        await self.refuse(error.status or 500, self.reason(sentence(error)), *headers)

    def switch_protocols(
        self, accept: list[tuple[str, str]], *, subprotocol: str | None = None
    ) -> None:
        """Answer 101."""
        self.wire.send_now(
            switching_protocols(accept, tracking_id=self.tracking_id, subprotocol=subprotocol)
        )


class UnknownWebSocketVersion(MalformedRequest):
    """The handshake is of another version of WebSocket than 13."""


def sentence(error: RelayError) -> str:
    """Give an error's words with a full stop."""
    text = str(error)
    return text if text.endswith((".", "'")) else f"{text}."
