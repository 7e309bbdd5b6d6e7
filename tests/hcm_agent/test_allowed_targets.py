"""An agent with an allow-list, and one that knows its targets' health: what each side sees."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from hcm_agent.agent import Agent
from hcm_agent.allow_list import parse_allow_list
from hcm_agent.port_names import parse_target
from hcm_agent.settings import AgentSettings, HybridConnectionSettings
from hcm_agent.settings import Target as TargetAddress
from hybridge.program.lifetime import Lifetime
from hybridge.protocol import connection_string
from hybridge.protocol.errors import HandshakeRefused
from hybridge.sender import connect
from hybridge.transport.websocket import WebSocketStream
from tests.support.agent_ends import Target, free_port
from tests.support.relay import RunningRelay, hybrid_connection, namespace, running_relay
from tests.support.until import until

METADATA_HOST = "127.0.0.1"


class Running:
    """A relay, and an agent whose settings can be exchanged."""

    def __init__(self, relay: RunningRelay, folder: Path, settings: AgentSettings) -> None:
        self.relay = relay
        self.settings = settings
        self.lifetime = Lifetime()
        self.ready_file = folder / "ready.json"
        self.agent = Agent(
            settings, load=lambda: self.settings, max_connections=100, ready_file=self.ready_file
        )

    async def connect(self) -> WebSocketStream:
        """Connect, as soon as the agent listens."""
        while True:
            try:
                return await connect(
                    self.relay.connection_string("hc1"),
                    ca=self.relay.ca,
                    connect_to=self.relay.connect_to,
                )
            except HandshakeRefused as refused:
                if "no listeners" not in refused.reason:
                    raise

    def reload(self, settings: AgentSettings) -> None:
        """What SIGHUP does."""
        self.settings = settings
        assert self.lifetime.on_reload is not None
        self.lifetime.on_reload()

    def endpoint(self) -> dict[str, object]:
        """What the ready file says of the target."""
        try:
            (found,) = json.loads(self.ready_file.read_text())["hybrid_connections"]
        except FileNotFoundError:
            return {}
        endpoint: dict[str, object] = found["endpoint"]
        return endpoint


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    *,
    metadata: tuple[str, int] | None = None,
    target: TargetAddress | None = None,
    azbridge: str = "",
    allow: list[str] | None = None,
    check_seconds: float = 0,
) -> AsyncIterator[Running]:
    async with running_relay(namespace(hybrid_connection("hc1", target=metadata))) as relay:
        text = relay.connection_string("hc1", key_name="listenrule")
        entry = HybridConnectionSettings(
            connection_string=connection_string.parse(text),
            target=target,
            azbridge=(parse_target(azbridge, setting=""),) if azbridge else (),
            ca=relay.ca,
            connect_to=relay.connect_to,
            endpoint_check_seconds=check_seconds,
        )
        settings = AgentSettings(
            hybrid_connections=(entry,),
            allow_list=None if allow is None else parse_allow_list(allow, setting=""),
        )
        found = Running(relay, folder, settings)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(found.agent.run(found.lifetime))
            yield found
            found.lifetime.stop()


def events(caplog: pytest.LogCaptureFixture, *names: str) -> list[str]:
    found = [record.__dict__.get("event", "") for record in caplog.records]
    return [name for name in found if name in names]


async def test_a_relay_that_lies_cannot_point_the_agent_elsewhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Target() as secret, caplog.at_level(logging.INFO):
        where = (METADATA_HOST, secret.port)
        async with running(tmp_path, metadata=where, allow=["db.corp.example:*"]) as agent:
            with pytest.raises(HandshakeRefused) as caught:
                await agent.connect()

        assert not secret.has_visitor()

    target = f"127.0.0.1:{secret.port}"
    assert caught.value.status == 403
    assert caught.value.reason == f"The agent's allow-list does not have the target {target}."
    told = [r.__dict__ for r in caplog.records if r.__dict__.get("event") == "target_not_allowed"]
    assert [fields["target"] for fields in told if "id" in fields] == [target]
    assert all(f"add {target} to --allow-target" in fields["hint"] for fields in told)


async def test_a_configured_target_needs_the_list_too(tmp_path: Path) -> None:
    with Target() as elsewhere:
        target = TargetAddress("127.0.0.1", elsewhere.port)
        async with running(tmp_path, target=target, allow=["10.0.0.0/8:*"]) as agent:
            with pytest.raises(HandshakeRefused) as caught:
                await agent.connect()

        assert not elsewhere.has_visitor()
    assert caught.value.status == 403


async def test_what_the_list_has_is_joined_as_always(tmp_path: Path) -> None:
    with Target() as target:
        where = (METADATA_HOST, target.port)
        async with running(tmp_path, metadata=where, allow=["127.0.0.0/8:*"]) as agent:
            sender = await agent.connect()
            database = await target.accept()
            await sender.send(b"select 1")
            assert await database.receive() == b"select 1"
            sender.abort()
            database.abort()


async def test_a_shorter_list_holds_at_once_and_leaves_what_is_connected(tmp_path: Path) -> None:
    with Target() as target:
        where = (METADATA_HOST, target.port)
        async with running(tmp_path, metadata=where) as agent:
            sender = await agent.connect()
            database = await target.accept()

            agent.reload(replace(agent.settings, allow_list=parse_allow_list([], setting="")))

            with pytest.raises(HandshakeRefused, match="allow-list"):
                await agent.connect()
            await sender.send(b"still here")
            assert await database.receive() == b"still here"
            sender.abort()
            database.abort()


async def test_an_ipv6_address_in_the_metadata_is_a_target(tmp_path: Path) -> None:
    with Target("::1") as target:
        where = ("::1", target.port)
        async with running(tmp_path, metadata=where, allow=["[::1]:*"]) as agent:
            sender = await agent.connect()
            database = await target.accept()
            await sender.send(b"select 1")
            assert await database.receive() == b"select 1"
            sender.abort()
            database.abort()


async def test_the_ready_file_says_whether_the_target_is_reachable_and_since_when(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    with caplog.at_level(logging.INFO):
        async with running(tmp_path, metadata=(METADATA_HOST, port), check_seconds=0.05) as agent:
            await until(lambda: agent.endpoint().get("is_reachable") is False)
            assert agent.endpoint()["last_error"] == f"127.0.0.1:{port} refused the connection"
            assert agent.endpoint()["since"]

            with socket.create_server(("127.0.0.1", port)):
                await until(lambda: agent.endpoint().get("is_reachable"))

            # It is gone again: who tells is the next sender.
            with pytest.raises(HandshakeRefused):
                await agent.connect()
            await until(lambda: agent.endpoint().get("is_reachable") is False)

    assert events(caplog, "endpoint_reachable", "endpoint_unreachable") == [
        "endpoint_unreachable",
        "endpoint_reachable",
        "endpoint_unreachable",
    ]


async def test_the_targets_of_azbridge_are_checked_and_its_datagrams_are_not(
    tmp_path: Path,
) -> None:
    with Target() as target:
        port = f"test/127.0.0.1:{target.port}"
        async with running(tmp_path, azbridge=port, check_seconds=3600) as agent:
            await until(lambda: agent.endpoint().get("is_reachable"))
        async with running(tmp_path, azbridge=f"udp://{port[5:]}", check_seconds=3600) as agent:
            await until(lambda: agent.endpoint())
            assert agent.endpoint()["is_reachable"] is None
