"""All local ports of a process: how they open, what is told of them, how they end."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from pathlib import Path

import pytest

from hybridge.protocol.errors import (
    AuthorizationFailed,
    RelayError,
    Unreachable,
)
from hybridge.transport.listening import AddressUnusable
from hybridge.transport.tcp import dial_tcp
from tests.support.agent_ends import free_port, receive_all
from tests.support.client_ends import (
    Information,
    Relay,
    dial,
    only,
    outcome_of,
    refused,
    running,
    to,
    with_event,
)
from tests.support.until import until


async def test_each_hybrid_connection_has_a_port_of_its_own() -> None:
    relay = Relay()
    async with running(relay, to("orders"), to("bills")) as client:
        ports = dict([await client.addresses.get(), await client.addresses.get()])
        ends = []
        for name in ("orders", "bills", "orders"):
            ends.append(await dial_tcp(*ports[name]))
            ends.append(await relay.far_ends.get())
        for end in ends:
            end.abort()

    assert relay.names == ["orders", "bills", "orders"]


async def test_asked_to_stop_it_gives_the_port_back_and_lets_running_connections_end() -> None:
    relay = Relay()
    async with running(relay, to("orders")) as client:
        _, address = await client.addresses.get()
        application = await dial_tcp(*address)
        target = await relay.far_ends.get()

        client.lifetime.stop()
        await refused(address)
        await application.send(b"late")
        await application.send_eof()

        assert await receive_all(target) == b"late"
        await target.send_eof()
        assert await receive_all(application) == b""
        await application.close()
        await target.close()


async def test_what_still_runs_after_the_grace_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    relay = Relay()
    with caplog.at_level(logging.INFO):
        async with running(relay, to("orders"), drain_seconds=0.01) as client:
            application = await dial(client)
            target = await relay.far_ends.get()
            await application.send(b"x")
            assert await target.receive() == b"x"
            client.lifetime.stop()

            with pytest.raises(RelayError, match="reset"):
                await application.receive()
            for end in (application, target):
                end.abort()

    assert with_event(caplog, "drain_over")
    assert with_event(caplog, "connection_closed")[0].__dict__["outcome"] == "stopped"


async def test_the_port_is_that_of_the_metadata_at_an_address_of_its_own() -> None:
    port = free_port()
    relay = Relay(metadata=Information(("db.corp.local", port)))
    async with running(relay, to("orders", listen=None)) as client:
        assert await client.addresses.get() == ("orders", ("127.100.96.91", port))


async def test_two_hybrid_connections_with_the_same_port_do_not_collide() -> None:
    port = free_port()
    relay = Relay()
    forwards = [
        to(name, listen=None, target=(f"{name}.corp.local", port)) for name in ("orders", "stock")
    ]
    async with running(relay, *forwards) as client:
        found = dict([await client.addresses.get(), await client.addresses.get()])
        ends = [await dial_tcp(*found["orders"]), await relay.far_ends.get()]
        ends += [await dial_tcp(*found["stock"]), await relay.far_ends.get()]
        for end in ends:
            end.abort()

    assert found["orders"][1] == found["stock"][1] == port
    assert relay.names == ["orders", "stock"]


@pytest.mark.parametrize(
    ("host", "problem"),
    [("10.0.0.5", "App Service would bypass"), ("localhost", "App Service on Linux refuses it")],
)
async def test_an_endpoint_without_a_name_is_pointed_out(
    caplog: pytest.LogCaptureFixture, host: str, problem: str
) -> None:
    unnamed = to("orders", listen=None, target=(host, free_port()))
    named = to("stock", listen=None, target=("db.corp.local", free_port()))
    async with running(Relay(), unnamed, named) as client:
        for _ in range(2):
            await client.addresses.get()

    (record,) = with_event(caplog, "name_unusable")
    assert record.__dict__["hybrid_connection"] == "orders"
    assert problem in record.message
    assert "host name" in record.__dict__["hint"]


async def test_an_endpoint_that_is_known_needs_no_relay() -> None:
    relay = Relay(metadata=Unreachable("no route"))
    forward = to("orders", listen=None, target=("db.corp.local", free_port()))
    async with running(relay, forward) as client:
        assert (await client.addresses.get())[0] == "orders"


async def test_a_relay_that_is_away_holds_back_only_the_port_that_it_must_name() -> None:
    relay = Relay(metadata=Unreachable("no route"))
    async with running(relay, to("waits", listen=None), to("ready")) as client:
        name, _ = await client.addresses.get()

        assert name == "ready"


async def test_a_wrong_key_is_the_end_when_the_port_must_be_asked_for() -> None:
    relay = Relay(metadata=AuthorizationFailed("401 InvalidSignature"))

    with pytest.raises(BaseExceptionGroup) as caught:
        async with running(relay, to("orders", listen=None)):
            await asyncio.Event().wait()

    error = only(caught)
    assert isinstance(error, AuthorizationFailed)
    assert "--listen" in error.hint


async def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BaseExceptionGroup) as caught:
            async with running(Relay(), to("orders", listen=("127.0.0.1", port))):
                await asyncio.Event().wait()

    error = only(caught)
    assert isinstance(error, AddressUnusable)
    assert f"127.0.0.1:{port}" in str(error)
    assert error.hint


async def test_an_address_of_its_own_that_is_in_use_is_named() -> None:
    with socket.create_server(("127.100.96.91", 0)) as taken:
        forward = to("orders", listen=None, target=("db.corp.local", taken.getsockname()[1]))
        with pytest.raises(BaseExceptionGroup) as caught:
            async with running(Relay(), forward):
                await asyncio.Event().wait()

    assert "127.100.96.91:" in str(only(caught))
    assert "in use" in str(only(caught))


async def test_a_port_for_the_whole_network_gets_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(Relay(), to("orders", listen=("0.0.0.0", 0))) as client:  # noqa: S104
        await client.addresses.get()

    assert len(with_event(caplog, "open_to_network")) == 1


async def test_the_ready_file_exists_while_all_ports_are_open(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    async with running(Relay(), to("orders"), to("bills"), ready_file=ready) as client:
        found = dict([await client.addresses.get(), await client.addresses.get()])
        await asyncio.sleep(0)

        document = json.loads(ready.read_text())
        assert {each["hybrid_connection"]: each["port"] for each in document["listening"]} == {
            name: port for name, (_, port) in found.items()
        }
    assert not ready.exists()


async def test_at_the_end_a_dial_in_flight_is_given_up_at_once() -> None:
    relay = Relay()
    relay.may_answer.clear()
    async with asyncio.timeout(30), running(relay, to("orders")) as client:
        local = await dial(client)
        await relay.asked.acquire()
        client.lifetime.stop()
        await relay.cancelled.wait()
        assert "reset" in await outcome_of(local)


async def test_one_that_cannot_be_opened_leaves_the_others_alone_and_is_opened_when_it_can(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    relay = Relay(metadata_of={"stock": AuthorizationFailed("401 InvalidSignature")})
    ready = tmp_path / "ready"
    async with running(relay, to("orders"), to("stock", listen=None), ready_file=ready) as client:
        assert (await client.addresses.get())[0] == "orders"
        await until(lambda: bool(with_event(caplog, "not_open")))
        assert not ready.exists()

        relay.metadata_of["stock"] = Information(("db.corp.local", free_port()))
        assert (await client.addresses.get())[0] == "stock"
        await until(ready.exists)

    (record,) = with_event(caplog, "not_open")
    assert record.levelno == logging.ERROR
    assert "InvalidSignature" in record.message
    assert record.__dict__["hint"]


async def test_none_that_can_be_opened_is_the_end() -> None:
    relay = Relay(metadata=AuthorizationFailed("401 InvalidSignature"))

    with pytest.raises(BaseExceptionGroup) as caught:
        async with running(relay, to("orders", listen=None), to("stock", listen=None)):
            await asyncio.Event().wait()

    assert isinstance(only(caught), AuthorizationFailed)


@pytest.mark.parametrize(
    ("grants_send", "then"),
    [
        (False, "send_not_granted"),
        (True, "send_granted"),
        (None, None),
        (Unreachable("no route"), None),
    ],
)
async def test_an_agents_connection_string_is_suspected_at_once_and_the_relay_is_asked(
    caplog: pytest.LogCaptureFixture, grants_send: bool | RelayError | None, then: str | None
) -> None:
    caplog.set_level(logging.DEBUG)
    relay = Relay(grants_send=grants_send)
    async with running(relay, to("orders", rule="defaultListener")) as client:
        await client.addresses.get()
        await until(lambda: "the relay " in caplog.text)

    (suspicion,) = with_event(caplog, "rule_of_an_agent")
    assert "Send" in suspicion.message
    assert suspicion.__dict__["hint"]
    events = [each.__dict__.get("event", "") for each in caplog.records]
    assert [each for each in events if each.startswith("send_")] == ([then] if then else [])


@pytest.mark.parametrize("rule", ["listenAndSend", "RootManageSharedAccessKey", "defaultSender"])
async def test_of_other_rules_the_relay_is_not_asked(
    caplog: pytest.LogCaptureFixture, rule: str
) -> None:
    relay = Relay(grants_send=False)
    async with running(relay, to("orders", rule=rule)) as client:
        for end in (await dial(client), await relay.far_ends.get()):
            end.abort()

    assert not with_event(caplog, "rule_of_an_agent")
    assert not with_event(caplog, "send_not_granted")
