"""The service's side: the verbs as HTTP requests, JSON both ways."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
from importlib.metadata import version
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from hcm_agent.control.door import PROOF_PATH, proof_of
from hcm_agent.endpoint_test import try_endpoint
from hcm_agent.log_ring import MAX_LINES
from hybridge.protocol.errors import InvalidSetting, RelayError
from hybridge.protocol.redaction import one_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from hcm_agent.endpoint_test import RelayRoute
    from hcm_agent.log_ring import LogRing
    from hcm_agent.service import Service

MAX_BODY_BYTES = 65_536
"""A verb says less."""

WATCH_SECONDS = 0.5
"""How often somebody who watches is told of changes."""

FOLLOW_SECONDS = 0.2
"""How often somebody who follows the log gets its new lines."""

Fields = dict[str, object]


def make_app(
    service: Service,
    ring: LogRing,
    *,
    token: str,
    route: Callable[[], RelayRoute],
    stopping: asyncio.Event,
) -> ASGIApp:
    """Make the ASGI application that answers the verbs.

    Args:
        service: Does what they say.
        ring: The log.
        token: What each request must carry; empty where the socket's owner is enough.
        route: Says how namespaces and targets are reached.
        stopping: Ends answers that go on.
    """

    async def add(fields: Fields) -> object:
        return await service.add(
            _text(fields, "connectionString"),
            targets=_texts(fields, "targets"),
            azbridge=fields.get("azbridge") is True,
        )

    async def show(fields: Fields) -> object:
        return await service.show(_text(fields, "namespace"), _text(fields, "name"))

    async def remove(fields: Fields) -> object:
        return await service.remove(_text(fields, "namespace"), _text(fields, "name"))

    async def restart(fields: Fields) -> object:
        return await service.restart(_text(fields, "namespace"), _text(fields, "name"))

    async def test(fields: Fields) -> object:
        return (await try_endpoint(_text(fields, "endpoint"), route())).to_fields()

    async def list_all(_: Request) -> Response:
        return JSONResponse(await service.list_all())

    async def tell_version(_: Request) -> Response:
        return JSONResponse({"Version": version("hybridge"), "Process": os.getpid()})

    async def changes(_: Request) -> Response:
        return StreamingResponse(_changes(service, stopping), media_type="application/x-ndjson")

    async def logs(request: Request) -> Response:
        asked = request.query_params
        found = _log_lines(
            ring,
            limit=_number_of(asked.get("lines", "")),
            as_json="json" in asked,
            stopping=stopping if "follow" in asked else None,
        )
        return StreamingResponse(found, media_type="text/plain; charset=utf-8")

    verbs = {"/add": add, "/show": show, "/remove": remove, "/restart": restart, "/test": test}
    routes = [
        *(Route(path, _answer(verb), methods=["POST"]) for path, verb in verbs.items()),
        Route("/hybrid-connections", list_all),
        Route("/changes", changes),
        Route("/logs", logs),
        Route("/version", tell_version),
    ]
    app = Starlette(routes=routes)
    return _TokenCheck(app, token) if token else app


def _answer(
    verb: Callable[[Fields], Awaitable[object]],
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            return JSONResponse(await verb(await _body(request)))
        except RelayError as error:
            fields = {
                "error": one_line(str(error)),
                "hint": one_line(error.hint),
                "isUsage": isinstance(error, InvalidSetting),
            }
            return JSONResponse(fields, status_code=error.status or 400)

    return answer


async def _body(request: Request) -> Fields:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise RelayError("the request is too long", hint="'hcm' of this version sends less")
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise RelayError("the request is no JSON object", hint="use 'hcm' of the same version")
    return fields


def _text(fields: Fields, name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise RelayError(f"the request has no {name}", hint="use 'hcm' of the same version")
    return value


def _texts(fields: Fields, name: str) -> list[str]:
    value = fields.get(name, [])
    return [str(each) for each in value] if isinstance(value, list) else []


def _number_of(lines: str) -> int:
    is_number = lines.isdecimal() and len(lines) <= len(str(MAX_LINES))
    return min(int(lines), MAX_LINES) or MAX_LINES if is_number else MAX_LINES


async def _changes(service: Service, stopping: asyncio.Event) -> AsyncIterator[str]:
    """Give the list, and again each time that something in it is different."""
    told: object = None
    while not stopping.is_set():
        now = await service.list_all(look_at_endpoints=told is None)
        if now != told:
            told = now
            yield json.dumps(now) + "\n"
        await _pause(WATCH_SECONDS, stopping)


async def _log_lines(
    ring: LogRing, *, limit: int, as_json: bool, stopping: asyncio.Event | None
) -> AsyncIterator[str]:
    number = ring.count
    for line in ring.after(0, limit=limit, as_json=as_json):
        yield line + "\n"
    while stopping is not None and not stopping.is_set():
        await _pause(FOLLOW_SECONDS, stopping)
        seen, number = number, ring.count
        for line in ring.after(seen, as_json=as_json):
            yield line + "\n"


async def _pause(seconds: float, stopping: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return


class _TokenCheck:
    """Lets only those in who could read the file with the token. A web page in a browser cannot.

    Whoever comes may ask for a proof that we know it too: our port may once have been another's.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token
        self._wanted = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == PROOF_PATH:
            question = QueryParams(scope["query_string"]).get("question", "")
            await PlainTextResponse(proof_of(self._token, question))(scope, receive, send)
            return
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1 or not hmac.compare_digest(given[0], self._wanted):
            refusal = JSONResponse({"error": "the token is missing or wrong"}, status_code=401)
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)
