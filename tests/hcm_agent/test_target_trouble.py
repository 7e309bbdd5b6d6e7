"""Targets in trouble: what the sender sees, what the log says, and that the rest keeps running."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hcm_agent.agent import Agent
from hcm_agent.settings import AgentSettings, HybridConnectionSettings
from hcm_agent.settings import Target as TargetAddress
from hybridge.program.lifetime import Lifetime
from hybridge.protocol import connection_string
from hybridge.protocol.errors import HandshakeRefused, RelayError
from hybridge.sender import connect
from hybridge.transport.websocket import WebSocketStream
from tests.support.agent_ends import Target, free_port
from tests.support.relay import RunningRelay, hybrid_connection, namespace, running_relay
from tests.support.until import until

NAME = "db.corp.example"
TROUBLED, HEALTHY = "troubled", "healthy"


class Dns:
    """Knows `NAME`, or not."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.is_broken = True
        self.hangs = hangs

    async def look_up(self, host: str, port: int, kind: int) -> object:
        assert host == NAME
        if self.hangs:
            await asyncio.Event().wait()
        if self.is_broken:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return socket.getaddrinfo("127.0.0.1", port, type=kind)


class Running:
    """A relay with two hybrid connections, and an agent that serves both."""

    def __init__(self, relay: RunningRelay, healthy: Target) -> None:
        self._relay = relay
        self._healthy = healthy

    async def connect(self, name: str = TROUBLED) -> WebSocketStream:
        return await connect(
            self._relay.connection_string(name),
            ca=self._relay.ca,
            connect_to=self._relay.connect_to,
        )

    async def check_the_rest(self) -> None:
        """The other hybrid connection carries bytes."""
        sender = await self.connect(HEALTHY)
        database = await self._healthy.accept()
        await sender.send(b"select 1")
        assert await database.receive() == b"select 1"
        sender.abort()
        database.abort()


@contextlib.asynccontextmanager
async def agent(
    target: TargetAddress, *, check_seconds: float = 0, timeout_seconds: float = 20
) -> AsyncIterator[Running]:
    """An agent for a target in trouble, and for another one."""
    with Target() as healthy:
        two = namespace(hybrid_connection(TROUBLED), hybrid_connection(HEALTHY))
        async with running_relay(two) as relay, asyncio.TaskGroup() as tasks:

            def entry(
                name: str, target: TargetAddress, check: float, timeout: float
            ) -> HybridConnectionSettings:
                text = relay.connection_string(name, key_name="listenrule")
                return HybridConnectionSettings(
                    connection_string=connection_string.parse(text),
                    target=target,
                    ca=relay.ca,
                    connect_to=relay.connect_to,
                    target_timeout_seconds=timeout,
                    endpoint_check_seconds=check,
                )

            settings = AgentSettings(
                hybrid_connections=(
                    entry(TROUBLED, target, check_seconds, timeout_seconds),
                    entry(HEALTHY, TargetAddress("127.0.0.1", healthy.port), 0, 20),
                )
            )
            lifetime = Lifetime()
            running = Agent(settings, load=lambda: settings, max_connections=100)
            tasks.create_task(running.run(lifetime))
            listeners = relay.service.gateway.listeners
            await until(lambda: all(listeners.count(f"ns1/{n}") for n in (TROUBLED, HEALTHY)))
            yield Running(relay, healthy)
            lifetime.stop()


def logged(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    return [each.__dict__ for each in caplog.records if each.__dict__.get("event") == event]


async def test_dns_that_fails_is_said_to_the_sender_and_healed_it_is_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dns = Dns()
    monkeypatch.setattr("hybridge.transport.names.look_up", dns.look_up)
    with Target() as target, caplog.at_level(logging.INFO):
        async with agent(TargetAddress(NAME, target.port), check_seconds=0.02) as running:
            with pytest.raises(HandshakeRefused) as caught:
                await running.connect()
            await running.check_the_rest()

            dns.is_broken = False
            await until(lambda: logged(caplog, "endpoint_reachable"))
            (await target.accept()).abort()  # The check.
            sender = await running.connect()
            (await target.accept()).abort()
            sender.abort()

    assert caught.value.status == 502
    assert caught.value.reason == (
        f"The target {NAME}:{target.port}: the name '{NAME}' cannot be resolved."
    )
    (refused,) = logged(caplog, "connection_refused")
    assert caught.value.reason in refused["message"]
    assert "DNS" in refused["hint"]
    (unreachable,) = logged(caplog, "endpoint_unreachable")
    assert unreachable["error"] == f"the name '{NAME}' cannot be resolved"


async def test_a_target_that_refuses_is_said_to_the_sender_and_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    port = free_port()
    with caplog.at_level(logging.INFO):
        async with agent(TargetAddress("127.0.0.1", port)) as running:
            with pytest.raises(HandshakeRefused) as caught:
                await running.connect()
            await running.check_the_rest()

    assert (caught.value.status, caught.value.reason) == (
        502,
        f"The target 127.0.0.1:{port} refused the connection.",
    )
    assert [each["hybrid_connection"] for each in logged(caplog, "endpoint_unreachable")] == [
        TROUBLED
    ]


async def test_a_target_that_resets_breaks_its_sender_and_the_next_one_is_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Target() as target, caplog.at_level(logging.INFO):
        async with agent(TargetAddress("127.0.0.1", target.port)) as running:
            broken = await running.connect()
            (await target.accept()).abort()
            with pytest.raises(RelayError):
                await broken.receive()
            broken.abort()
            await until(lambda: logged(caplog, "connection_closed"))
            await running.check_the_rest()

            sender = await running.connect()
            database = await target.accept()
            await sender.send(b"select 1")
            assert await database.receive() == b"select 1"
            sender.abort()
            database.abort()

    closed = logged(caplog, "connection_closed")[0]
    assert closed["hybrid_connection"] == TROUBLED
    assert "broke" in closed["outcome"]


async def test_a_target_that_hangs_is_given_up_and_said_to_the_sender(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dns = Dns(hangs=True)
    monkeypatch.setattr("hybridge.transport.names.look_up", dns.look_up)
    with caplog.at_level(logging.INFO):
        async with agent(TargetAddress(NAME, 5432), timeout_seconds=0.2) as running:
            with pytest.raises(HandshakeRefused) as caught:
                await running.connect()
            await running.check_the_rest()

    assert (caught.value.status, caught.value.reason) == (
        504,
        f"The target {NAME}:5432 did not answer within 0.2 s.",
    )
    (refused,) = logged(caplog, "connection_refused")
    assert "route and the firewalls" in refused["hint"]
