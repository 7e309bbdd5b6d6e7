"""The agent in front of an HTTP service: a scripted relay on one side, raw bytes on the other."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest

from hcm_agent.agent import Agent
from hcm_agent.http_target import HttpTarget
from hcm_agent.settings import AgentSettings, HybridConnectionSettings, Target
from hybridge.program.lifetime import Lifetime
from hybridge.protocol import connection_string
from hybridge.transport.timing import Timing
from tests.support.agent_ends import free_port
from tests.support.raw import BINARY
from tests.support.relay import HOST, certificate
from tests.support.scripted_relay import REQUEST_ID, RelayEnd, ScriptedRelay, scripted_relay

DEADLINE_SECONDS = 20.0

Service = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def service(
    answer: Service, *, host: str = "127.0.0.1", tls: bool = False
) -> AsyncIterator[int]:
    """A TCP port that does as it is told."""
    context: ssl.SSLContext | None = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate()[:2])

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
            await writer.drain()
        finally:
            writer.close()

    async with await asyncio.start_server(connected, host, 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


def saying(data: bytes, seen: asyncio.Queue[bytes] | None = None) -> Service:
    """Read a head, and what a Content-Length announces; then send these bytes and close."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        body = await reader.readexactly(int(size or 0))
        if seen is not None:
            seen.put_nowait(head + body)
        writer.write(data)

    return answer


@dataclass(kw_only=True)
class Running:
    relay: ScriptedRelay
    channel: RelayEnd
    lifetime: Lifetime
    running: asyncio.Task[None]

    async def ask(
        self, method: str = "GET", *, target: str = "/hc1/items?x=%20", **headers: str
    ) -> tuple[dict[str, object], bytes | None]:
        request = self.relay.request(method, target=target, headers={"Host": HOST, **headers})
        await self.channel.say("request", **request)
        return await self.channel.response()

    async def upload(self) -> RelayEnd:
        """Begin a request whose body is still to come."""
        await self.channel.say("request", address=self.relay.address())
        visit = await self.relay.visit()
        await visit.say("request", **self.relay.request("POST", target="/hc1/up", body=True))
        return visit


@asynccontextmanager
async def agent(
    target: HttpTarget | Target, *, max_connections: int = 100, timeout_seconds: float = 10.0
) -> AsyncIterator[Running]:
    async with asyncio.timeout(DEADLINE_SECONDS), scripted_relay() as relay:
        entry = HybridConnectionSettings(
            connection_string=connection_string.parse(relay.connection_string),
            target=target,
            ca=certificate()[2],
            connect_to=("127.0.0.1", relay.port),
            timing=Timing(close_timeout_seconds=0.02),
            target_timeout_seconds=timeout_seconds,
            endpoint_check_seconds=0,
        )
        settings = AgentSettings(hybrid_connections=(entry,))
        lifetime = Lifetime()
        process = Agent(settings, load=lambda: settings, max_connections=max_connections)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(process.run(lifetime))
            channel = await relay.channel()
            yield Running(relay=relay, channel=channel, lifetime=lifetime, running=running)
            running.cancel()


def http(port: int, *, path: str = "", scheme: str = "http", host: str = "127.0.0.1") -> HttpTarget:
    return HttpTarget(scheme=scheme, host=host, port=port, path=path)


def reason_of(response: dict[str, object]) -> str:
    return str(response["statusDescription"])


async def test_a_request_and_its_answer_pass_as_they_are() -> None:
    seen: asyncio.Queue[bytes] = asyncio.Queue()
    said = (
        b"HTTP/1.1 203 Odd {`|} reason\r\nX-A: 1\r\nX-A: 2\r\nContent-Encoding: gzip\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"
    )
    async with service(saying(said, seen)) as port, agent(http(port, path="/base")) as running:
        response, body = await running.ask(Authorization="Basic abc")

    assert seen.get_nowait().decode().split("\r\n") == [
        "GET /base/items?x=%20 HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Authorization: Basic abc",
        "Connection: close",
        "",
        "",
    ]
    assert response == {
        "requestId": REQUEST_ID,
        "statusCode": 203,
        "statusDescription": "Odd {`|} reason",
        "responseHeaders": {"X-A": "1, 2", "Content-Encoding": "gzip"},
        "body": True,
    }
    assert body == b"abcdef"


async def test_a_small_body_has_a_length_and_a_redirect_is_the_senders_business() -> None:
    seen: asyncio.Queue[bytes] = asyncio.Queue()
    said = b"HTTP/1.1 302 Found\r\nLocation: /else\r\nContent-Length: 0\r\n\r\n"
    async with service(saying(said, seen)) as port, agent(http(port)) as running:
        request = running.relay.request("POST", target="/hc1", body=True)
        await running.channel.say("request", **request)
        await running.channel.say_body(b"question")
        response, _ = await running.channel.response()

    assert b"POST / HTTP/1.1\r\n" in (asked := seen.get_nowait())
    assert asked.endswith(b"question")
    assert response["statusCode"] == 302
    assert response["responseHeaders"] == {"Location": "/else"}


async def test_bodies_are_streamed_both_ways() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Transfer-Encoding: chunked\r\n" in head
        assert await reader.readexactly(len(b"3\r\none\r\n")) == b"3\r\none\r\n"
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 70_000)
        rest = await reader.readuntil(b"0\r\n\r\n")
        writer.write(rest)  # Up to the end of the connection.

    async with service(echo) as port, agent(http(port)) as running:
        visit = await running.upload()
        await visit.say_body(b"one", fin=False)
        head = await visit.command()
        size = 0
        while size < 70_000:
            size += len((await visit.frame()).payload)
        await visit.say_body(b"two", first=False)
        rest = b""
        while not (part := await visit.frame()).fin:
            rest += part.payload
        code, _ = await visit.close()

    assert head["response"] == {
        "requestId": REQUEST_ID,
        "statusCode": 200,
        "statusDescription": "OK",
        "responseHeaders": {},
        "body": True,
    }
    assert (rest, code) == (b"3\r\ntwo\r\n0\r\n\r\n", 1000)


async def test_a_target_that_answers_without_reading_is_heard() -> None:
    said = b"HTTP/1.1 413 No\r\nContent-Length: 5\r\n\r\nlarge"
    async with service(saying(said)) as port, agent(http(port)) as running:
        visit = await running.upload()
        await visit.say_body(b"x" * 1_000, fin=False)
        response, body = await visit.response()

    assert (response["statusCode"], body) == (413, b"large")


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_a_response_without_body_ends_at_its_head(method: str) -> None:
    status = 200 if method == "HEAD" else 304
    said = f"HTTP/1.1 {status} Fine\r\nContent-Length: 7\r\n\r\n".encode()
    async with service(saying(said)) as port, agent(http(port)) as running:
        response, _ = await running.ask(method)

    assert (response["statusCode"], response["body"]) == (status, False)


@pytest.mark.parametrize(
    ("said", "part"),
    [
        (b"", "closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "is no HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", "101"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000, "is no HTTP"),
    ],
)
async def test_a_target_that_answers_no_http_is_a_bad_gateway(said: bytes, part: str) -> None:
    async with service(saying(said)) as port, agent(http(port)) as running:
        response, body = await running.ask()

    assert response["statusCode"] == 502
    assert f"The target 127.0.0.1:{port}" in reason_of(response)
    assert part in reason_of(response) or part == "101"
    assert f"TrackingId:{REQUEST_ID}" in (body or b"").decode()


async def test_a_response_that_breaks_off_looks_broken() -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 80_000
    async with service(saying(said)) as port, agent(http(port)) as running:
        await running.channel.say("request", **running.relay.request())
        visit = await running.relay.visit()
        await visit.command()

        async def read() -> None:
            while True:
                assert (await visit.frame()).opcode in (BINARY, 0)

        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await read()


async def test_a_target_that_is_not_there_is_a_bad_gateway(
    caplog: pytest.LogCaptureFixture,
) -> None:
    port = free_port()
    with caplog.at_level(logging.INFO, logger="hcm_agent"):
        async with agent(http(port)) as running:
            response, _ = await running.ask()

    assert response["statusCode"] == 502
    assert reason_of(response).startswith(
        f"The target 127.0.0.1:{port} refused the connection. TrackingId:"
    )
    [line] = [each for each in caplog.records if each.message == "request relayed"]
    assert line.__dict__["status"] == 502


async def test_a_target_that_does_not_answer_in_time_is_a_gateway_timeout() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    target = http(0, scheme="https", host="localhost")
    async with service(silent, host="localhost") as port:
        target = http(port, scheme="https", host="localhost")
        async with agent(target, timeout_seconds=0.05) as running:
            response, _ = await running.ask()

    assert response["statusCode"] == 504
    assert "within 0.05 s" in reason_of(response)


async def test_a_target_may_keep_the_request_and_say_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hcm_agent.http_forward.RESPONSE_SECONDS", 0.02)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with service(silent) as port, agent(http(port)) as running:
        response, _ = await running.ask()

    assert response["statusCode"] == 504


async def test_a_target_may_have_tls_and_an_ipv6_address() -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    async with service(saying(said), tls=True) as port:
        async with agent(http(port, scheme="https", host="localhost")) as running:
            _, body = await running.ask()
        assert body == b"hi"
        async with agent(http(port)) as running:
            response, _ = await running.ask()
        assert response["statusCode"] == 502
    async with service(saying(said), host="::1") as port:
        async with agent(http(port, host="::1")) as running:
            _, body = await running.ask()
        assert body == b"hi"

    async def no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with service(no_tls, host="::1") as port:
        async with agent(http(port, scheme="https", host="::1")) as running:
            response, _ = await running.ask()
        assert (response["statusCode"], "TLS" in reason_of(response)) == (502, True)


async def test_a_sender_that_leaves_is_not_served_any_longer() -> None:
    left = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 70_000)
        with suppress(ConnectionError):
            await reader.read()
        left.set()

    async with service(endless) as port, agent(http(port)) as running:
        await running.channel.say("request", **running.relay.request())
        visit = await running.relay.visit()
        await visit.command()
        await visit.say_close()
        await left.wait()


async def test_a_path_that_leads_out_is_a_bad_request() -> None:
    async with agent(http(free_port())) as running:
        response, _ = await running.ask(target="/hc1/../admin")

    assert response["statusCode"] == 400
    assert "dot segments" in reason_of(response)


async def test_each_kind_of_target_refuses_the_other_kind_of_sender() -> None:
    async with agent(Target("127.0.0.1", free_port())) as running:
        response, _ = await running.ask()
    assert response["statusCode"] == 501
    assert "WebSocket connections, and no HTTP requests" in reason_of(response)

    async with agent(http(free_port())) as running:
        address = f"wss://{HOST}/$hc/hc1?sb-hc-action=request&sb-hc-id=1"
        await running.channel.say("accept", address=address, id="1", connectHeaders={})
        visit = await running.relay.visit()
    assert "sb-hc-statusCode=501" in visit.handshake.path
    assert "no+WebSocket" in visit.handshake.path


async def test_an_agent_that_holds_all_it_can_answers_503() -> None:
    async with agent(http(free_port()), max_connections=0) as running:
        response, _ = await running.ask()

    assert response["statusCode"] == 503


async def test_an_agent_that_stops_lets_a_running_request_finish() -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")

    async with service(slow) as port, agent(http(port)) as running:
        await running.channel.say("request", **running.relay.request())
        await asked.wait()
        running.lifetime.stop()
        release.set()
        _, body = await running.channel.response()
        await running.channel.close()
        await running.channel.say_close()
        await running.running

    assert body == b"done"
