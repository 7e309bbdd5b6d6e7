"""Our agent and our client speak azbridge with each other, on every kind of event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from app_client.client import Client
from app_client.settings import ClientSettings, Forward
from hcm_agent.agent import Agent
from hcm_agent.port_names import parse_target
from hcm_agent.settings import AgentSettings, HybridConnectionSettings
from hybridge.management import runtime_information
from hybridge.program import datagrams
from hybridge.program.lifetime import Lifetime
from hybridge.protocol import connection_string
from hybridge.protocol.azbridge import Mode
from hybridge.transport.listening import open_sockets
from hybridge.transport.tcp import dial_tcp, open_tcp
from hybridge.transport.udp import Peer, UdpSocket, dial_udp
from tests.support.loops import on_every_loop
from tests.support.relay import RunningRelay, running_relay

Addresses = tuple[tuple[str, int], tuple[str, int]]


@contextlib.asynccontextmanager
async def programs(relay: RunningRelay, *targets: str) -> AsyncIterator[Addresses]:
    """An agent and a client; gives the client's TCP and UDP ports."""

    def parsed(key_name: str) -> connection_string.ConnectionString:
        return connection_string.parse(relay.connection_string(key_name=key_name))

    entry = HybridConnectionSettings(
        connection_string=parsed("listenrule"),
        azbridge=tuple(parse_target(each, setting="--target") for each in targets),
        ca=relay.ca,
        connect_to=relay.connect_to,
        endpoint_check_seconds=0,
    )
    forwards = [
        Forward(
            connection_string=parsed("sendrule"),
            listen=(host, 0),
            mode=mode,
            is_azbridge=True,
            port_name=name,
        )
        for host, mode, name in (
            ("127.0.0.1", Mode.STREAM, "tcp"),
            ("::1", Mode.DATAGRAM, "udp"),
        )
    ]
    client_settings = ClientSettings(
        forwards=tuple(forwards), ca=relay.ca, connect_to=relay.connect_to
    )
    settings = AgentSettings(hybrid_connections=(entry,))
    agent = Agent(settings, load=lambda: settings, max_connections=10)
    opened: dict[str, tuple[str, int]] = {}
    are_open = asyncio.Event()

    def announce(local: object, address: tuple[str, int]) -> None:
        opened[address[0]] = address
        if len(opened) == len(forwards):
            are_open.set()

    client = Client(client_settings, max_connections=10, announce=announce)
    agent_life, client_life = Lifetime(), Lifetime()
    async with asyncio.TaskGroup() as tasks:
        agent_over = tasks.create_task(agent.run(agent_life))
        client_over = tasks.create_task(client.run(client_life))
        await are_open.wait()
        await agent_is_online(relay)
        yield opened["127.0.0.1"], opened["::1"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(datagrams, "LAST_WORDS_SECONDS", 0.0)
            client_life.stop()
            agent_life.stop()
            await client_over
            await agent_over


async def agent_is_online(relay: RunningRelay) -> None:
    text = relay.connection_string()
    found = 0
    while not found:  # Each question takes a connection: no busy waiting.
        information = await runtime_information(text, ca=relay.ca, connect_to=relay.connect_to)
        found = information.listener_count


@on_every_loop
async def test_tcp_and_the_longest_udp_datagrams_pass_through_one_hybrid_connection() -> None:
    tcp = open_sockets("127.0.0.1", 0, flag="--port")[0]
    udp = open_sockets("::1", 0, flag="--port", kind=socket.SOCK_DGRAM)[0]
    longest = bytes(each % 251 for each in range(65_527))  # IPv6 has 20 bytes more room than IPv4.
    came: asyncio.Queue[bytes] = asyncio.Queue()
    with UdpSocket(udp) as echo, tcp:

        def answer(buffer: memoryview, start: int, end: int, peer: Peer) -> None:
            assert echo.send(bytes(buffer[start:end]), peer)

        def take(buffer: memoryview, start: int, end: int, peer: Peer) -> None:
            came.put_nowait(bytes(buffer[start:end]))

        targets = (
            f"tcp/127.0.0.1:{tcp.getsockname()[1]}",
            f"udp/udp://[::1]:{udp.getsockname()[1]}",
        )
        async with (
            running_relay() as relay,
            programs(relay, *targets) as (tcp_port, udp_port),
            asyncio.TaskGroup() as tasks,
        ):
            echoing = tasks.create_task(echo.receive(answer))
            with await dial_udp(*udp_port) as application:
                receiving = tasks.create_task(application.receive(take))
                for datagram in (b"", b"x", longest):
                    assert application.send(datagram)
                    assert await came.get() == datagram
                receiving.cancel()
                echoing.cancel()
                # The loop must forget the sockets before they are closed.
                await asyncio.wait([receiving, echoing])

            local = await dial_tcp(*tcp_port)
            target, _ = await asyncio.get_running_loop().sock_accept(tcp)
            remote = await open_tcp(target)
            await local.send(b"select 1")
            await local.send_eof()
            assert await remote.receive() == b"select 1"
            assert await remote.receive() == b""
            await remote.send(b"one row")
            await remote.send_eof()
            assert await local.receive() == b"one row"
            assert await local.receive() == b""
            await local.close()
            await remote.close()
