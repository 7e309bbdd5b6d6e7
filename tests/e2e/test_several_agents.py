"""Two agents on one hybrid connection, killed and restarted; a relay that stands still."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from devstack.programs import Program
from tests.support.chain import (
    DEADLINE_SECONDS,
    HYBRID_CONNECTION,
    RelayProcess,
    events,
    running,
    running_client,
    running_relay_process,
    target_socket,
    wait_for,
    write_private,
)

CONNECTIONS = 24
"""So many go to one of two agents only with a chance of one in eight millions."""

QUICK_PINGS = {
    "EndpointCheckSeconds": 0,
    "PingIntervalSeconds": 0.2,
    "PongTimeoutSeconds": 0.5,
    "OpenTimeoutSeconds": 1,
}


class Answering:
    """A target whose name is its answer."""

    def __init__(self, name: bytes) -> None:
        self.name = name

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Listen; gives the address."""
        with target_socket() as self.socket:
            self.socket.setblocking(False)
            yield f"127.0.0.1:{self.socket.getsockname()[1]}"

    def answer(self) -> bool:
        """Answer who waits."""
        try:
            sock, _ = self.socket.accept()
        except BlockingIOError:
            return False
        with sock:
            sock.sendall(self.name)
        return True


@contextlib.contextmanager
def agent(
    relay: RelayProcess, target: str, settings: Mapping[str, object] = QUICK_PINGS
) -> Iterator[Program]:
    """An agent with a target of its own, whatever the metadata names."""
    config = write_private(relay.folder / f"{target}.json", {"Settings": dict(settings)})
    environment = {**relay.agent_settings(), "HCM_CONFIG": str(config), "HCM_TARGET": target}
    with running("hcm_agent", "run", settings=environment, secrets=relay.secrets) as program:
        wait_for(program, "online")
        yield program


def kill(program: Program) -> None:
    os.kill(program.process.pid, signal.SIGKILL)
    program.process.wait(timeout_seconds=DEADLINE_SECONDS)


class Chain:
    """A relay, a client, and two targets."""

    def __init__(self, relay: RelayProcess, port: int, targets: tuple[Answering, ...]) -> None:
        self.relay = relay
        self._port = port
        self._targets = targets

    def ask(self) -> bytes:
        """Connect as an application; give the answer, empty where the connection is reset."""
        address = ("127.0.0.1", self._port)
        with socket.create_connection(address, timeout=DEADLINE_SECONDS) as sock:
            sock.settimeout(0.01)
            while True:
                try:
                    return sock.recv(16)
                except TimeoutError:
                    for target in self._targets:
                        target.answer()
                except ConnectionResetError:
                    return b""

    def ask_many(self) -> set[bytes]:
        """The different answers of many connections."""
        return {self.ask() for _ in range(CONNECTIONS)}

    def wait_for_answers(self, expected: set[bytes]) -> None:
        """Ask until these answers come and no other: the relay may just be hearing of a death."""
        ends_at = time.monotonic() + DEADLINE_SECONDS
        while (found := self.ask_many()) != expected:
            assert time.monotonic() < ends_at, found


@pytest.fixture(scope="module")
def addresses() -> Iterator[tuple[tuple[Answering, str], tuple[Answering, str]]]:
    first, second = Answering(b"first"), Answering(b"second")
    with first.running() as one, second.running() as two:
        yield (first, one), (second, two)


@pytest.fixture(scope="module")
def chain(
    tmp_path_factory: pytest.TempPathFactory,
    addresses: tuple[tuple[Answering, str], tuple[Answering, str]],
) -> Iterator[Chain]:
    folder: Path = tmp_path_factory.mktemp("several")
    (first, _), (second, _) = addresses
    # The relay's own pings are slow: what is noticed here the agent notices.
    with (
        running_relay_process(folder, {HYBRID_CONNECTION: "127.0.0.1:9"}) as relay,
        running_client(relay, {"Multiplex": False}) as client,
    ):
        port = int(wait_for(client, "listening").text("port"))
        yield Chain(relay, port, (first, second))


def test_connections_spread_over_two_agents_and_go_to_the_other_when_one_is_killed(
    chain: Chain, addresses: tuple[tuple[Answering, str], tuple[Answering, str]]
) -> None:
    (_, first), (_, second) = addresses
    with agent(chain.relay, first) as one, agent(chain.relay, second) as other:
        assert chain.ask_many() == {b"first", b"second"}

        kill(one)
        chain.wait_for_answers({b"second"})
        with agent(chain.relay, first) as again:
            chain.wait_for_answers({b"first", b"second"})
            kill(other)
            chain.wait_for_answers({b"first"})
            assert not events(again, "offline")


def test_a_relay_that_stands_still_is_noticed_by_the_ping_and_come_back_to(
    chain: Chain, addresses: tuple[tuple[Answering, str], tuple[Answering, str]]
) -> None:
    (_, first), _ = addresses
    with agent(chain.relay, first) as program:
        position = program.process.line_count
        os.kill(chain.relay.program.process.pid, signal.SIGSTOP)
        try:
            gone = wait_for(program, "offline", since=position)
        finally:
            os.kill(chain.relay.program.process.pid, signal.SIGCONT)
        wait_for(program, "online", since=position)

        assert "the relay did not answer a ping within 0.5 s" in gone.text("error")
        chain.wait_for_answers({b"first"})
