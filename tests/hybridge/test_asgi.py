from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from hybridge.asgi import Application, Event, Receive, Send, serve
from hybridge.protocol.errors import ApplicationFailed, MalformedConnectionString
from hybridge.transport.timing import Timing
from tests.support.relay import HOST, certificate
from tests.support.scripted_relay import RelayEnd, ScriptedRelay, scripted_relay
from tests.support.until import until

DEADLINE_SECONDS = 20.0


@asynccontextmanager
async def serving(app: Application) -> AsyncIterator[tuple[ScriptedRelay, RelayEnd]]:
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        scripted_relay() as relay,
        asyncio.TaskGroup() as tasks,
    ):
        served = tasks.create_task(
            serve(
                app,
                relay.connection_string,
                ca=certificate()[2],
                connect_to=("127.0.0.1", relay.port),
                timing=Timing(close_timeout_seconds=0.02),
            )
        )
        channel = await relay.channel()
        yield relay, channel
        served.cancel()
        await channel.close()
        await channel.say_close()
        with contextlib.suppress(asyncio.CancelledError):
            await served


async def describe(request: Request) -> Response:
    return JSONResponse(
        {
            "body": (await request.body()).decode(),
            "client": list(request.client or ()),
            "headers": request.headers.items(),
            "path": request.url.path,
            "item": request.path_params["item"],
            "query": request.url.query,
            "root": request.scope["root_path"],
            "scheme": request.url.scheme,
            "state": request.state.greeting,
        }
    )


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[dict[str, str]]:
    yield {"greeting": "hello"}


async def test_an_application_sees_a_relayed_request_like_any_other() -> None:
    routes = [Route("/items/{item}", describe, methods=["POST"])]
    app = Starlette(routes=routes, lifespan=lifespan)
    async with serving(app) as (relay, channel):
        request = relay.request("POST", target="/HC1/items/a %25?x=%20", body=True)
        await channel.say("request", **request)
        await channel.say_body(b"question")
        response, body = await channel.response()

    assert response["statusCode"] == 200
    assert json.loads(body or b"") == {
        "body": "question",
        "client": ["192.0.2.7", 51516],
        "headers": [["host", HOST], ["x-odd", "{`|}"]],
        "path": "/HC1/items/a %",
        "item": "a %",
        "query": "x=%20",
        "root": "/HC1",
        "scheme": "https",
        "state": "hello",
    }


async def test_bodies_are_streamed_both_ways() -> None:
    async def echo(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            async for piece in request.stream():
                yield piece.upper() * 100_000

        return StreamingResponse(pieces())

    async with serving(Starlette(routes=[Route("/", echo, methods=["POST"])])) as (relay, channel):
        await channel.say("request", address=relay.address())
        visit = await relay.visit()
        await visit.say("request", **relay.request("POST", target="/hc1/", body=True))
        await visit.say_body(b"a", fin=False)
        await visit.command()
        size = 0
        while size < 100_000:
            size += len((await visit.frame()).payload)
        # The first part of the answer is here, and the question has not ended.
        await visit.say_body(b"b", first=False)
        rest = b""
        while not (part := await visit.frame()).fin:
            rest += part.payload

    assert rest == b"B" * 100_000


async def test_repeated_headers_are_joined_and_a_head_request_has_no_body() -> None:
    async def cookies(_: Request) -> Response:
        response = PlainTextResponse("yes")
        response.headers.append("x-a", "1")
        response.headers.append("x-a", "2")
        return response

    async with serving(Starlette(routes=[Route("/", cookies)])) as (relay, channel):
        await channel.say("request", **relay.request("HEAD", target="/hc1/"))
        response, _ = await channel.response()

    headers = response["responseHeaders"]
    assert isinstance(headers, dict)
    assert (headers["x-a"], response["body"]) == ("1, 2", False)


async def test_an_application_that_fails_is_answered_500(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(scope: Event, receive: Receive, send: Send) -> None:
        raise ValueError("ours")

    async with serving(fail) as (relay, channel):
        await channel.say("request", **relay.request())
        response, _ = await channel.response()

    assert response["statusCode"] == 500
    assert "ours" in caplog.text


async def test_an_application_that_breaks_the_rules_is_answered_500() -> None:
    async def confused(scope: Event, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.body", "body": b"too early"})

    async with serving(confused) as (relay, channel):
        await channel.say("request", **relay.request())
        response, _ = await channel.response()

    assert response["statusCode"] == 500


async def test_the_application_hears_of_a_sender_that_leaves() -> None:
    heard: asyncio.Queue[object] = asyncio.Queue()

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 70_000, "more_body": True})
        assert await receive() == {"type": "http.request", "body": b"part", "more_body": True}
        heard.put_nowait(await receive())
        heard.put_nowait(await receive())
        with pytest.raises(OSError, match="over"):
            await send({"type": "http.response.body", "body": b"more"})
        heard.put_nowait("done")

    async with serving(app) as (relay, channel):
        await channel.say("request", address=relay.address())
        visit = await relay.visit()
        await visit.say("request", **relay.request("POST", body=True))
        await visit.say_body(b"part", fin=False)
        await visit.command()
        await visit.say_close()
        events = [await heard.get() for _ in range(3)]

    assert events == [{"type": "http.disconnect"}, {"type": "http.disconnect"}, "done"]


async def test_a_websocket_is_refused_with_the_reason() -> None:
    async with serving(Starlette()) as (relay, channel):
        await channel.say(
            "accept",
            address=f"wss://{HOST}/$hc/hc1?sb-hc-action=accept&sb-hc-id=1",
            id="1",
            connectHeaders={},
        )
        visit = await relay.visit()

    assert "sb-hc-statusCode=501" in visit.handshake.path
    assert "no+WebSocket" in visit.handshake.path


async def test_running_requests_are_finished_and_the_application_hears_of_its_end() -> None:
    release, ended = asyncio.Event(), asyncio.Event()
    started = asyncio.Event()

    async def slow(_: Request) -> Response:
        started.set()
        await release.wait()
        return PlainTextResponse("done")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        ended.set()

    app = Starlette(routes=[Route("/", slow)], lifespan=lifespan)
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        scripted_relay() as relay,
        asyncio.TaskGroup() as tasks,
    ):
        served = tasks.create_task(
            serve(
                app,
                relay.connection_string,
                ca=certificate()[2],
                connect_to=("127.0.0.1", relay.port),
                timing=Timing(close_timeout_seconds=0.02),
            )
        )
        channel = await relay.channel()
        await channel.say("request", **relay.request(target="/hc1/"))
        await started.wait()
        served.cancel()
        release.set()
        _, body = await channel.response()
        await channel.close()
        await channel.say_close()
        await asyncio.wait([served])

    assert body == b"done"
    assert served.cancelled()
    assert ended.is_set()


async def test_an_application_that_cannot_start_is_not_served() -> None:
    def connect_to_database() -> None:
        raise ValueError("no database")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        connect_to_database()
        yield

    with pytest.raises(ApplicationFailed, match="no database"):
        await serve(
            Starlette(lifespan=lifespan),
            f"Endpoint=sb://{HOST}/;SharedAccessKeyName=a;SharedAccessKey=b;EntityPath=c",
        )


async def test_a_connection_string_that_is_none_is_said_before_anything_starts() -> None:
    with pytest.raises(MalformedConnectionString):
        await serve(Starlette(), "nonsense")


async def test_a_relay_that_cannot_be_reached_is_in_the_log_once(
    caplog: pytest.LogCaptureFixture, unused_tcp_port: int
) -> None:
    with caplog.at_level(logging.WARNING, logger="hybridge.asgi"):
        async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
            served = tasks.create_task(
                serve(
                    Starlette(),
                    f"Endpoint=sb://{HOST}/;SharedAccessKeyName=a;SharedAccessKey=b;EntityPath=c",
                    connect_to=("127.0.0.1", unused_tcp_port),
                )
            )
            await until(lambda: "cannot be served" in caplog.text)
            served.cancel()

    assert caplog.text.count("cannot be served") == 1
