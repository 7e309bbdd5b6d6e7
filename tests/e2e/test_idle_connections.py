"""What a connection costs while nothing happens on it, and what is left of it afterwards."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from app_client.client import Client
from app_client.settings import ClientSettings, Forward
from benchmarks.meter import Meter
from hcm_agent.agent import Agent
from hcm_agent.settings import AgentSettings, HybridConnectionSettings
from hcm_agent.settings import Target as TargetAddress
from hybridge.program.lifetime import Lifetime
from hybridge.protocol import connection_string
from hybridge.shared_sender import MAX_RENDEZVOUS
from tests.support.agent_ends import Target
from tests.support.chain import Chain, running_chain
from tests.support.relay import running_relay
from tests.support.until import until

CONNECTIONS = int(os.environ.get("N", "200"))
WARM_UP = 16
AT_A_TIME = 8
MOST_KIB = 100.0

DESCRIPTORS = {False: 6, True: 2}
"""Of one connection, in all three programs: each has one towards either side. Where connections
share a rendezvous, only the agent and the client have, towards target and application."""

KEPT = {False: 0, True: 4 * MAX_RENDEZVOUS}
"""Descriptors of the rendezvous that are kept for the next connection."""

pytestmark = pytest.mark.timeout(180)


@contextmanager
def idle_connections(chain: Chain, count: int) -> Iterator[None]:
    """Hold connections open, each joined and used for one byte both ways."""

    def connect(_: int) -> socket.socket:
        sock = chain.connect()
        sock.sendall(b"!")
        assert sock.recv(1) == b"!"
        return sock

    with ExitStack() as stack, ThreadPoolExecutor(AT_A_TIME) as pool:
        applications = pool.map(connect, range(count))
        for _ in range(count):
            far = stack.enter_context(chain.accept())
            far.sendall(far.recv(1))
        for near in applications:
            stack.enter_context(near)
        yield


@pytest.mark.parametrize("is_shared", [False, True])
def test_an_idle_connection_costs_at_most_100_kib_in_all_three_and_leaves_no_descriptor(
    tmp_path: Path, record_property: Callable[[str, object], None], is_shared: bool
) -> None:
    with running_chain(tmp_path, client_settings={"Multiplex": is_shared}) as chain:
        meter = Meter(chain.pids)
        at_first = meter.descriptors()
        with idle_connections(chain, WARM_UP):
            assert meter.descriptors() > at_first + WARM_UP * (DESCRIPTORS[is_shared] - 1)
        meter.settled_descriptors(at_first + KEPT[is_shared])
        before = meter.resident_bytes()

        with idle_connections(chain, CONNECTIONS):
            grown = {
                name: (size - before[name]) / CONNECTIONS / 1_024
                for name, size in meter.resident_bytes().items()
            }
        left = meter.settled_descriptors(at_first + KEPT[is_shared])

    record_property("KiB per idle connection", grown)
    assert sum(grown.values()) <= MOST_KIB
    assert left <= at_first + KEPT[is_shared]


async def test_no_task_is_left_of_a_connection() -> None:
    async def converse(address: tuple[str, int], target: Target) -> int:
        """Have one connection, from start to end; give how many tasks there were meanwhile."""
        reader, writer = await asyncio.open_connection(*address)
        far = await target.accept()
        writer.write(b"hello")
        assert await far.receive() == b"hello"
        tasks = len(asyncio.all_tasks())
        writer.write_eof()
        assert await far.receive() == b""
        await far.send_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await far.close()
        return tasks

    with Target() as target:
        async with running_relay() as relay, asyncio.TaskGroup() as programs:
            listen = connection_string.parse(relay.connection_string(key_name="listenrule"))
            agent_settings = AgentSettings(
                hybrid_connections=(
                    HybridConnectionSettings(
                        connection_string=listen,
                        target=TargetAddress("127.0.0.1", target.port),
                        ca=relay.ca,
                        connect_to=relay.connect_to,
                        endpoint_check_seconds=0,
                    ),
                )
            )
            agent = Agent(agent_settings, load=lambda: agent_settings, max_connections=100)
            send = connection_string.parse(relay.connection_string())
            opened: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
            client = Client(
                ClientSettings(
                    forwards=(Forward(connection_string=send, listen=("127.0.0.1", 0)),),
                    ca=relay.ca,
                    connect_to=relay.connect_to,
                ),
                max_connections=100,
                announce=lambda _, address: opened.put_nowait(address),
            )
            lives = Lifetime(), Lifetime()
            programs.create_task(agent.run(lives[0]), name="agent")
            programs.create_task(client.run(lives[1]), name="client")
            address = await opened.get()
            await until(lambda: relay.service.gateway.listeners.entities())
            with_one = await converse(address, target)

            for _ in range(20):
                await converse(address, target)

            await until(lambda: len(asyncio.all_tasks()) < with_one)
            for life in lives:
                life.stop()
