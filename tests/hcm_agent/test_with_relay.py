"""The agent at a real relay, with the SDK's own sender at the other side."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest

from hcm_agent.agent import Agent
from hcm_agent.settings import AgentSettings, HybridConnectionSettings
from hcm_agent.settings import Target as TargetAddress
from hybridge.management import runtime_information
from hybridge.program.lifetime import Lifetime
from hybridge.protocol import connection_string
from hybridge.protocol.errors import HandshakeRefused
from hybridge.sender import connect
from hybridge.transport.websocket import WebSocketStream
from tests.support.agent_ends import Target, free_port, receive_all
from tests.support.relay import KEY, RunningRelay, hybrid_connection, namespace, running_relay


def serving(
    relay: RunningRelay, path: str = "hc1", *, target: int | None = None, key: str = KEY
) -> HybridConnectionSettings:
    text = relay.connection_string(path, key_name="listenrule", key=key)
    return HybridConnectionSettings(
        connection_string=connection_string.parse(text),
        target=None if target is None else TargetAddress("127.0.0.1", target),
        ca=relay.ca,
        connect_to=relay.connect_to,
        endpoint_check_seconds=0,
    )


@contextlib.asynccontextmanager
async def running_agent(*entries: HybridConnectionSettings) -> AsyncIterator[Agent]:
    """An agent beside the test; stopped at the end, when its connections have ended."""
    settings = AgentSettings(hybrid_connections=entries)
    lifetime = Lifetime()
    agent = Agent(settings, load=lambda: settings, max_connections=100)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(agent.run(lifetime))
        yield agent
        lifetime.stop()


async def connected(
    relay: RunningRelay, path: str = "hc1", *, proxy: str | None = None
) -> WebSocketStream:
    """Connect, as soon as the agent listens."""
    while True:
        try:
            return await connect(
                relay.connection_string(path),
                ca=relay.ca,
                connect_to=relay.connect_to,
                proxy=proxy,
            )
        except HandshakeRefused as refused:
            if refused.status != 404:
                raise


async def test_a_sender_reaches_the_target_that_the_relays_metadata_names() -> None:
    with Target() as target:
        entity = hybrid_connection(target=("127.0.0.1", target.port))
        async with (
            running_relay(namespace(entity)) as relay,
            running_agent(serving(relay)),
        ):
            sender = await connected(relay)
            database = await target.accept()

            await sender.send(b"select 1")
            await sender.send_eof()
            assert await database.receive() == b"select 1"
            assert await database.receive() == b""
            await database.send(b"one row")
            await database.send_eof()
            assert await sender.receive() == b"one row"
            assert await sender.receive() == b""
            await sender.close()
            await database.close()


async def test_a_refused_target_reaches_the_sender_as_502_with_the_reason() -> None:
    port = free_port()
    async with (
        running_relay() as relay,
        running_agent(serving(relay, target=port)),
    ):
        with pytest.raises(HandshakeRefused) as caught:
            await connected(relay)

    assert caught.value.status == 502
    assert caught.value.reason == f"The target 127.0.0.1:{port} refused the connection."


async def test_a_wrong_key_is_said_with_a_hint_and_the_other_hybrid_connection_serves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    two = namespace(hybrid_connection("good"), hybrid_connection("bad"))
    with Target() as target, caplog.at_level(logging.INFO):
        async with running_relay(two) as relay:
            good = serving(relay, "good", target=target.port)
            bad = serving(relay, "bad", target=target.port, key=KEY[::-1])
            async with running_agent(good, bad):
                sender = await connected(relay, "good")
                database = await target.accept()
                await sender.send(b"fine")
                assert await database.receive() == b"fine"
                await sender.send_eof()
                await database.send_eof()
                assert await receive_all(database) == b""
                await sender.close()
                await database.close()

    offline = [
        record.__dict__
        for record in caplog.records
        if record.__dict__.get("event") == "offline" and record.levelno == logging.WARNING
    ]
    assert [fields["hybrid_connection"] for fields in offline] == ["bad"]
    assert "invalid signature" in offline[0]["error"]
    assert offline[0]["hint"]
    assert KEY[::-1] not in caplog.text


async def test_asked_to_stop_it_is_no_listener_any_more() -> None:
    with Target() as target:
        async with running_relay() as relay:
            async with running_agent(serving(relay, target=target.port)):
                sender = await connected(relay)
                sender.abort()
                (await target.accept()).abort()

            text = relay.connection_string("hc1")
            found = await runtime_information(text, ca=relay.ca, connect_to=relay.connect_to)

    assert found.listener_count == 0
