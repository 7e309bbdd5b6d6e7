"""All local ports of a process: how they open, what is told of them, how they end."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from pathlib import Path

import pytest

from app_client.hosts_file import HostsFile
from app_client.settings import ClientSettings
from hybridge.protocol.errors import (
    AuthorizationFailed,
    InvalidSetting,
    RelayError,
    Unreachable,
)
from hybridge.transport.listening import AddressUnusable
from hybridge.transport.stream import Stream
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


@pytest.mark.parametrize(("rule", "count"), [("defaultListener", 1), ("listenAndSend", 0)])
async def test_an_agents_connection_string_is_suspected_at_once(
    caplog: pytest.LogCaptureFixture, rule: str, count: int
) -> None:
    async with running(Relay(), to("orders", rule=rule)) as client:
        await client.addresses.get()

    found = with_event(caplog, "rule_of_an_agent")
    assert len(found) == count
    assert all("Send" in record.message and record.__dict__["hint"] for record in found)


# --- reload --------------------------------------------------------------------------------------


async def test_a_hang_up_without_a_file_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with running(Relay(), to("orders")) as client:
        await client.addresses.get()
        client.hang_up()

        assert not client.lifetime.stopping.is_set()
    assert with_event(caplog, "reload_refused")


async def test_a_reload_opens_what_is_new_closes_what_is_gone_and_cuts_nothing() -> None:
    relay = Relay()
    port = free_port()
    gone, kept = to("gone", listen=("127.0.0.1", port)), to("kept")
    new = to("new", listen=("127.0.0.1", port))
    reloads = [ClientSettings(forwards=(kept, new))]
    async with running(relay, gone, kept, reloads=reloads) as client:
        found = dict([await client.addresses.get(), await client.addresses.get()])
        ends: list[Stream] = []
        for name in ("gone", "kept"):
            ends += [await dial_tcp(*found[name]), await relay.far_ends.get()]

        client.hang_up()
        # The new one takes the port of the one that is gone.
        assert await client.addresses.get() == ("new", ("127.0.0.1", port))
        ends += [await dial_tcp("127.0.0.1", port), await relay.far_ends.get()]
        ends += [await dial_tcp(*found["kept"]), await relay.far_ends.get()]
        assert client.addresses.empty()

        for near, far in zip(ends[::2], ends[1::2], strict=True):
            await near.send(b"still here")
            assert await far.receive() == b"still here"
        for end in ends:
            end.abort()

    assert relay.names == ["gone", "kept", "new", "kept"]


async def test_a_reload_with_an_error_in_the_file_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    relay = Relay()
    error = InvalidSetting("client.json: HybridConections", "unknown key", hint="HybridConnections")
    async with running(relay, to("orders"), reloads=[error]) as client:
        _, address = await client.addresses.get()

        client.hang_up()

        ends = [await dial_tcp(*address), await relay.far_ends.get()]
        for end in ends:
            end.abort()
    (record,) = with_event(caplog, "reload_refused")
    assert "unknown key" in record.message
    assert record.__dict__["hint"] == "HybridConnections"


async def test_after_a_reload_nothing_that_works_is_ended_by_what_does_not() -> None:
    relay = Relay(metadata=AuthorizationFailed("401 InvalidSignature"))
    reloads = [ClientSettings(forwards=(to("stock", listen=None),))]
    async with running(relay, to("orders"), reloads=reloads) as client:
        application = await dial(client)
        target = await relay.far_ends.get()

        client.hang_up()
        await until(lambda: any(each.failure for each in client.client.served))

        await application.send(b"still here")
        assert await target.receive() == b"still here"
        for end in (application, target):
            end.abort()


# --- the hosts file ------------------------------------------------------------------------------


async def test_the_hosts_file_has_the_names_of_what_is_open_and_is_as_before_at_the_end(
    tmp_path: Path,
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(b"127.0.0.1 localhost\n")
    relay = Relay(metadata=Information(("db.corp.local", free_port())))
    async with running(relay, to("orders", listen=None), hosts=hosts) as client:
        await client.addresses.get()
        await until(lambda: b"127.100.96.91  db.corp.local  #" in hosts.read_bytes())

        client.lifetime.stop()
        await until(lambda: hosts.read_bytes() == b"127.0.0.1 localhost\n")


async def test_for_the_hosts_file_the_target_of_a_chosen_address_is_asked_for(
    tmp_path: Path,
) -> None:
    hosts = tmp_path / "hosts"
    hosts.touch()
    relay = Relay(metadata=Information(("db.corp.local", 5432)))
    async with running(relay, to("orders", listen=("127.0.0.9", 0)), hosts=hosts):
        await until(lambda: "127.0.0.9  db.corp.local  #" in hosts.read_text())
        assert "instead of 5432" in hosts.read_text()


async def test_what_a_killed_client_left_in_the_hosts_file_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = tmp_path / "hosts"
    hosts.touch()
    HostsFile(hosts).write(["127.64.0.9  old.corp.local"])
    async with running(Relay(), to("orders"), hosts=hosts) as client:
        await client.addresses.get()
        assert hosts.read_bytes() == b""

    assert with_event(caplog, "hosts_replaced")


async def test_lines_that_another_client_has_put_there_meanwhile_stay(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.touch()
    forward = to("orders", listen=None, target=("db.corp.local", free_port()))
    async with running(Relay(), forward, hosts=hosts):
        await until(lambda: b"db.corp.local" in hosts.read_bytes())
        HostsFile(hosts).write(["127.64.0.9  other.corp.local"])

    assert HostsFile(hosts).lines() == ["127.64.0.9  other.corp.local"]


async def test_an_ip_address_gets_no_line_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = tmp_path / "hosts"
    hosts.touch()
    forward = to("orders", listen=None, target=("10.0.0.5", free_port()))
    async with running(Relay(), forward, hosts=hosts) as client:
        await client.addresses.get()
        await until(lambda: bool(with_event(caplog, "hosts")))

    (record,) = with_event(caplog, "hosts")
    assert "is an IP address" in record.message
    assert hosts.read_bytes() == b""


async def test_a_hosts_file_that_breaks_later_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = tmp_path / "hosts"
    hosts.touch()
    relay = Relay()
    async with running(relay, to("orders", target=("db.corp.local", 1)), hosts=hosts) as client:
        hosts.write_bytes(b"# BEGIN hybridge, and no end\n")
        application = await dial(client)
        target = await relay.far_ends.get()
        for end in (application, target):
            end.abort()

    assert "does not begin and end once" in caplog.text
