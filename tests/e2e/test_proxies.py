"""Both ends behind proxies of our own, which inspect TLS too."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

import pytest

from app_client.client import Client
from app_client.settings import ClientSettings, Forward
from hybridge.listener import Listener
from hybridge.management import runtime_information
from hybridge.program.lifetime import Lifetime
from hybridge.protocol.connection_string import parse
from hybridge.protocol.errors import UntrustedCertificate
from hybridge.sender import connect
from hybridge.token_check import ask_relay
from hybridge.transport.tcp import dial_tcp
from relay.settings import RelaySettings
from tests.hcm_agent.test_with_relay import running_agent
from tests.support.agent_ends import Target, free_port
from tests.support.authority import Authority
from tests.support.behind_proxies import (
    RELAY,
    behind_proxy,
    echo_one,
    events,
    exchange,
    listening_string,
    parsed,
    through,
)
from tests.support.proxies import ConnectProxy, answering, scripted_proxy
from tests.support.relay import HOST, hybrid_connection, namespace, running_relay
from tests.support.until import until

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
        accepting = tasks.create_task(echo_one(listener))
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
