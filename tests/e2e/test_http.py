"""Relayed HTTP from end to end: senders, the relay, and listeners of ours."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import h11
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from hcm_agent.agent import Agent
from hcm_agent.http_target import HttpTarget
from hcm_agent.settings import AgentSettings, HybridConnectionSettings
from hybridge import IncomingRequest, Listener, RequestHandler
from hybridge.asgi import serve
from hybridge.program.lifetime import Lifetime
from hybridge.protocol.connection_string import parse
from tests.support.http_sender import HttpSender
from tests.support.relay import RunningRelay, running_relay
from tests.support.until import until

DEADLINE_SECONDS = 20.0
ROOT = Path(__file__).resolve().parent.parent.parent
MEBIBYTE = bytes(range(256)) * 4_096


@pytest.fixture
async def relay() -> AsyncIterator[RunningRelay]:
    async with running_relay() as running:
        yield running


@asynccontextmanager
async def listening(
    relay: RunningRelay, handler: RequestHandler | None, *, flush_seconds: float = 60.0
) -> AsyncIterator[HttpSender]:
    """A listener with this handler, and a sender that is connected to the relay."""
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        Listener(
            relay.connection_string(key_name="listenrule"),
            ca=relay.ca,
            connect_to=relay.connect_to,
            request_handler=handler,
            response_flush_seconds=flush_seconds,
        ) as listener,
        await HttpSender.connect(relay) as sender,
    ):
        await listener.wait_online()
        yield sender


async def echo(request: IncomingRequest) -> None:
    body = await request.body.read()
    headers = {"X-Target": request.target, "X-Method": request.method}
    await request.respond(200, body, reason="As you say", headers=headers)


@pytest.mark.clause(92, 99, 121)
async def test_requests_of_every_size_are_answered_one_after_the_other(relay: RunningRelay) -> None:
    async with listening(relay, echo) as sender:
        for size in (0, 5, 65_000, 65_536, 65_537, len(MEBIBYTE), 5):
            body = MEBIBYTE[:size]
            method = "POST" if size else "GET"
            answer = await sender.ask("/hc1/a%20b?x=%20", method=method, body=body)

            assert (answer.status, answer.reason) == (200, "As you say")
            assert answer.headers["x-target"] == "/hc1/a b?x=%20"
            assert answer.headers["via"] == f"1.1 {relay.host}"
            assert answer.body == body


async def test_headers_that_json_makes_too_large_for_the_control_channel_come_by_rendezvous(
    relay: RunningRelay,
) -> None:
    # Each character is six in the message: more than the control channel carries.
    value = "\xe9" * 20_000

    async def handler(request: IncomingRequest) -> None:
        await request.respond(200, request.headers["Accented"].encode("latin-1"))

    async with listening(relay, handler) as sender:
        answer = await sender.ask("/hc1", Accented=value)

    assert (answer.status, answer.body) == (200, value.encode("latin-1"))


@pytest.mark.clause(94, 95)
@pytest.mark.parametrize("pieces", [[], [b"one", b"two"]])
async def test_a_chunked_request_is_read_as_it_comes(
    relay: RunningRelay, pieces: list[bytes]
) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def handler(request: IncomingRequest) -> None:
        async for piece in request.body:
            heard.put_nowait(piece)
        await request.respond(200)

    async with listening(relay, handler) as sender:
        await sender.start("POST", "/hc1", length=None)
        for piece in pieces:
            await sender.say(piece)
            assert await heard.get() == piece
        await sender.finish()
        assert (await sender.head()).status_code == 200

    assert heard.empty()


@pytest.mark.clause(100)
async def test_a_response_is_seen_before_it_is_complete(relay: RunningRelay) -> None:
    release = asyncio.Event()

    async def handler(request: IncomingRequest) -> None:
        async with await request.start(200) as response:
            await response.send(b"first")
            await release.wait()
            await response.send(b"second")

    async with listening(relay, handler, flush_seconds=0.02) as sender:
        await sender.start("GET", "/hc1")
        await sender.finish()
        await sender.head()
        pieces = sender.pieces()
        assert await anext(pieces) == b"first"
        release.set()
        assert [piece async for piece in pieces] == [b"second"]


@pytest.mark.clause(112)
async def test_a_handler_that_throws_and_one_that_is_missing_are_told_with_the_tracking_id(
    relay: RunningRelay,
) -> None:
    async def throws(request: IncomingRequest) -> None:
        raise ValueError("ours")

    for handler, status, text in (
        (throws, 500, "RequestHandler threw an exception"),
        (None, 501, "RequestHandler has not been configured"),
    ):
        async with listening(relay, handler) as sender:
            answer = await sender.ask("/hc1")
        assert answer.status == status
        assert text in answer.reason
        assert re.search(r"TrackingId:[0-9a-f-]{36}_G\d+", answer.reason)
        assert f"SystemTracker:{relay.host}:hc1" in answer.reason
        assert "via" in answer.headers


async def test_a_handler_that_throws_in_the_middle_breaks_the_response(
    relay: RunningRelay,
) -> None:
    async def handler(request: IncomingRequest) -> None:
        async with await request.start(200) as response:
            await response.send(b"x" * 100_000)
            raise ValueError("ours")

    async with listening(relay, handler) as sender:
        await sender.start("GET", "/hc1")
        await sender.finish()
        await sender.head()
        with pytest.raises((h11.RemoteProtocolError, ConnectionError)):
            [piece async for piece in sender.pieces()]


@pytest.mark.clause(120)
async def test_a_sender_that_leaves_in_the_middle_is_told_to_the_handler(
    relay: RunningRelay,
) -> None:
    over: asyncio.Queue[str] = asyncio.Queue()

    async def handler(request: IncomingRequest) -> None:
        response = await request.start(200)
        await response.send(b"x" * 100_000)
        await request.wait_over()
        over.put_nowait(request.id)

    async with listening(relay, handler) as sender:
        await sender.start("GET", "/hc1")
        await sender.finish()
        await sender.head()
        sender.reset()
        await over.get()
        async with await HttpSender.connect(relay) as other:
            await other.start("GET", "/hc1")
            await other.finish()
            assert (await other.head()).status_code == 200


async def test_a_listener_that_leaves_finishes_what_it_answers(relay: RunningRelay) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def handler(request: IncomingRequest) -> None:
        started.set()
        await release.wait()
        await request.respond(200, b"late")

    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        Listener(
            relay.connection_string(key_name="listenrule"),
            ca=relay.ca,
            connect_to=relay.connect_to,
            request_handler=handler,
        ) as listener,
        await HttpSender.connect(relay) as sender,
        asyncio.TaskGroup() as tasks,
    ):
        await listener.wait_online()
        asking = tasks.create_task(sender.ask("/hc1"))
        await started.wait()
        tasks.create_task(listener.stop_accepting())
        await until(lambda: listener._intake._is_leaving)
        release.set()
        assert (await asking).body == b"late"


async def test_an_asgi_application_is_served(relay: RunningRelay) -> None:
    async def upper(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            async for piece in request.stream():
                yield piece.upper()

        return StreamingResponse(pieces())

    async def describe(request: Request) -> Response:
        assert request.client is not None
        return JSONResponse([request.client.host, request.path_params["name"]])

    app = Starlette(
        routes=[Route("/upper", upper, methods=["POST"]), Route("/hello/{name}", describe)]
    )
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        asyncio.TaskGroup() as tasks,
        await HttpSender.connect(relay) as sender,
    ):
        serving = tasks.create_task(
            serve(
                app,
                relay.connection_string(key_name="listenrule"),
                ca=relay.ca,
                connect_to=relay.connect_to,
            )
        )
        await until(lambda: relay.service.gateway.listeners.count("ns1/hc1"))
        answer = await sender.ask("/hc1/hello/you%20there")
        assert answer.body == b'["127.0.0.1","you there"]'
        answer = await sender.ask("/hc1/upper", method="POST", body=b"abc" * 100_000)
        assert answer.body == b"ABC" * 100_000
        assert (await sender.ask("/hc1/none")).status == 404
        serving.cancel()


async def test_the_agent_forwards_to_an_http_service(relay: RunningRelay) -> None:
    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER)
        body = b""
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(65_536))
            elif isinstance(event, h11.Request):
                target = event.target
            elif isinstance(event, h11.Data):
                body += event.data
        head = h11.Response(status_code=200, reason=b"Odd {`|}", headers=[(b"X-Target", target)])
        for event in (head, h11.Data(data=body[::-1]), h11.EndOfMessage()):
            writer.write(http.send(event) or b"")
        writer.close()

    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        await asyncio.start_server(service, "127.0.0.1", 0) as server,
        await HttpSender.connect(relay) as sender,
        asyncio.TaskGroup() as tasks,
    ):
        port = server.sockets[0].getsockname()[1]
        entry = HybridConnectionSettings(
            connection_string=parse(relay.connection_string(key_name="listenrule")),
            target=HttpTarget(scheme="http", host="127.0.0.1", port=port, path="/base"),
            ca=relay.ca,
            connect_to=relay.connect_to,
            endpoint_check_seconds=0,
        )
        settings = AgentSettings(hybrid_connections=(entry,))
        lifetime = Lifetime()
        agent = Agent(settings, load=lambda: settings, max_connections=10)
        tasks.create_task(agent.run(lifetime))
        await until(lambda: relay.service.gateway.listeners.count("ns1/hc1"))
        for size in (0, 5, len(MEBIBYTE)):
            body = MEBIBYTE[:size]
            method = "POST" if size else "GET"
            answer = await sender.ask("/hc1/x%20y?z", method=method, body=body)
            assert (answer.status, answer.reason) == (200, "Odd {`|}")
            assert answer.headers["x-target"] == "/base/x%20y?z"
            assert answer.body == body[::-1]
        lifetime.stop()


async def test_the_examples_of_the_page_about_http_run(relay: RunningRelay) -> None:
    page = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
    handler, application = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)

    async with running_example(relay, handler), await HttpSender.connect(relay) as sender:
        answer = await sender.ask("/hc1", method="POST", body=b"hello")
        assert (answer.body, answer.headers["content-type"]) == (b"HELLO", "text/plain")

    async with running_example(relay, application), await HttpSender.connect(relay) as sender:
        assert (await sender.ask("/hc1/greet/you")).body == b'{"hello":"you"}'
        assert (await sender.ask("/hc1/count")).body == b"0\n1\n2\n"


@asynccontextmanager
async def running_example(relay: RunningRelay, code: str) -> AsyncIterator[None]:
    listen = relay.connection_string(key_name="listenrule").replace(
        f"//{relay.host}/", f"//localhost:{relay.port}/"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", code),
        cwd=ROOT,
        env={"PATH": os.environ.get("PATH", ""), "CA": str(relay.ca), "LISTEN": listen},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await until(lambda: relay.service.gateway.listeners.count("ns1/hc1"))
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        _, errors = await process.communicate()
    assert errors.decode() == ""
    await until(lambda: not relay.service.gateway.listeners.count("ns1/hc1"))
