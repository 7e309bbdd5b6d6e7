from __future__ import annotations

import asyncio

import h11
import pytest

from hybridge.protocol.errors import MalformedMessage, Unreachable
from hybridge.transport.http_exchange import MAX_RESPONSE_BYTES, Head, exchange
from tests.support.scripted import ScriptedStream
from tests.support.until import until

UPGRADE = h11.Request(
    method="GET",
    target="/",
    headers=[("Host", "h"), ("Connection", "Upgrade"), ("Upgrade", "websocket")],
)


async def answered(*pieces: bytes) -> tuple[Head, bytes]:
    """Ask, and answer with these pieces and the end of the stream."""
    stream = ScriptedStream()

    async def answer_it() -> None:
        await until(lambda: stream.is_reading)
        for piece in pieces:
            stream.arrive(piece)
        stream.end()

    # Not a task group: its errors are the test's subject.
    answer, _ = await asyncio.gather(exchange(stream, UPGRADE), answer_it())
    assert stream.sent.startswith(b"GET / HTTP/1.1\r\n")
    return answer


async def test_an_answer_has_a_head_and_a_body() -> None:
    head, body = await answered(b"HTTP/1.1 401 Not today\r\nContent-Le", b"ngth: 2\r\n\r\nab")

    assert (head.status_code, bytes(head.reason), body) == (401, b"Not today", b"ab")


async def test_a_switch_of_protocols_is_an_answer_and_not_waited_on() -> None:
    head, body = await answered(
        b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x89\x00"
    )

    assert (head.status_code, body) == (101, b"")


async def test_an_interim_answer_is_passed_over() -> None:
    head, _ = await answered(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\n\r\n")

    assert head.status_code == 404


async def test_a_body_is_read_up_to_its_limit() -> None:
    start = b"HTTP/1.1 200 OK\r\n\r\n"

    assert len((await answered(start, b"x" * MAX_RESPONSE_BYTES))[1]) == MAX_RESPONSE_BYTES
    with pytest.raises(MalformedMessage, match="longer than"):
        await answered(start, b"x" * (MAX_RESPONSE_BYTES + 1))


@pytest.mark.parametrize(
    ("data", "message"), [(b"SSH-2.0-x\r\n\r\n", "is no HTTP server"), (b"", "without an answer")]
)
async def test_what_is_no_answer_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(Unreachable, match=message):
        await answered(*([data] if data else []))
