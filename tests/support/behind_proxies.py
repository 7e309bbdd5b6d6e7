"""Both ends behind a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from hcm_agent.settings import HybridConnectionSettings
from hybridge.listener import Listener
from hybridge.protocol.proxies import Proxy, parse_proxy
from hybridge.sender import connect
from tests.hcm_agent.test_with_relay import serving
from tests.support.authority import Authority
from tests.support.proxies import ConnectProxy, scripted_proxy
from tests.support.relay import HOST, RunningRelay

RELAY = f"{HOST}:443"


@contextlib.asynccontextmanager
async def behind_proxy(
    relay: RunningRelay, *, inspector: Authority | None = None
) -> AsyncIterator[tuple[ConnectProxy, str]]:
    """A proxy that alone knows where the namespace's name leads; give it and its address."""
    proxy = ConnectProxy({RELAY: relay.connect_to})
    if inspector is not None:
        proxy.inspects = inspector.server_context(HOST)
        proxy.trusts = ssl.create_default_context(cafile=str(relay.ca))
    async with scripted_proxy(proxy.handle) as port:
        yield proxy, f"http://127.0.0.1:{port}"


def listening_string(relay: RunningRelay) -> str:
    return relay.connection_string(key_name="listenrule")


async def exchange(
    relay: RunningRelay,
    proxy: str,
    *,
    ca: Path | None = None,
    connect_to: tuple[str, int] | None = None,
) -> bytes:
    """Listen and connect through a proxy, and give what came there and back."""
    async with Listener(
        listening_string(relay), ca=ca or relay.ca, proxy=proxy, connect_to=connect_to
    ) as listener:
        await listener.wait_online()
        async with asyncio.TaskGroup() as tasks:
            accepting = tasks.create_task(echo_one(listener))
            async with connect(
                relay.connection_string(), ca=ca or relay.ca, proxy=proxy, connect_to=connect_to
            ) as stream:
                await stream.send(b"there and back")
                await stream.send_eof()
                answer = await stream.receive()
                assert await stream.receive() == b""
            await accepting
        return answer


async def echo_one(listener: Listener) -> None:
    stream = await (await anext(listener)).accept()
    async with stream:
        while data := await stream.receive():
            await stream.send(data)
        await stream.send_eof()


def through(proxy: str, relay: RunningRelay, port: int) -> HybridConnectionSettings:
    """An agent's settings with a proxy, and without connect-to."""
    return replace(serving(relay, target=port), proxy=parsed(proxy), connect_to=None)


def parsed(address: str) -> Proxy:
    proxy = parse_proxy(address, setting="--proxy")
    assert isinstance(proxy, Proxy)
    return proxy


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, object]]:
    return [each.__dict__ for each in caplog.records if each.__dict__.get("event") == name]
