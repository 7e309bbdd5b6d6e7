"""A hosts file in step with the local ports that are open."""

from __future__ import annotations

from pathlib import Path

import pytest

from app_client.hosts_file import HostsFile
from tests.support.agent_ends import free_port
from tests.support.client_ends import (
    Information,
    Relay,
    dial,
    running,
    to,
    with_event,
)
from tests.support.until import until


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
