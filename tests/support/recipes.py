"""Runs the cookbook's examples as the applications that they are: names lead to app-client.

An example runs in this process, so that no time goes into starting interpreters; the test compares
what it prints. A hosts file is not touched: the names are resolved as its lines would do it.
"""

from __future__ import annotations

import contextlib
import random
import runpy
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import json5
import pytest
from click.testing import CliRunner

from app_client.cli import cli as app_client
from hybridge.program.host_port import parse_host_port
from tests.support.chain import (
    RelayProcess,
    running,
    running_agent,
    running_relay_process,
    wait_for,
    write_private,
)
from tests.support.command import logging_kept

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"

Resolved = list[tuple[int, int, int, str, tuple[str, int]]]


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service on-premises, and the name and port by which applications know it."""

    hybrid_connection: str
    host: str
    port: int
    target_port: int
    """Where it really is, on 127.0.0.1."""
    unix_socket: Path | None = None
    """Where the client listens for it besides."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A running chain, and what leads to it."""

    relay: RelayProcess
    addresses: Mapping[str, str]
    """The loopback address of each name, as ``app-client hosts`` prints it."""

    def run(
        self,
        example: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        **variables: str,
    ) -> str:
        """Run one file of ``examples``; give what it printed."""
        self.resolve(monkeypatch)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        runpy.run_path(str(EXAMPLES / example), run_name="__main__")
        return capsys.readouterr().out

    def resolve(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the names lead to their addresses, in this process, for one test."""
        ask = socket.getaddrinfo

        def getaddrinfo(host: object, *arguments: object, **options: object) -> Resolved:
            name = host.decode() if isinstance(host, bytes) else host
            found = self.addresses.get(str(name), name)
            return ask(found, *arguments, **options)  # type: ignore[arg-type,return-value]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def endpoints() -> dict[str, tuple[str, int]]:
    """Give the names and ports of the services, as ``examples/relay.json`` has them."""
    document = json5.loads((EXAMPLES / "relay.json").read_text(encoding="utf-8"))
    (namespace,) = document["UserConfig"]["Namespaces"]
    return {
        each["Name"]: parse_host_port(each["Endpoint"], setting="Endpoint")
        for each in namespace["HybridConnections"]
        if "Endpoint" in each
    }


@contextlib.contextmanager
def running_site(
    folder: Path, services: Sequence[Service], *, further: Sequence[str] = ()
) -> Iterator[Site]:
    """Run relay, agent and client for these services.

    Args:
        folder: For state, shared files and configuration.
        services: What the agent reaches, and the client listens for: an address for each host, and
            the service's own port.
        further: Hybrid connections that neither of them serves.
    """
    # The client's addresses are made from the namespace's host: other runs have others.
    host = f"demo-{random.getrandbits(40):010x}.servicebus.windows.net"
    names = [each.hybrid_connection for each in services]
    endpoints = {each.hybrid_connection: f"127.0.0.1:{each.target_port}" for each in services}
    endpoints |= dict.fromkeys(further, "127.0.0.1:1")
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(
            running_relay_process(folder, endpoints, hosts=(host, "localhost"))
        )
        connect_to = f"127.0.0.1:{relay.port}"
        agent = stack.enter_context(
            running_agent(
                relay, hybrid_connections=names, environment={"HCM_CONNECT_TO": connect_to}
            )
        )
        entries = [
            {
                "ConnectionString": relay.connection_string(
                    "defaultSender", each.hybrid_connection
                ),
                "Endpoint": f"{each.host}:{each.port}",
            }
            for each in services
        ]
        entries += [
            {
                "ConnectionString": relay.connection_string(
                    "defaultSender", each.hybrid_connection
                ),
                "Listen": f"unix:{each.unix_socket}",
                "Endpoint": f"{each.host}:{each.port}",
            }
            for each in services
            if each.unix_socket is not None
        ]
        config = write_private(folder / "client.json", {"HybridConnections": entries})
        settings = {
            "APP_CLIENT_CONFIG": str(config),
            "APP_CLIENT_CA": str(relay.ca),
            "APP_CLIENT_CONNECT_TO": connect_to,
        }
        client = stack.enter_context(
            running("app_client", "run", settings=settings, secrets=relay.secrets)
        )
        for name in names:
            wait_for(client, "listening", hybrid_connection=name)
            wait_for(agent, "online", hybrid_connection=name)
        yield Site(relay=relay, addresses=hosts_lines(config))


def hosts_lines(config: Path) -> dict[str, str]:
    """Give the address of each name, as the lines of ``app-client hosts`` have it."""
    with logging_kept():
        printed = CliRunner().invoke(app_client, ["hosts", "--config", str(config)])
    assert printed.exit_code == 0, printed.output
    lines = [line.split() for line in printed.stdout.splitlines()]
    return {words[1]: words[0] for words in lines}
