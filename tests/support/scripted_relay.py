"""A relay without opinions: it shakes hands, and then says to a listener what the test says."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, urlsplit

from websockets.http11 import Request as Handshake
from websockets.server import ServerProtocol

from hybridge.protocol.connection_string import ConnectionString, serialize
from hybridge.protocol.secret import Secret
from tests.support.raw import BINARY, CLOSE, DEADLINE_SECONDS, TEXT, Frame, RawPeer, frame
from tests.support.relay import HOST, KEY, certificate

REQUEST_ID = "2d6c8e0e-58d0-4b0f-9c3f-51a5e2b1a001_G3"


class RelayEnd(RawPeer):
    """The relay's end of one WebSocket: masked frames in, unmasked ones out."""

    handshake: Handshake

    async def frame(self) -> Frame:
        first, second = await self.receive_exactly(2)
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(await self.receive_exactly(2 if size == 126 else 8), "big")
        assert second & 0x80, "a client masks"
        key = await self.receive_exactly(4)
        payload = await self.receive_exactly(size) if size else b""
        whole = (key * (size // 4 + 1))[:size]
        plain = (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(
            size, "big"
        )
        return Frame(first & 0x0F, plain, bool(first & 0x80), masked=True)

    async def say(self, name: str, **fields: object) -> None:
        """Send a command, unmasked."""
        await self.send(frame(TEXT, json.dumps({name: fields}).encode(), mask=None))

    async def say_body(self, data: bytes, *, fin: bool = True, first: bool = True) -> None:
        """Send a binary message, or a fragment of one."""
        await self.send(frame(BINARY if first else 0, data, fin=fin, mask=None))

    async def say_close(self, code: int = 1000) -> None:
        await self.send(frame(CLOSE, code.to_bytes(2, "big"), mask=None))

    async def response(self) -> tuple[dict[str, object], bytes | None]:
        """Read a ``response``, and the body that it announces, which must follow at once."""
        response = (await self.command())["response"]
        assert isinstance(response, dict)
        if not response["body"]:
            return response, None
        opcode, body = await self.message()
        assert opcode == BINARY
        return response, body


@dataclass(kw_only=True)
class ScriptedRelay:
    """Where listeners come to, by the control channel and to rendezvous addresses."""

    port: int = 0
    channels: asyncio.Queue[RelayEnd] = field(default_factory=asyncio.Queue)
    visits: asyncio.Queue[RelayEnd] = field(default_factory=asyncio.Queue)
    refuse_visits: bool = False
    refused: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def connection_string(self) -> str:
        return serialize(
            ConnectionString(host=HOST, path="hc1", key_name="listenrule", key=Secret(KEY))
        )

    def address(self, request_id: str = REQUEST_ID) -> str:
        return f"wss://{HOST}:443/$hc/hc1/a%20b?x=%20&sb-hc-action=request&sb-hc-id={request_id}"

    async def channel(self) -> RelayEnd:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.channels.get()

    async def visit(self) -> RelayEnd:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.visits.get()

    def request(
        self,
        method: str = "GET",
        *,
        request_id: str = REQUEST_ID,
        body: bool = False,
        target: str = "/hc1/a b?x=%20",
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, object]:
        """The fields of a complete ``request``."""
        return {
            "address": self.address(request_id),
            "id": request_id,
            "requestTarget": target,
            "method": method,
            "remoteEndpoint": {"address": "192.0.2.7", "port": 51516},
            "requestHeaders": dict(headers or {"Host": HOST, "X-Odd": "{`|}"}),
            "body": body,
        }

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = ServerProtocol()
        protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
        [handshake] = protocol.events_received()
        assert isinstance(handshake, Handshake)
        action = parse_qs(urlsplit(handshake.path).query)["sb-hc-action"]
        response = protocol.accept(handshake)
        if action == ["request"] and self.refuse_visits:
            response = replace(response, status_code=404, reason_phrase="over")
            writer.write(response.serialize())
            writer.close()
            self.refused.set()
            return
        protocol.send_response(response)
        writer.writelines(protocol.data_to_send())
        end = RelayEnd(reader, writer)
        end.handshake = handshake
        (self.channels if action == ["listen"] else self.visits).put_nowait(end)
        await writer.wait_closed()


@asynccontextmanager
async def scripted_relay() -> AsyncIterator[ScriptedRelay]:
    """Run one on a free port; what is open at the end of the block is dropped."""
    relay = ScriptedRelay()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate()[:2])
    writers: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            await relay._connected(reader, writer)
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context, limit=1 << 20)
    async with server:
        relay.port = server.sockets[0].getsockname()[1]
        yield relay
        for writer in writers:
            writer.transport.abort()
