"""Both ends behind proxies: of our own, which inspect TLS too, and tinyproxy and microsocks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from app_client.client import Client
from app_client.settings import ClientSettings, Forward
from hcm_agent.settings import HybridConnectionSettings
from hybridge.listener import Listener
from hybridge.management import runtime_information
from hybridge.program.lifetime import Lifetime
from hybridge.protocol.connection_string import parse
from hybridge.protocol.errors import ProxyCredentialsRefused, ProxyRefused, UntrustedCertificate
from hybridge.protocol.proxies import Proxy, parse_proxy
from hybridge.sender import connect
from hybridge.token_check import ask_relay
from hybridge.transport.tcp import dial_tcp
from hybridge.transport.timing import Timing
from relay.settings import RelaySettings
from tests.hcm_agent.test_with_relay import connected, running_agent, serving
from tests.support.agent_ends import Target, free_port
from tests.support.authority import Authority
from tests.support.chain import (
    FULL_LENGTH,
    end,
    is_full_length,
    receive_to_end,
    running_chain,
    wait_for,
)
from tests.support.proxies import ConnectProxy, answering, scripted_proxy
from tests.support.proxy_programs import LOGIN, microsocks, tinyproxy
from tests.support.relay import HOST, RunningRelay, hybrid_connection, namespace, running_relay
from tests.support.until import until

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
            accepting = tasks.create_task(_echo_one(listener))
            async with connect(
                relay.connection_string(), ca=ca or relay.ca, proxy=proxy, connect_to=connect_to
            ) as stream:
                await stream.send(b"there and back")
                await stream.send_eof()
                answer = await stream.receive()
                assert await stream.receive() == b""
            await accepting
        return answer


async def _echo_one(listener: Listener) -> None:
    stream = await (await anext(listener)).accept()
    async with stream:
        while data := await stream.receive():
            await stream.send(data)
        await stream.send_eof()


# --- every way to the relay ----------------------------------------------------------------------


async def test_every_way_to_the_relay_goes_through_the_proxy() -> None:
    # The name is known to the proxy only: whatever dialled directly would not arrive.
    async with running_relay() as relay, behind_proxy(relay) as (proxy, address):
        assert await exchange(relay, address) == b"there and back"
        assert proxy.asked == 3 * [RELAY]  # control channel, sender, rendezvous

        found = await runtime_information(relay.connection_string(), ca=relay.ca, proxy=address)
        assert found.target == ("db.corp.local", 5432)
        assert len(proxy.asked) == 4

        verdict = await ask_relay(
            relay.token(), host=HOST, port=443, path="hc1", ca=relay.ca, proxy=address
        )
        assert verdict.opens
        assert len(proxy.asked) > 4
        assert set(proxy.asked) == {RELAY}


async def test_large_relayed_responses_take_a_rendezvous_through_the_proxy_too() -> None:
    body = 100_000 * b"x"

    async def answer(request: object) -> None:
        await request.respond(200, body)  # type: ignore[attr-defined] # an IncomingRequest

    async with running_relay() as relay, behind_proxy(relay) as (proxy, address):
        async with Listener(
            listening_string(relay), ca=relay.ca, proxy=address, request_handler=answer
        ) as listener:
            await listener.wait_online()
            reader, writer = await asyncio.open_connection(
                *relay.connect_to,
                ssl=ssl.create_default_context(cafile=str(relay.ca)),
                server_hostname=HOST,
            )
            writer.write(
                f"GET /hc1 HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n"
                f"ServiceBusAuthorization: {relay.token()}\r\n\r\n".encode()
            )
            received = await reader.read()
            writer.close()
            await listener.stop_accepting()
            await listener.wait_closed()

        assert received.startswith(b"HTTP/1.1 200")
        assert received.count(b"x") >= len(body)  # In chunks.
        assert proxy.asked == 2 * [RELAY]


async def test_what_connect_to_names_is_what_the_proxy_is_asked_for() -> None:
    async with running_relay() as relay, behind_proxy(relay) as (proxy, address):
        elsewhere = "10.11.12.13:8443"
        proxy.leads_to = {elsewhere: relay.connect_to}

        assert await exchange(relay, address, connect_to=("10.11.12.13", 8443)) == b"there and back"
        assert proxy.asked == 3 * [elsewhere]


async def test_a_rendezvous_host_beside_the_namespace_is_asked_for_by_its_own_name() -> None:
    gateway = "g1.servicebus.windows.net"
    settings = RelaySettings(drain_seconds=0.0, public_host=gateway)
    served = namespace(hosts=(HOST, gateway))
    async with (
        running_relay(served, settings=settings) as relay,
        behind_proxy(relay) as (proxy, address),
    ):
        proxy.leads_to[f"{gateway}:443"] = relay.connect_to

        assert await exchange(relay, address) == b"there and back"
        assert proxy.asked == [RELAY, RELAY, f"{gateway}:443"]


async def test_the_clients_port_and_its_connections_come_through_the_proxy() -> None:
    port = free_port()
    entity = hybrid_connection(target=("db.corp.local", port))
    async with (
        running_relay(namespace(entity)) as relay,
        behind_proxy(relay) as (proxy, address),
        Listener(
            listening_string(relay), ca=relay.ca, connect_to=relay.connect_to, proxy="none"
        ) as listener,
        asyncio.TaskGroup() as tasks,
    ):
        await listener.wait_online()
        accepting = tasks.create_task(_echo_one(listener))
        opened: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        lifetime = Lifetime()
        client = Client(
            ClientSettings(
                forwards=(Forward(connection_string=parse(relay.connection_string())),),
                ca=relay.ca,
                proxy=parsed(address),
            ),
            max_connections=10,
            announce=lambda _, where: opened.put_nowait(where),
        )
        tasks.create_task(client.run(lifetime))

        local = await dial_tcp(*await opened.get())
        async with local:
            await local.send(b"select 1")
            assert await local.receive() == b"select 1"
            await local.send_eof()
            assert await local.receive() == b""
        await accepting
        assert proxy.asked == 2 * [RELAY]  # the metadata, then the connection
        lifetime.stop()


async def test_the_environments_proxy_is_used_and_a_loopback_address_is_dialled_directly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("https_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with running_relay() as relay, behind_proxy(relay) as (proxy, address):
        monkeypatch.setenv("HTTPS_PROXY", address)
        text = relay.connection_string()

        assert (await runtime_information(text, ca=relay.ca)).listener_count == 0
        assert proxy.asked == [RELAY]
        await runtime_information(text, ca=relay.ca, connect_to=relay.connect_to)
        assert proxy.asked == [RELAY]


# --- proxies that inspect TLS --------------------------------------------------------------------


async def test_an_inspecting_proxys_authority_is_named_and_with_its_certificate_all_works(
    tmp_path: Path,
) -> None:
    company = Authority("Corp Proxy CA", tmp_path)
    async with running_relay() as relay, behind_proxy(relay, inspector=company) as (_, address):
        failures: list[UntrustedCertificate] = []
        async with Listener(listening_string(relay), ca=relay.ca, proxy=address) as listener:
            with pytest.raises(UntrustedCertificate) as caught:
                await listener.wait_online()
            failures.append(caught.value)
        with pytest.raises(UntrustedCertificate) as caught:
            await connect(relay.connection_string(), ca=relay.ca, proxy=address)
        failures.append(caught.value)

        for failure in failures:
            assert failure.issuer == "Corp Proxy CA"
            assert f"the certificate of {HOST} is not trusted" in str(failure)
            assert "issued by 'Corp Proxy CA'" in str(failure)
            assert "inspect TLS" in failure.hint
            assert "--ca" in failure.hint

        answer = await exchange(relay, address, ca=company.path)
        assert answer == b"there and back"


# --- the agent keeps trying ----------------------------------------------------------------------


async def test_an_agent_says_why_the_proxy_refuses_without_secrets_and_is_back_when_it_heals(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with Target() as target:
        async with running_relay() as relay:
            good = ConnectProxy({RELAY: relay.connect_to})
            bad = answering(b"HTTP/1.1 407 Who are you, alice:s3cr3t?\r\n\r\n")
            handles = [bad]

            async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await handles[-1](reader, writer)

            async with scripted_proxy(handle) as port:
                settings = through(f"http://alice:s3cr3t@127.0.0.1:{port}", relay, target.port)
                async with running_agent(settings):
                    await until(lambda: events(caplog, "offline"))
                    handles.append(good.handle)

                    await until(lambda: events(caplog, "online"))
                    assert good.asked == [RELAY]

    offline = events(caplog, "offline")[0]
    assert "refused the user name or the password (407" in str(offline["error"])
    assert "--proxy" in str(offline["hint"])
    assert {str(each["proxy"]) for each in events(caplog, "proxy")} == {
        f"http://***@127.0.0.1:{port}"
    }
    everything = "\n".join(str(record.__dict__) for record in caplog.records)
    assert "s3cr3t" not in everything
    assert "alice" not in everything


def through(proxy: str, relay: RunningRelay, port: int) -> HybridConnectionSettings:
    """An agent's settings with a proxy, and without connect-to."""
    return replace(serving(relay, target=port), proxy=parsed(proxy), connect_to=None)


def parsed(address: str) -> Proxy:
    proxy = parse_proxy(address, setting="--proxy")
    assert isinstance(proxy, Proxy)
    return proxy


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, object]]:
    return [each.__dict__ for each in caplog.records if each.__dict__.get("event") == name]


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
        accepting = tasks.create_task(_echo_one(kept))
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
