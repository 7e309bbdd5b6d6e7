"""Serve an ASGI application through a hybrid connection: Starlette, FastAPI, Django, Litestar.

One line, against Hybridge or Azure::

    asyncio.run(serve(app, os.environ["LISTEN"]))
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

from hybridge.incoming_connection import IncomingConnection
from hybridge.incoming_request import IncomingRequest
from hybridge.listener import Listener
from hybridge.outgoing_response import OutgoingResponse
from hybridge.protocol.connection_string import ConnectionString
from hybridge.protocol.errors import ApplicationFailed, ConnectionLost, RelayError
from hybridge.protocol.proxies import Proxy
from hybridge.request_intake import MAX_REQUESTS
from hybridge.transport.timing import Timing

_logger = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0
"""How long running requests may go on when `serve` is cancelled."""

# ASGI's own types: events are dictionaries of whatever the specification says.
Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]
Application: TypeAlias = Callable[[Event, Receive, Send], Awaitable[None]]

_VERSIONS = {"version": "3.0", "spec_version": "2.4"}
_NO_WEBSOCKET = "The application behind this hybrid connection takes HTTP requests, no WebSocket."


async def serve(
    app: Application,
    connection_string: ConnectionString | str,
    *,
    ca: Path | None = None,
    connect_to: tuple[str, int] | None = None,
    proxy: Proxy | str | None = None,
    timing: Timing | None = None,
    max_requests: int = MAX_REQUESTS,
    drain_seconds: float = DRAIN_SECONDS,
) -> None:
    """Serve an application until cancelled.

    The application sees requests as it would behind any server: ``root_path`` is the hybrid
    connection's name, so that routes are written without it; bodies are streamed both ways;
    ``client`` is the sender; ``http.disconnect`` comes when the sender is known to have gone.
    Lifespan events are sent where the application takes them. Senders that ask for a WebSocket are
    refused with 501.

    Args:
        app: An ASGI 3 application.
        connection_string: From a rule with Listen.
        ca: PEM file of further trusted authorities.
        connect_to: TCP address to dial instead of the namespace's.
        proxy: The proxy on the way; see `hybridge.Listener`.
        timing: Waits, in seconds.
        max_requests: Most requests at a time; more are answered 503.
        drain_seconds: How long running requests may go on after the cancellation.

    Raises:
        ApplicationFailed: The application said that it cannot start.
        MalformedConnectionString: See `hybridge.Listener`.
        InvalidSetting: See `hybridge.Listener`.
    """
    listener = Listener(
        connection_string,
        ca=ca,
        connect_to=connect_to,
        proxy=proxy,
        timing=timing,
        max_requests=max_requests,
    )
    listener.on_change = _Report(listener).changed
    async with _lifespan(app) as state:

        async def handle(request: IncomingRequest) -> None:
            call = _Call(request)
            await app(_scope(request, listener.address, state), call.receive, call.send)

        listener.request_handler = handle
        async with listener:
            try:
                async for connection in listener:
                    await _refuse(connection)
            finally:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(drain_seconds):
                        await listener.stop_accepting()
                        await listener.wait_closed()


class _Report:
    """Says in the log whether the application can be reached, once for each cause."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._said: object = None

    def changed(self) -> None:
        path, error = self._listener.address.path, self._listener.last_error
        cause = (type(error), error.status) if error is not None else self._listener.is_online
        if cause == self._said:
            return
        self._said = cause
        if error is not None:
            hint = f" ({error.hint})" if error.hint else ""
            _logger.warning("%s cannot be served, trying again: %s%s", path, error, hint)
        elif self._listener.is_online:
            _logger.info("serving %s", path)


async def _refuse(connection: IncomingConnection) -> None:
    try:
        await connection.reject(501, _NO_WEBSOCKET)
    except RelayError as error:
        _logger.info("sender %s could not be refused: %s", connection.id, error)


def _scope(request: IncomingRequest, address: ConnectionString, state: dict[str, object]) -> Event:
    path, _, query = request.target.partition("?")
    name = f"/{address.path}"
    if path[: len(name)].lower() == name.lower():
        name = path[: len(name)]  # As the sender spells it, so that it is a prefix of the path.
    client = request.remote_endpoint
    return {
        "type": "http",
        "asgi": _VERSIONS,
        "http_version": "1.1",
        "method": request.method,
        "scheme": "https",
        # What the relay leaves encoded is what would be ambiguous otherwise.
        "path": unquote(path),
        "raw_path": quote(path, safe="/%:@!$&'()*+,;=~").encode(),
        "query_string": _to_bytes(query),
        "root_path": name,
        "headers": [
            (_to_bytes(key.lower()), _to_bytes(value)) for key, value in request.headers.items()
        ],
        "client": None if client is None else (client.address, client.port),
        "server": (address.host, address.port),
        "state": state.copy(),
        "extensions": {},
    }


def _to_bytes(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


class _Call:
    """One request, as the application receives and answers it."""

    def __init__(self, request: IncomingRequest) -> None:
        self._request = request
        self._is_received = False
        self._response: OutgoingResponse | None = None

    async def receive(self) -> Event:
        body = self._request.body
        if self._is_received:
            await self._request.wait_over()
            return {"type": "http.disconnect"}
        try:
            data = await anext(body, b"")
        except ConnectionLost:
            self._is_received = True
            return {"type": "http.disconnect"}
        self._is_received = body.is_complete
        return {"type": "http.request", "body": data, "more_body": not body.is_complete}

    async def send(self, event: Event) -> None:
        try:
            await self._send(event)
        except ConnectionLost as error:
            # What ASGI 2.4 wants where the client has gone.
            raise ConnectionResetError(str(error)) from error

    async def _send(self, event: Event) -> None:
        match event["type"]:
            case "http.response.start":
                headers = [
                    (bytes(name).decode("latin-1"), bytes(value).decode("latin-1"))
                    for name, value in event.get("headers", ())
                ]
                self._response = await self._request.start(event["status"], headers=headers)
            case "http.response.body" if self._response is not None:
                await self._response.send(event.get("body", b""))
                if not event.get("more_body", False):
                    await self._response.close()
            case other:
                raise RuntimeError(f"the application sent {other!r} where it may not")


@asynccontextmanager
async def _lifespan(app: Application) -> AsyncIterator[dict[str, object]]:
    """Tell the application of start and end; give the state that it wants its requests to have.

    Raises:
        ApplicationFailed: It said that it cannot start.
    """
    state: dict[str, object] = {}
    to_app: asyncio.Queue[Event] = asyncio.Queue()
    from_app: asyncio.Queue[Event] = asyncio.Queue()

    async def run() -> None:
        scope = {"type": "lifespan", "asgi": _VERSIONS, "state": state}
        try:
            await app(scope, to_app.get, from_app.put)
        except Exception as error:
            # Not every application has a lifespan; what it says else, it says by an event.
            _logger.debug("the application ended its lifespan: %r", error)
        finally:
            from_app.put_nowait({"type": "over"})

    async def tell(what: str) -> str | None:
        """Give what the application says against it; None where it has nothing against it."""
        to_app.put_nowait({"type": f"lifespan.{what}"})
        answer = await from_app.get()
        if answer["type"] != f"lifespan.{what}.failed":
            return None
        return str(answer.get("message") or "no reason given").strip().splitlines()[-1]

    problem: str | None = None
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run(), name="lifespan")
        try:
            problem = await tell("startup")
            if problem is None:
                yield state
        finally:
            if problem is None and not running.done():
                late_problem = await tell("shutdown")
                if late_problem is not None:
                    _logger.error("the application did not end as it should: %s", late_problem)
            running.cancel()
    if problem is not None:
        raise ApplicationFailed(
            f"the application cannot start: {problem}", hint="its log may say more"
        )
