"""SIGHUP: all or nothing, and live connections are not touched."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from devstack.programs import Program
from tests.support.chain import (
    HYBRID_CONNECTION,
    relay_document,
    running,
    running_chain,
    wait_for,
    write_private,
)


def hang_up(program: Program) -> None:
    os.kill(program.process.pid, signal.SIGHUP)


def exchange(one: socket.socket, other: socket.socket) -> None:
    """Show that a connection is alive both ways."""
    one.sendall(b"there")
    assert other.recv(5) == b"there"
    other.sendall(b"back!")
    assert one.recv(5) == b"back!"


@pytest.mark.clause(50)
@pytest.mark.clause(90)
def test_a_relay_reloads_and_a_running_connection_does_not_notice(tmp_path: Path) -> None:
    with running_chain(tmp_path) as chain, chain.pair() as (near, far):
        relay = chain.relay
        host, port = chain.target.getsockname()
        endpoint = f"{host}:{port}"

        relay.config.write_text('{"UserConfig": {"Nmaespaces": []}}')
        hang_up(relay.program)
        refused = wait_for(relay.program, "reload_refused")
        assert "UserConfig.Nmaespaces: unknown key" in refused.text("message")
        assert "did you mean 'Namespaces'?" in refused.text("hint")
        exchange(near, far)
        with chain.pair() as (other_near, other_far):
            exchange(other_near, other_far)

        write_private(
            relay.config, relay_document({HYBRID_CONNECTION: endpoint, "stock": endpoint})
        )
        hang_up(relay.program)
        wait_for(relay.program, "reloaded")
        exchange(near, far)
        with running("hcm_agent", "run", settings=relay.agent_settings("stock")) as agent:
            wait_for(agent, "online", hybrid_connection="stock")

        write_private(relay.config, relay_document({"stock": endpoint}))
        hang_up(relay.program)
        # The agent's control channel is closed with 1001; it is told that nothing is there.
        offline = wait_for(chain.agent, "offline")
        exchange(near, far)

    assert offline.text("hint")


def test_an_agent_reloads_and_a_running_connection_does_not_notice(tmp_path: Path) -> None:
    with running_chain(tmp_path) as chain, chain.pair() as (near, far):
        relay = chain.relay
        strings = {
            name: relay.connection_string(name) for name in ("defaultListener", "defaultSender")
        }
        config = tmp_path / "two.json"
        entry = {"ConnectionString": strings["defaultListener"]}
        write_private(config, {"HybridConnections": [entry]})
        settings = {"HCM_CONFIG": str(config), "HCM_CA": str(relay.ca)}
        with running("hcm_agent", "run", settings=settings, secrets=relay.secrets) as second:
            wait_for(second, "online")

            write_private(config, {"HybridConnections": [{**entry, "Traget": "db:1"}]})
            hang_up(second)
            refused = wait_for(second, "reload_refused")
            assert "HybridConnections[0].Traget: unknown key" in refused.text("message")

            write_private(config, {"HybridConnections": [{**entry, "Target": "127.0.0.1:9"}]})
            hang_up(second)
            reloaded = wait_for(second, "reloaded")
        exchange(near, far)

    assert reloaded.fields["hybrid_connections"] == 1
