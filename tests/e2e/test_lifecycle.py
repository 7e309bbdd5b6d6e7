"""From start to end: healthy soon, and an end that lets running connections finish."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devstack.programs import Program
from tests.support.chain import (
    DEADLINE_SECONDS,
    Chain,
    end,
    receive_to_end,
    running_chain,
    running_relay_process,
    wait_for,
)

HEALTHY_SECONDS = 1.0
NO_MATCH_SECONDS = 0.1
"""How long after SIGTERM a new sender may still be joined."""

NAMES = ["relay", "agent", "client"]


def programs(chain: Chain) -> dict[str, Program]:
    return {"relay": chain.relay.program, "agent": chain.agent, "client": chain.client}


def test_the_relay_is_healthy_within_a_second_of_its_start(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    taken = []
    for attempt in range(3):
        # A folder that is new: CA, certificate and keys are made in this time too.
        folder = tmp_path / str(attempt)
        folder.mkdir()
        started = time.monotonic()
        with running_relay_process(folder, {"orders-db": "db:5432"}) as relay:
            assert relay.health() == 200
            taken.append(time.monotonic() - started)

    record_property("seconds to healthy", taken)
    # The best of three: other tests run beside this one.
    assert min(taken) < HEALTHY_SECONDS


def exchange(one: socket.socket, other: socket.socket) -> None:
    """Show that a connection is alive both ways."""
    one.sendall(b"there")
    assert other.recv(5) == b"there"
    other.sendall(b"back!")
    assert one.recv(5) == b"back!"


@contextmanager
def finishing(near: socket.socket, far: socket.socket) -> Iterator[None]:
    """End a connection in order, after the block."""
    yield
    near.shutdown(socket.SHUT_WR)
    assert receive_to_end(far) == (b"", False)
    far.shutdown(socket.SHUT_WR)
    assert receive_to_end(near) == (b"", False)


@pytest.mark.parametrize("name", NAMES)
def test_asked_to_stop_a_program_lets_a_running_connection_finish_and_ends_with_0(
    tmp_path: Path, name: str
) -> None:
    with running_chain(tmp_path) as chain, chain.pair() as (near, far):
        program = programs(chain)[name]

        with finishing(near, far):
            program.process.terminate()
            if name != "relay":
                wait_for(program, "stopping")
            else:
                wait_for(program, "draining")
            exchange(near, far)
            assert program.process.exit_code is None

        assert program.process.wait(timeout_seconds=DEADLINE_SECONDS) == 0


@pytest.mark.parametrize("name", NAMES)
def test_what_has_not_finished_in_time_is_broken_and_the_exit_code_is_0(
    tmp_path: Path, name: str
) -> None:
    settings = {"DrainSeconds": 0.3}
    with (
        running_chain(
            tmp_path, relay_settings=settings, agent_settings=settings, client_settings=settings
        ) as chain,
        chain.pair() as (near, far),
    ):
        program = programs(chain)[name]
        exchange(near, far)
        assert end(program) == 0

        assert receive_to_end(near) == (b"", True)
        assert receive_to_end(far) == (b"", True)


@pytest.mark.parametrize("name", NAMES)
def test_a_second_sigterm_ends_it_at_once_with_1(tmp_path: Path, name: str) -> None:
    with running_chain(tmp_path) as chain, chain.pair():
        program = programs(chain)[name]
        program.process.terminate()
        wait_for(program, "draining" if name == "relay" else "stopping")

        program.process.terminate()

        assert program.process.wait(timeout_seconds=DEADLINE_SECONDS) == 1


def test_a_draining_relay_is_503_and_joins_nobody_after_100_ms(tmp_path: Path) -> None:
    with running_chain(tmp_path) as chain, chain.pair() as (near, far), finishing(near, far):
        chain.relay.program.process.terminate()
        stopped = time.monotonic()
        late = []
        while time.monotonic() < stopped + 5 * NO_MATCH_SECONDS:
            begun = time.monotonic() - stopped
            try:
                with chain.connect() as application:
                    application.settimeout(1.0)
                    application.recv(1)
            except TimeoutError:
                # Neither refused nor answered: it was joined.
                late.append(begun)
            except ConnectionResetError:
                continue

        assert [begun for begun in late if begun > NO_MATCH_SECONDS] == []
        assert chain.relay.health() == 503
        exchange(near, far)
