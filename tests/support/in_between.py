"""A gateway between our ends and a relay: ends TLS, and may change the heads that pass.

What a corporate proxy does that inspects TLS, or a gateway that knows no WebSockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from hybridge.transport.listening import open_sockets
from hybridge.transport.tls import server_context
from tests.support.relay import HOST, certificate

Edit = Callable[[bytes], bytes]
"""Changes a head, its blank line included; nothing in its place ends the connection."""


def _same(head: bytes) -> bytes:
    return head


@asynccontextmanager
async def in_between(
    relay: tuple[str, int],
    *,
    shown: ssl.SSLContext | None = None,
    edit_request: Edit = _same,
    edit_response: Edit = _same,
) -> AsyncIterator[tuple[str, int]]:
    """Run one on a free port, and give its address.

    Args:
        relay: Where it leads.
        shown: With the certificate that it shows; the relay's own if not given.
        edit_request: Changes the first head that comes of each connection.
        edit_response: Changes the first head that goes back.
    """
    cert, key, ca = certificate()
    front = shown or server_context(cert, key)
    back = ssl.create_default_context(cafile=str(ca))

    async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, edit: Edit) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = edit(await source.readuntil(b"\r\n\r\n"))
            sink.write(head)
            while head and (data := await source.read(65_536)):
                sink.write(data)
                await sink.drain()
        sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(
            *relay, ssl=back, server_hostname=HOST
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(carry(reader, far_writer, edit_request))
                tasks.create_task(carry(far_reader, writer, edit_response))
        finally:
            far_writer.transport.abort()

    async with serving(serve, context=front) as address:
        yield address


Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Serves one connection."""


@asynccontextmanager
async def serving(
    handle: Handle, *, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, int]]:
    """Serve on a free port, and give its address; at the end every connection has gone.

    asyncio's own server may accept once more while it is closed, and forgets that socket.
    """
    (listening,) = open_sockets("127.0.0.1", 0, flag="--port")
    loop = asyncio.get_running_loop()

    async def visit(sock: socket.socket) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock, ssl=context)
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            try:
                await handle(reader, writer)
            finally:
                transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    def accept(tasks: asyncio.TaskGroup) -> None:
        sock, _ = listening.accept()
        sock.setblocking(False)
        opened.enter_context(sock)  # Here: a task that is cancelled early never runs.
        visits.append(tasks.create_task(visit(sock)))

    visits: list[asyncio.Task[None]] = []
    with contextlib.ExitStack() as opened:
        opened.enter_context(listening)
        async with asyncio.TaskGroup() as tasks:
            loop.add_reader(listening, accept, tasks)
            yield listening.getsockname()[:2]
            loop.remove_reader(listening)
            for each in visits:
                each.cancel()
