"""The client's answers to a real relay's."""

from __future__ import annotations

import asyncio
import ipaddress
import logging

import pytest

from app_client.client import Client
from app_client.placement import NETWORK
from app_client.send_right import may_send
from app_client.settings import ClientSettings, Forward
from hybridge.program.lifetime import Lifetime
from hybridge.protocol import connection_string
from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import (
    AuthorizationFailed,
    EndpointNotFound,
    RelayError,
    UntrustedCertificate,
)
from hybridge.transport.tcp import dial_tcp
from tests.support.agent_ends import free_port
from tests.support.relay import KEY, RunningRelay, hybrid_connection, namespace, rule, running_relay


def settings_for(
    relay: RunningRelay,
    *,
    path: str = "hc1",
    key: str = KEY,
    listen: tuple[str, int] | None = None,
    trusts_relay: bool = True,
) -> ClientSettings:
    parsed = connection_string.parse(relay.connection_string(path, key=key))
    return ClientSettings(
        forwards=(Forward(connection_string=parsed, listen=listen),),
        ca=relay.ca if trusts_relay else None,
        connect_to=relay.connect_to,
    )


async def run_to_failure(settings: ClientSettings) -> BaseException:
    client = Client(settings, max_connections=10, announce=lambda *_: None)
    with pytest.raises(BaseExceptionGroup) as caught:
        await client.run(Lifetime())
    (error,) = caught.value.exceptions
    return error


async def test_the_port_comes_from_the_relays_metadata() -> None:
    port = free_port()
    entity = hybrid_connection(target=("db.corp.local", port))
    async with running_relay(namespace(entity)) as relay, asyncio.TaskGroup() as tasks:
        opened: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        lifetime = Lifetime()
        client = Client(
            settings_for(relay),
            max_connections=10,
            announce=lambda _, address: opened.put_nowait(address),
        )
        tasks.create_task(client.run(lifetime))

        host, opened_port = await opened.get()
        assert (ipaddress.ip_address(host) in NETWORK, opened_port) == (True, port)
        lifetime.stop()


async def test_a_wrong_key_is_final() -> None:
    async with running_relay() as relay:
        error = await run_to_failure(settings_for(relay, key=KEY[::-1]))

    assert isinstance(error, AuthorizationFailed)
    assert "invalid signature" in str(error)
    assert error.hint


async def test_an_unknown_hybrid_connection_is_final() -> None:
    root = "RootManageSharedAccessKey"
    async with running_relay() as relay:
        text = relay.connection_string("nowhere", key_name=root, key=KEY[::-1])
        settings = ClientSettings(
            forwards=(Forward(connection_string=connection_string.parse(text)),),
            ca=relay.ca,
            connect_to=relay.connect_to,
        )
        error = await run_to_failure(settings)

    assert isinstance(error, EndpointNotFound)
    assert error.hint


async def test_an_untrusted_relay_is_final() -> None:
    async with running_relay() as relay:
        error = await run_to_failure(settings_for(relay, trusts_relay=False))

    assert isinstance(error, UntrustedCertificate)
    assert "--ca" in error.hint


async def test_without_a_listener_the_application_is_reset_and_the_log_says_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        async with running_relay() as relay, asyncio.TaskGroup() as tasks:
            opened: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
            lifetime = Lifetime()
            client = Client(
                settings_for(relay, listen=("127.0.0.1", 0)),
                max_connections=10,
                announce=lambda _, address: opened.put_nowait(address),
            )
            tasks.create_task(client.run(lifetime))
            application = await dial_tcp(*await opened.get())

            with pytest.raises(RelayError, match="reset"):
                await application.receive()
            application.abort()
            lifetime.stop()

    records = [
        record.__dict__
        for record in caplog.records
        if record.__dict__.get("event") == "connection_refused"
    ]
    assert records[0]["status"] == 404
    assert "TrackingId:" in records[0]["message"]
    assert "hcm run" in records[0]["hint"]


@pytest.mark.parametrize(("claim", "is_granted"), [(Claim.LISTEN, False), (Claim.SEND, True)])
async def test_the_relay_tells_whether_a_rule_grants_send(claim: Claim, is_granted: bool) -> None:
    entity = hybrid_connection(rules=[rule("defaultListener", claim)])
    async with running_relay(namespace(entity)) as relay:
        text = relay.connection_string("hc1", key_name="defaultListener")
        forward = Forward(connection_string=connection_string.parse(text))
        settings = ClientSettings(forwards=(forward,), ca=relay.ca, connect_to=relay.connect_to)

        assert await may_send(forward, settings) is is_granted
