"""Relayed HTTP as raw peers do it: a sender's requests, and what a listener gets and answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.support.raw import BINARY, TEXT, Answer, RawPeer, RelayPeers, frame
from tests.support.relay import HOST, RunningRelay
from tests.support.wire import http_request


@dataclass(frozen=True)
class Heard:
    """A request as a listener heard of it on its control channel."""

    fields: dict[str, object] = field(repr=False)
    body: bytes | None
    """None where no binary message was announced."""

    @property
    def id(self) -> str:
        return str(self.fields["id"])

    @property
    def address(self) -> str:
        return str(self.fields["address"])

    @property
    def headers(self) -> dict[str, str]:
        headers = self.fields["requestHeaders"]
        assert isinstance(headers, dict)
        return headers


async def heard(channel: RawPeer) -> Heard:
    """Read a request, and its body where one is announced, from either channel."""
    message = await channel.command()
    assert list(message) == ["request"], message
    fields = message["request"]
    assert isinstance(fields, dict)
    if fields.get("body") is not True:
        return Heard(fields, None)
    opcode, body = await channel.message()
    assert opcode == BINARY
    return Heard(fields, body)


def response(
    request_id: str,
    body: bytes | None = b"",
    *,
    status: object = 200,
    reason: str | None = None,
    headers: dict[str, str] | None = None,
    pieces: Sequence[bytes] | None = None,
    is_whole: bool = True,
) -> bytes:
    """Write a response and its body as frames: one binary message, whole or in pieces.

    ``body=None`` announces no body and sends none; without ``is_whole`` more of it must follow.
    """
    fields: dict[str, object] = {
        "requestId": request_id,
        "statusCode": status,
        "responseHeaders": headers or {},
        "body": body is not None,
    }
    if reason is not None:
        fields["statusDescription"] = reason
    text = frame(TEXT, json.dumps({"response": fields}).encode())
    if body is None:
        return text
    return text + binary([body] if pieces is None else pieces, is_whole=is_whole)


def binary(pieces: Sequence[bytes], *, is_whole: bool = True) -> bytes:
    """Write one binary message in fragments."""
    frames = b""
    for number, piece in enumerate(pieces):
        is_last = is_whole and number == len(pieces) - 1
        frames += frame(0 if number else BINARY, piece, fin=is_last)
    return frames


@dataclass(frozen=True)
class HttpPeers:
    """A listener's control channel, and senders that reach it."""

    relay: RunningRelay
    peers: RelayPeers
    control: RawPeer

    def request(
        self,
        target: str = "/hc1",
        *headers: tuple[str, str],
        method: str = "GET",
        body: bytes = b"",
    ) -> bytes:
        """Write a request with a good token; a body gets its length."""
        length = [("Content-Length", str(len(body)))] if body else []
        token = ("ServiceBusAuthorization", self.relay.token())
        return http_request(target, HOST, token, *headers, *length, method=method) + body

    @asynccontextmanager
    async def sending(
        self,
        target: str = "/hc1",
        *headers: tuple[str, str],
        method: str = "GET",
        body: bytes = b"",
    ) -> AsyncIterator[RawPeer]:
        """A sender whose request has gone out on a new connection."""
        async with await self.peers.dial() as sender:
            await sender.send(self.request(target, *headers, method=method, body=body))
            yield sender

    async def visit(self, address: str) -> RawPeer:
        """Open a request's address, as a listener does."""
        parts = urlsplit(address)
        assert "sb-hc-action=request" in parts.query
        peer, answer = await self.peers.visit(address)
        assert answer.status == 101, answer
        return peer


def error_code(answer: Answer) -> object:
    """Check the shape of an error of the service (7.8); give its code."""
    assert answer.all("Content-Type") == ["application/json"]
    assert answer.all("Via") == []
    error = json.loads(answer.body)["error"]
    assert error["message"] == answer.reason
    return error["code"]


@asynccontextmanager
async def http_peers(relay: RunningRelay) -> AsyncIterator[HttpPeers]:
    """A listener on hc1, and what senders need."""
    peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
    token = relay.token("hc1", key_name="listenrule")
    async with await peers.listener("hc1", token) as control:
        yield HttpPeers(relay, peers, control)
