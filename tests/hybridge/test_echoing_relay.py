"""A relay, or what stands in between, that repeats the token: it reaches no error and no log."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets

from hybridge import Listener, connect, runtime_information
from hybridge.protocol.errors import RelayError
from tests.support.relay import HOST, certificate
from tests.support.until import until

KEY = "dGhpcyBpcyBhIGtleQ=="
STRING = f"Endpoint=sb://{HOST}/;SharedAccessKeyName=a;SharedAccessKey={KEY};EntityPath=hc1"
TOKEN = re.compile(r"^(?:ServiceBus)?Authorization: (.*sig=([^&]+).*)\r$", re.M | re.I)


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate()[:2])
    return context


class Echo:
    """Answers every request with a status whose reason is the request's token."""

    def __init__(self, status: int) -> None:
        self._status = status
        self.signatures: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = TOKEN.search((await reader.readuntil(b"\r\n\r\n")).decode())
        assert found is not None
        self.signatures.append(found[2])
        reason = f"{found[1]} SharedAccessKey={KEY}"
        writer.write(f"HTTP/1.1 {self._status} {reason}\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()


@asynccontextmanager
async def echoing(status: int) -> AsyncIterator[tuple[Echo, tuple[str, int]]]:
    echo = Echo(status)
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_tls())
    async with server:
        yield echo, server.sockets[0].getsockname()[:2]


async def listen(connect_to: tuple[str, int]) -> None:
    async with Listener(STRING, ca=certificate()[2], connect_to=connect_to) as listener:
        await until(lambda: listener.last_error is not None)
        error = listener.last_error
    if error is not None:
        raise error


async def send(connect_to: tuple[str, int]) -> None:
    await connect(STRING, ca=certificate()[2], connect_to=connect_to)


async def ask(connect_to: tuple[str, int]) -> None:
    await runtime_information(STRING, ca=certificate()[2], connect_to=connect_to)


@pytest.mark.parametrize("call", [listen, send, ask])
@pytest.mark.parametrize("status", [401, 404, 429])
async def test_a_reason_that_repeats_the_token(
    call: Callable[[tuple[str, int]], Awaitable[None]],
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG, logger="hybridge"):
        async with echoing(status) as (echo, connect_to):
            with pytest.raises(RelayError, match=str(status)) as caught:
                await call(connect_to)

    assert echo.signatures
    for secret in (*echo.signatures, KEY):
        assert secret not in f"{caught.value} {caught.value!r} {caught.value.hint} {caplog.text}"
    assert "sig=***" in str(caught.value)


async def test_a_close_that_repeats_the_signature_and_steers_the_terminal() -> None:
    async def close(channel: ServerConnection) -> None:
        await channel.close(1008, "no:\x1b[2J\u2028\n sig=c2VjcmV0&se=1")

    async with (
        serve_websockets(close, "127.0.0.1", 0, ssl=server_tls()) as server,
        Listener(
            STRING,
            ca=certificate()[2],
            connect_to=next(iter(server.sockets)).getsockname()[:2],
        ) as listener,
    ):
        await until(lambda: listener.last_error is not None)

        assert str(listener.last_error).endswith("1008 no:\\x1b[2J sig=***&se=1")
