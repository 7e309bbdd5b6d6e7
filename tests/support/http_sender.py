"""A sender of relayed HTTP, read by another parser than the relay writes for: h11."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import h11

from tests.support.raw import RawPeer
from tests.support.relay import RunningRelay


@dataclass(frozen=True)
class HttpAnswer:
    """A whole response."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes


class HttpSender(RawPeer):
    """One connection to the relay, kept alive between requests."""

    http: h11.Connection
    relay: RunningRelay

    @classmethod
    async def connect(cls, relay: RunningRelay) -> HttpSender:
        sender = await cls.dial(relay.port, ca=relay.ca, name=relay.host)
        sender.http = h11.Connection(h11.CLIENT)
        sender.relay = relay
        return sender

    async def start(
        self, method: str, target: str, *, length: int | None = 0, **headers: str
    ) -> None:
        """Send a head with a good token; ``length=None`` for a chunked body."""
        framing = ("Transfer-Encoding", "chunked")
        if length is not None:
            framing = ("Content-Length", str(length))
        fields = [
            ("Host", self.relay.host),
            ("ServiceBusAuthorization", self.relay.token()),
            *headers.items(),
            *([framing] if length != 0 else []),
        ]
        raw = [(name.encode(), value.encode("latin-1")) for name, value in fields]
        await self._send(h11.Request(method=method, target=target, headers=raw))

    async def say(self, data: bytes) -> None:
        await self._send(h11.Data(data=data))

    async def finish(self) -> None:
        await self._send(h11.EndOfMessage())

    async def _send(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        await self.send(self.http.send(event) or b"")

    async def head(self) -> h11.Response:
        event = await self._event()
        assert isinstance(event, h11.Response), event
        return event

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give the body as it comes; an end that is none is h11's RemoteProtocolError."""
        while isinstance(event := await self._event(), h11.Data):
            yield bytes(event.data)
        assert isinstance(event, h11.EndOfMessage), event

    async def _event(self) -> object:
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await self.reader.read(65_536))
        return event

    async def ask(
        self, target: str, *, method: str = "GET", body: bytes = b"", **headers: str
    ) -> HttpAnswer:
        """Send a request, and read the whole answer."""
        await self.start(method, target, length=len(body), **headers)
        if body:
            await self.say(body)
        await self.finish()
        head = await self.head()
        whole = b"".join([piece async for piece in self.pieces()])
        if self.http.our_state is h11.DONE and self.http.their_state is h11.DONE:
            self.http.start_next_cycle()
        return HttpAnswer(
            head.status_code,
            bytes(head.reason).decode(),
            {name.decode(): value.decode() for name, value in head.headers},
            whole,
        )
