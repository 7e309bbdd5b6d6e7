"""A small HTTP server of a program's own: for health and metrics, or for the verbs of a service."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Iterator

    from starlette.types import ASGIApp

MAX_CONNECTIONS = 64
"""More at once are answered with 503."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # Signals are the program's: see hybridge.program.lifetime.


async def serve(app: ASGIApp, sockets: list[socket.socket], *, until: Awaitable[object]) -> None:
    """Serve an application on sockets that listen already.

    Args:
        app: The ASGI application.
        sockets: Closed at the end.
        until: Ends the server when it is done; running requests get a second.
    """
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            interface="asgi3",
            http="h11",
            ws="none",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=16_384,
        )
    )

    async def end() -> None:
        await until
        server.should_exit = True

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(end(), name="http server end")
        await server.serve(sockets=sockets)
