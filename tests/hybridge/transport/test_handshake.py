"""The dialling end of a handshake, against a raw peer that plays the relay."""

from __future__ import annotations

import asyncio

import pytest

from hybridge.protocol.errors import HandshakeRefused, Unreachable
from hybridge.transport.handshake import MAX_RESPONSE_HEAD_BYTES
from hybridge.transport.websocket import open_websocket
from tests.support.raw import BINARY
from tests.support.websocket_ends import (
    URL,
    closing,
    raw_pair,
    request_of,
    say,
    switching,
    websocket_pair,
)


async def test_the_request_names_host_path_headers_and_sub_protocols() -> None:
    async with raw_pair() as (wire, peer), asyncio.TaskGroup() as tasks:
        opening = tasks.create_task(
            open_websocket(wire, URL, headers=[("X-One", "1")], subprotocols=["chat", "more"])
        )
        request = await request_of(peer)
        await peer.send(switching(request, "Sec-WebSocket-Protocol: more"))
        stream = await opening

        assert request.startswith(b"GET /$hc/hc1?sb-hc-action=connect HTTP/1.1\r\n")
        for line in (
            b"Host: ns1.servicebus.windows.net",
            b"X-One: 1",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Protocol: chat, more",
        ):
            assert line + b"\r\n" in request
        assert b"Extensions" not in request
        assert stream.subprotocol == "more"
        stream.abort()


@pytest.mark.clause(89)
async def test_what_comes_with_the_101_is_not_lost() -> None:
    async with websocket_pair(behind=say(BINARY, b"early") + closing(1000)) as (stream, _):
        assert await stream.receive() == b"early"
        assert await stream.receive() == b""


async def _refused(answer: bytes, *, ends: bool = True) -> HandshakeRefused | Unreachable:
    async with raw_pair() as (wire, peer):
        opening = asyncio.get_running_loop().create_future()

        async def open_it() -> None:
            with pytest.raises((HandshakeRefused, Unreachable)) as caught:
                await open_websocket(wire, URL)
            opening.set_result(caught.value)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(open_it())
            await request_of(peer)
            await peer.send(answer)
            if ends:
                peer.writer.write_eof()
        assert not wire.is_open
        error: HandshakeRefused | Unreachable = opening.result()
        return error


@pytest.mark.clause(68)
@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (
            b"404 Endpoint does not exist. TrackingId:x",
            404,
            "Endpoint does not exist. TrackingId:x",
        ),
        (b"450 Not today", 450, "Not today"),
        (b"999 Odd", 999, "Odd"),
        (b"401 caf\xe9", 401, "café"),
        (b"401 \xe2\x82\xac 5", 401, "€ 5"),
        (b"403 \x1b[2Jno\x00\x7f", 403, "[2Jno"),
        (b"403", 403, ""),
        (b"200 OK", 200, "OK"),
    ],
)
@pytest.mark.parametrize("body", [b"", b'{"error":{}}'])
async def test_a_refusal_carries_status_and_reason(
    line: bytes, status: int, reason: str, body: bytes
) -> None:
    head = b"HTTP/1.1 " + line + b"\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)

    error = await _refused(head + body)

    assert isinstance(error, HandshakeRefused)
    assert (error.status, error.reason) == (status, reason)


async def test_a_refusal_is_not_waited_for_to_its_last_byte() -> None:
    head = b"HTTP/1.1 403 No\r\nContent-Length: 100000\r\n\r\n"

    error = await _refused(head + b"not all of it", ends=False)

    assert error.status == 403


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 101 Switching",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"x" * (MAX_RESPONSE_HEAD_BYTES + 1),
    ],
)
async def test_what_is_no_answer_to_the_handshake_is_unreachable(answer: bytes) -> None:
    error = await _refused(answer)

    assert isinstance(error, Unreachable)
    assert error.hint
