"""A target that says no, or nothing: the application sees it, and the log says what to do."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from devstack.programs import Program
from tests.support.chain import (
    DEADLINE_SECONDS,
    is_reset,
    quiet_port,
    reset,
    running_agent,
    running_client,
    running_relay_process,
    wait_for,
)

AT_ONCE_SECONDS = 2.0
"""What a busy machine may need for what takes milliseconds."""

TARGET_TIMEOUT_SECONDS = 0.8


@contextmanager
def full_backlog() -> Iterator[tuple[str, int]]:
    """An address that takes connections in theory, and in fact answers no more."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address: tuple[str, int] = listening.getsockname()
        while True:
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.3)
            try:
                filler.connect(address)
            except TimeoutError:
                yield address
                return


@dataclass(kw_only=True)
class Unreachable:
    """Three hybrid connections, and nothing that is reached through them."""

    refusing: tuple[str, int]
    """A target where nobody listens."""

    agent: Program
    client: Program
    ports: Mapping[str, int]
    """Of the client, by hybrid connection."""

    def connect(self, name: str) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.ports[name]), timeout=DEADLINE_SECONDS)

    def seconds_to_reset(self, name: str) -> float:
        """Connect as an application; the connection is accepted first, and then reset."""
        started = time.monotonic()
        assert is_reset(("127.0.0.1", self.ports[name]))
        return time.monotonic() - started


NAMES = ["refuses", "is-silent", "has-no-agent"]


@pytest.fixture(scope="module")
def unreachable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unreachable]:
    folder, refusing = tmp_path_factory.mktemp("unreachable"), ("127.0.0.1", quiet_port())
    with ExitStack() as stack:
        silent = stack.enter_context(full_backlog())
        addresses = dict(zip(NAMES, (refusing, silent, refusing), strict=True))
        endpoints = {name: f"{host}:{port}" for name, (host, port) in addresses.items()}
        relay = stack.enter_context(running_relay_process(folder, endpoints))
        limits = {"TargetTimeoutSeconds": TARGET_TIMEOUT_SECONDS}
        agent = stack.enter_context(running_agent(relay, limits, hybrid_connections=NAMES[:2]))
        client = stack.enter_context(running_client(relay, hybrid_connections=NAMES))
        for name in NAMES[:2]:
            wait_for(agent, "online", hybrid_connection=name)
        ports = {
            name: int(wait_for(client, "listening", hybrid_connection=name).text("port"))
            for name in NAMES
        }
        yield Unreachable(refusing=refusing, agent=agent, client=client, ports=ports)


def test_a_target_that_refuses_is_a_reset_at_once_and_both_logs_say_why(
    unreachable: Unreachable,
) -> None:
    seconds = min(unreachable.seconds_to_reset("refuses") for _ in range(3))
    told = wait_for(unreachable.client, "connection_refused", status=502)
    known = wait_for(unreachable.agent, "connection_refused", status=502)

    reason = f"The target 127.0.0.1:{unreachable.refusing[1]} refused the connection."
    assert seconds < AT_ONCE_SECONDS
    assert reason in told.text("message")
    assert "the target service is running" in told.text("hint")
    assert reason in known.text("message")
    assert "listens on this port" in known.text("hint")


def test_a_target_that_does_not_answer_is_a_reset_at_the_deadline_and_both_logs_say_why(
    unreachable: Unreachable,
) -> None:
    seconds = unreachable.seconds_to_reset("is-silent")
    told = wait_for(unreachable.client, "connection_refused", status=504)
    known = wait_for(unreachable.agent, "connection_refused", status=504)

    assert TARGET_TIMEOUT_SECONDS <= seconds < TARGET_TIMEOUT_SECONDS + DEADLINE_SECONDS
    assert f"did not answer within {TARGET_TIMEOUT_SECONDS} s" in told.text("message")
    assert "route and the firewalls" in told.text("hint")
    assert "route and the firewalls" in known.text("hint")


def test_without_an_agent_the_application_is_reset_at_once_and_told_to_start_one(
    unreachable: Unreachable,
) -> None:
    seconds = min(unreachable.seconds_to_reset("has-no-agent") for _ in range(3))
    told = wait_for(unreachable.client, "connection_refused", status=404)

    assert seconds < AT_ONCE_SECONDS
    assert "There are no listeners connected for the endpoint." in told.text("message")
    assert "hcm run" in told.text("hint")


def test_an_application_that_gives_up_while_the_target_is_dialled_leaves_nothing_behind(
    unreachable: Unreachable,
) -> None:
    seen = unreachable.agent.process.line_count

    application = unreachable.connect("is-silent")
    wait_for(unreachable.agent, "accept", since=seen)
    reset(application)
    abandoned = wait_for(unreachable.client, "connection_abandoned")

    assert "gave up" in abandoned.text("message")
