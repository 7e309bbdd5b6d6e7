"""Proxies in the test's own event loop: one that does as it is told, and one that works."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import h11

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def scripted_proxy(handle: Handle) -> AsyncIterator[int]:
    """Give the port of a listener of 127.0.0.1 that does ``handle`` with each connection."""
    failures: list[BaseException] = []
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await handle(reader, writer)
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass
        except Exception as error:
            failures.append(error)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if serving:
            await asyncio.wait(serving, timeout=20)
    assert failures == []


def answering(answer: bytes, *, heard: list[bytes] | None = None) -> Handle:
    """Read the head of a request, answer, and then echo what comes until the peer has finished."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if heard is not None:
            heard.append(head)
        writer.write(answer)
        while data := await reader.read(65_536):
            writer.write(data)

    return handle


def saying(*answers: bytes) -> Handle:
    """Give one answer for each that is heard, whatever it is; then finish."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.read(65_536)
            writer.write(answer)
        await writer.drain()

    return handle


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say nothing until the peer leaves."""
    while await reader.read(65_536):
        pass


@dataclass
class ConnectProxy:
    """An HTTP proxy that knows where names lead, and may look into TLS.

    Attributes:
        leads_to: Where each ``host:port`` leads; what is not in it is answered 502.
        inspects: The certificate that is shown instead of the relay's, or None.
        trusts: How an inspecting proxy checks the relay.
        asked: What was asked for, in order.
    """

    leads_to: dict[str, tuple[str, int]]
    inspects: ssl.SSLContext | None = None
    trusts: ssl.SSLContext | None = None
    asked: list[str] = field(default_factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER)
        http.receive_data(await reader.readuntil(b"\r\n\r\n"))
        request = http.next_event()
        assert isinstance(request, h11.Request)
        assert request.method == b"CONNECT"
        authority = request.target.decode()
        self.asked.append(authority)
        peer = self.leads_to.get(authority)
        if peer is None:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        name = authority.rpartition(":")[0]
        if self.inspects is not None:
            await writer.start_tls(self.inspects)
        onward = await asyncio.open_connection(
            *peer, ssl=self.trusts, server_hostname=name if self.trusts else None
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_carry(reader, onward[1]))
            tasks.create_task(_carry(onward[0], writer))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
