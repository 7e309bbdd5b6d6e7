"""What Microsoft's .NET library puts on the wire, byte for byte where it is known, by a raw peer.

The library itself needs a .NET SDK and the package Microsoft.Azure.Relay; where these are not to be
had, this is what stands in for it: the frames, headers and JSON of its source.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.interop.relay_on_443 import HOST, InteropRelay
from tests.support.raw import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Answer,
    Frame,
    RawPeer,
    close_frame,
    frame,
)

USER_AGENT = ("Relay-User-Agent", "azure-relay-dotnet/3.0.1 (Unix; .NET 8.0.0)")

ALLOWED = "Microsoft-Relay-AllowedListeners"
DISALLOWED = "Microsoft-Relay-DisallowedListeners"


def resource(path: str) -> str:
    """What the library signs: scheme http, no port, a slash at the end."""
    return f"http://{HOST}/{path}/"


def to_json(document: object) -> bytes:
    """JSON as the library's DataContractJsonSerializer writes it: each slash has a backslash."""
    return json.dumps(document).replace("/", "\\/").encode()


def check_101(answer: Answer, *, offered: tuple[str, ...] = ()) -> str | None:
    """Check a handshake's answer as ClientWebSocket does; give the sub-protocol, or None.

    It is strict about single values, and about a sub-protocol that it did not offer.
    """
    assert answer.status == 101, answer
    assert [each.lower() for each in answer.all("Upgrade")] == ["websocket"]
    assert [each.lower() for each in answer.all("Connection")] == ["upgrade"]
    assert len(answer.all("Sec-WebSocket-Accept")) == 1
    assert answer.all("Sec-WebSocket-Extensions") == []
    protocols = answer.all("Sec-WebSocket-Protocol")
    assert protocols in ([], *([each] for each in offered))
    return protocols[0] if protocols else None


class WebSocketStream:
    """The library's HybridConnectionStream: what `Read` gives, `Shutdown` and `CloseAsync`."""

    def __init__(self, peer: RawPeer) -> None:
        self.peer = peer
        self._has_sent_close = False

    async def write(self, data: bytes) -> None:
        """One `Write`, one binary message."""
        await self.peer.send(frame(BINARY, data))

    async def read(self) -> bytes:
        """One `Read`: empty at the peer's Close, and for an empty message, which looks the same."""
        while True:
            each = await self.peer.frame()
            if each.opcode == PING:
                await self.peer.send(frame(PONG, each.payload))
            elif each.opcode == CLOSE:
                return b""
            elif each.opcode != PONG:
                return each.payload

    async def read_to_end(self) -> bytes:
        """Read as CopyToAsync does: until a `Read` gives nothing."""
        whole = bytearray()
        while data := await self.read():
            whole += data
        return bytes(whole)

    async def shutdown(self) -> None:
        """Half-close: nothing more is written, reading goes on."""
        self._has_sent_close = True
        await self.peer.send(close_frame(1000, "Shutdown"))

    async def start_closing(self) -> None:
        """CloseAsync, up to where it waits for the peer's Close."""
        if not self._has_sent_close:
            await self.peer.send(close_frame(1000, "CloseAsync"))


@dataclass
class DotnetListener:
    """The library's HybridConnectionListener: a control channel, and what arrives on it."""

    relay: InteropRelay
    path: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    control: RawPeer = field(init=False, repr=False)

    async def __aenter__(self) -> Self:
        token = self.relay.token(resource(self.path))
        self.control, answer = await self.relay.peers.upgrade(
            f"/$hc/{self.path}?sb-hc-action=listen&sb-hc-id={self.id}",
            ("ServiceBusAuthorization", token),
            USER_AGENT,
        )
        check_101(answer)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.control.__aexit__()

    async def command(self, name: str) -> dict[str, object]:
        """Wait for a command; pings on the way are answered."""
        document = json.loads((await self._text()).payload)
        assert list(document) == [name], document
        command = document[name]
        assert isinstance(command, dict)
        return command

    async def body(self) -> bytes:
        """Read the binary message that follows a request with a body."""
        opcode, payload = await self.control.message()
        assert opcode == BINARY
        return payload

    async def accept(self, *, protocol: str | None = None) -> WebSocketStream:
        """AcceptConnectionAsync: the first protocol that the sender offered, unless told."""
        accept = await self.command("accept")
        headers = accept["connectHeaders"]
        assert isinstance(headers, dict)
        offered = headers.get("Sec-WebSocket-Protocol", "").partition(",")[0].strip()
        chosen = offered if protocol is None else protocol
        address = accept["address"]
        assert isinstance(address, str)
        peer, answer = await self.relay.peers.visit(
            address, *([("Sec-WebSocket-Protocol", chosen)] if chosen else [])
        )
        assert check_101(answer, offered=(chosen,)) == (chosen or None)
        return WebSocketStream(peer)

    async def reject(self, status: int, description: str) -> Answer:
        """An AcceptHandler that gives false."""
        accept = await self.command("accept")
        peer, answer = await self.relay.peers.visit(
            f"{accept['address']}&sb-hc-statusCode={status}&sb-hc-statusDescription={description}"
        )
        async with peer:
            return answer

    async def renew(self) -> None:
        """Send a new token, as the library does every hour."""
        token = self.relay.token(resource(self.path))
        await self.control.send(frame(TEXT, to_json({"renewToken": {"token": token}})))

    async def _text(self) -> Frame:
        while (each := await self.control.frame()).opcode != TEXT:
            assert each.opcode == PING, each
            await self.control.send(frame(PONG, each.payload))
        return each


async def connect(
    relay: InteropRelay, path: str, *headers: tuple[str, str], protocols: tuple[str, ...] = ()
) -> tuple[RawPeer, tuple[str, ...]]:
    """Start HybridConnectionClient.CreateConnectionAsync; its answer is still to come."""
    token = relay.token(resource(path))
    offered = [("Sec-WebSocket-Protocol", ", ".join(protocols))] if protocols else []
    peer = await relay.peers.start_sender(
        f"/$hc/{path}?sb-hc-action=connect&sb-hc-id={uuid.uuid4()}",
        ("ServiceBusAuthorization", token),
        USER_AGENT,
        *offered,
        *headers,
    )
    return peer, protocols


async def joined(
    relay: InteropRelay,
    listener: DotnetListener,
    *headers: tuple[str, str],
    protocols: tuple[str, ...] = (),
) -> tuple[WebSocketStream, WebSocketStream]:
    """A sender's stream and the listener's."""
    sender, offered = await connect(relay, listener.path, *headers, protocols=protocols)
    near = await listener.accept()
    check_101(await sender.answer(), offered=offered)
    return WebSocketStream(sender), near


# --- relayed HTTP --------------------------------------------------------------------------------


def text(command: object) -> bytes:
    """A command as a frame."""
    return frame(TEXT, to_json(command))


def response_to(
    request: Mapping[str, object], status: int = 200, *, has_body: bool, **fields: object
) -> dict[str, object]:
    """A ``response`` as the library writes it: a member that is null is left out."""
    response = {"requestId": request["id"], "statusCode": status, "body": has_body, **fields}
    return {"response": response}


async def answer(
    listener: DotnetListener,
    request: Mapping[str, object],
    status: int = 200,
    *,
    body: bytes = b"",
    **fields: object,
) -> None:
    """A handler that is done within 2 s and has at most 64 KiB: JSON, and one binary message."""
    await listener.control.send(
        text(response_to(request, status, has_body=bool(body), **fields))
        + (frame(BINARY, body) if body else b"")
    )


async def answer_by_rendezvous(
    peer: RawPeer, request: Mapping[str, object], *parts: bytes, status: int = 200
) -> None:
    """More than 64 KiB, or the 2 s timer: fragments, an empty FIN frame, Close NormalClosure."""
    await peer.send(text(response_to(request, status, has_body=True)))
    for number, part in enumerate(parts):
        await peer.send(frame(0 if number else BINARY, part, fin=False))
    await peer.send(frame(0, b"", fin=True) + close_frame(1000, "NormalClosure"))
