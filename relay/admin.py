"""Health and metrics: a small HTTP server of its own, on loopback unless told otherwise."""

from __future__ import annotations

import contextlib
import enum
import ipaddress
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    Scrape = Callable[[str], Awaitable[tuple[bytes, str]]]
    """Gives body and content type of the metrics, for an ``Accept`` header."""


class Health(enum.Enum):
    """What the relay can do just now."""

    STARTING = "starting"
    HEALTHY = "healthy"
    DRAINING = "draining"

    @property
    def status(self) -> int:
        """200 when new connections are welcome, else 503."""
        return 200 if self is Health.HEALTHY else 503


def make_app(health: Callable[[], Health], *, scrape: Scrape, bind_host: str) -> ASGIApp:
    """Make the ASGI application: ``GET /health`` and ``GET /metrics``.

    Args:
        health: Asked at each request.
        scrape: Asked at each request for metrics.
        bind_host: Where it listens; this name is welcome in ``Host`` too.
    """

    async def answer(_: Request) -> JSONResponse:
        now = health()
        return JSONResponse({"status": now.value}, status_code=now.status)

    async def show(request: Request) -> Response:
        body, content_type = await scrape(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    routes = [Route("/health", answer), Route("/metrics", show)]
    return _HostCheck(Starlette(routes=routes), bind_host)


class _HostCheck:
    """Refuses requests that a web page sent through a name of its own (DNS rebinding)."""

    def __init__(self, app: ASGIApp, bind_host: str) -> None:
        self._app = app
        self._bind_host = bind_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
            if len(hosts) != 1 or not is_welcome(hosts[0], bind_host=self._bind_host):
                refusal = JSONResponse(
                    {"error": "this host name is not welcome here", "hint": "use an IP address"},
                    status_code=403,
                )
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


def is_welcome(host_header: str, *, bind_host: str) -> bool:
    """Whether a ``Host`` header can only come from somebody who means this server.

    A hostile web page reaches us by a name in a domain of its own that it lets point here. So names
    without a dot (``localhost``, a container's name) and IP addresses are welcome, and the
    name that we were told to listen on; other names are not.
    """
    host = host_header.strip().lower()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    else:
        host = host.partition(":")[0].rstrip(".")
    if not host:
        return False
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return "." not in host or host.endswith(".localhost") or host == bind_host.lower()
