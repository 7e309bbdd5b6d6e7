"""Both ends behind tinyproxy and microsocks, as Debian has them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from hybridge.listener import Listener
from hybridge.protocol.errors import ProxyCredentialsRefused, ProxyRefused
from hybridge.sender import connect
from hybridge.transport.timing import Timing
from relay.settings import RelaySettings
from tests.hcm_agent.test_with_relay import connected, running_agent
from tests.support.agent_ends import Target
from tests.support.behind_proxies import (
    echo_one,
    through,
)
from tests.support.chain import (
    FULL_LENGTH,
    end,
    is_full_length,
    receive_to_end,
    running_chain,
    wait_for,
)
from tests.support.proxy_programs import LOGIN, microsocks, tinyproxy
from tests.support.relay import RunningRelay, hybrid_connection, namespace, running_relay
from tests.support.until import until

# --- programs from Debian ------------------------------------------------------------------------

Runs = Callable[..., AbstractAsyncContextManager[str]]


@pytest.mark.parametrize("login", [None, LOGIN], ids=["open", "login"])
@pytest.mark.parametrize("runs", [tinyproxy, microsocks])
async def test_an_agent_and_a_sender_work_through_a_real_proxy(
    runs: Runs, login: tuple[str, str] | None, tmp_path: Path
) -> None:
    with Target() as target:
        async with running_relay() as relay, runs(tmp_path, login=login) as address:
            agent = replace(through(address, relay, target.port), connect_to=relay.connect_to)
            async with running_agent(agent):
                sender = await connected(relay, proxy=address)
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


@pytest.mark.skipif(not is_full_length(), reason=f"the same with programs: {FULL_LENGTH}=1")
@pytest.mark.parametrize("login", [None, LOGIN], ids=["open", "login"])
@pytest.mark.parametrize("runs", [tinyproxy, microsocks])
async def test_the_programs_themselves_work_through_a_real_proxy(
    runs: Runs, login: tuple[str, str] | None, tmp_path: Path
) -> None:
    def carry(environment: Mapping[str, str]) -> None:
        with running_chain(tmp_path, environment=environment) as chain:
            with chain.pair() as (near, far):
                near.sendall(b"select 1")
                near.shutdown(socket.SHUT_WR)
                assert receive_to_end(far) == (b"select 1", False)
                far.sendall(b"one row")
                far.shutdown(socket.SHUT_WR)
                assert receive_to_end(near) == (b"one row", False)
            for program in (chain.agent, chain.client):
                assert "s3cr3t" not in wait_for(program, "proxy").text("proxy")
            for program in (chain.agent, chain.client, chain.relay.program):
                end(program)
                lines = program.process.lines_since(0)
                assert not [line for line in lines if "s3cr3t" in line]

    async with runs(tmp_path, login=login) as address:
        await asyncio.to_thread(carry, {"HCM_PROXY": address, "APP_CLIENT_PROXY": address})


@pytest.mark.parametrize("runs", [tinyproxy, microsocks])
@pytest.mark.parametrize("login", ["", "alice:wrong@"], ids=["missing", "wrong"])
async def test_a_real_proxy_that_wants_another_login_is_told(
    runs: Runs, login: str, tmp_path: Path
) -> None:
    async with running_relay() as relay, runs(tmp_path, login=LOGIN) as address:
        scheme, _, host = address.replace("alice:s3cr3t@", login).partition("://")
        with pytest.raises(ProxyCredentialsRefused) as caught:
            await connect(
                relay.connection_string(),
                ca=relay.ca,
                connect_to=relay.connect_to,
                proxy=f"{scheme}://{host}",
            )

    expected = "refused the user name" if login else "asks for a user name"
    assert expected in str(caught.value)


@pytest.mark.parametrize("runs", [tinyproxy, microsocks])
async def test_a_real_proxy_that_cannot_reach_the_relay_is_told(
    runs: Runs, tmp_path: Path, unused_tcp_port: int
) -> None:
    async with running_relay() as relay, runs(tmp_path) as address:
        with pytest.raises(ProxyRefused, match="cannot reach") as caught:
            await connect(
                relay.connection_string(),
                ca=relay.ca,
                connect_to=("127.0.0.1", unused_tcp_port),
                proxy=address,
            )

    assert f"127.0.0.1:{unused_tcp_port}" in caught.value.hint


# --- idle for longer than the proxy allows -------------------------------------------------------

CUT_SECONDS = 60 if is_full_length() else 2


@pytest.mark.timeout(20 * CUT_SECONDS)
async def test_pings_keep_what_is_idle_and_what_the_proxy_has_cut_comes_back(
    tmp_path: Path,
) -> None:
    often = Timing(ping_interval_seconds=CUT_SECONDS / 4)
    seldom = Timing(ping_interval_seconds=10 * CUT_SECONDS)
    two = namespace(hybrid_connection("often"), hybrid_connection("seldom"))
    mute = RelaySettings(drain_seconds=0.0, ping_interval_seconds=10.0 * CUT_SECONDS)
    async with (
        running_relay(two, settings=mute) as relay,
        tinyproxy(tmp_path, idle_seconds=CUT_SECONDS) as address,
        _listener(relay, "often", address, often) as kept,
        asyncio.TaskGroup() as tasks,
    ):
        kept_changes = _changes(kept)
        accepting = tasks.create_task(echo_one(kept))
        stream = await connect(
            relay.connection_string("often"),
            ca=relay.ca,
            connect_to=relay.connect_to,
            proxy=address,
            timing=often,
        )
        async with _listener(relay, "seldom", address, seldom) as cut:
            # It came last, and when it is cut, the others have been idle for longer than it.
            cut_changes = _changes(cut)
            await until(lambda: len(cut_changes) >= 2, within=10 * CUT_SECONDS)
            assert cut_changes[:2] == [False, True]

        await stream.send(b"still here")
        assert await stream.receive() == b"still here"
        await stream.send_eof()
        assert await stream.receive() == b""
        await stream.close()
        await accepting
        assert kept_changes == []


@contextlib.asynccontextmanager
async def _listener(
    relay: RunningRelay, path: str, proxy: str, timing: Timing
) -> AsyncIterator[Listener]:
    async with Listener(
        relay.connection_string(path, key_name="listenrule"),
        ca=relay.ca,
        connect_to=relay.connect_to,
        proxy=proxy,
        timing=timing,
    ) as listener:
        await listener.wait_online()
        yield listener


def _changes(listener: Listener) -> list[bool]:
    """Give the list of what it becomes from now on: online or not."""
    changes: list[bool] = []
    listener.on_change = lambda: changes.append(listener.is_online)
    return changes
