from __future__ import annotations

import asyncio
import json

import pytest

from hybridge.program.http_server import serve
from hybridge.transport.listening import bound_address, open_sockets
from relay.admin import Health, is_welcome, make_app


async def ask(port: int, text: str) -> tuple[int, object]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text.encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body.startswith(b"{") else body


def get(host: str = "127.0.0.1", path: str = "/health", method: str = "GET") -> str:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"


async def no_metrics(accept: str) -> tuple[bytes, str]:
    return f"asked for {accept}".encode(), "text/plain; version=1"


async def test_health_says_what_the_relay_can_do_just_now() -> None:
    sockets = open_sockets("127.0.0.1", 0, flag="--admin-port")
    port = bound_address(sockets[0])[1]
    now = Health.STARTING
    ended = asyncio.Event()

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        app = make_app(lambda: now, scrape=no_metrics, bind_host="127.0.0.1")
        tasks.create_task(serve(app, sockets, until=ended.wait()))
        assert await ask(port, get()) == (503, {"status": "starting"})
        now = Health.HEALTHY
        assert await ask(port, get()) == (200, {"status": "healthy"})
        assert await ask(port, get(method="HEAD")) == (200, b"")
        now = Health.DRAINING
        assert await ask(port, get()) == (503, {"status": "draining"})
        assert (await ask(port, get(path="/")))[0] == 404
        assert (await ask(port, get(method="POST")))[0] == 405
        assert (await ask(port, get(host="evil.example")))[0] == 403
        assert (await ask(port, "GET /health HTTP/1.0\r\n\r\n"))[0] == 403
        assert (await ask(port, "GET /health HTTP/1.1\r\n\r\n"))[0] == 400
        assert (await ask(port, "nonsense\r\n\r\n"))[0] == 400
        ended.set()


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:5300",
        "localhost.",
        "a.localhost",
        "127.0.0.1:5300",
        "[::1]:5300",
        "192.0.2.7",
        "relay:5300",
        "relay.corp.test",
    ],
)
def test_who_means_this_server_is_welcome(host: str) -> None:
    assert is_welcome(host, bind_host="relay.corp.test")


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":5300",
        "evil.example",
        "evil.example:5300",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "127.0.0.1@evil.example",
        "[evil.example]",
    ],
)
def test_a_name_that_a_stranger_can_own_is_not(host: str) -> None:
    assert not is_welcome(host, bind_host="localhost")
