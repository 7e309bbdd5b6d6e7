"""A target that says no, or nothing: the application sees it, and the log says what to do."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.chain import DEADLINE_SECONDS, Chain, quiet_port, reset, running_chain, wait_for

AT_ONCE_SECONDS = 2.0
"""What a busy machine may need for what takes milliseconds."""

TARGET_TIMEOUT_SECONDS = 1.5


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


def seconds_to_reset(chain: Chain) -> float:
    """Connect as an application; the connection is accepted first, and then reset."""
    started = time.monotonic()
    with chain.connect() as application, pytest.raises(ConnectionResetError):
        application.recv(1)
    return time.monotonic() - started


def test_a_target_that_refuses_is_a_reset_at_once_and_both_logs_say_why(tmp_path: Path) -> None:
    address = ("127.0.0.1", quiet_port())
    with running_chain(tmp_path, endpoint=address) as chain:
        seconds = min(seconds_to_reset(chain) for _ in range(3))
        told = wait_for(chain.client, "connection_refused", status=502)
        known = wait_for(chain.agent, "connection_refused", status=502)

    reason = f"The target 127.0.0.1:{address[1]} refused the connection."
    assert seconds < AT_ONCE_SECONDS
    assert reason in told.text("message")
    assert "the target service is running" in told.text("hint")
    assert reason in known.text("message")
    assert "listens on this port" in known.text("hint")


def test_a_target_that_does_not_answer_is_a_reset_at_the_deadline_and_both_logs_say_why(
    tmp_path: Path,
) -> None:
    with (
        full_backlog() as address,
        running_chain(
            tmp_path,
            endpoint=address,
            agent_settings={"TargetTimeoutSeconds": TARGET_TIMEOUT_SECONDS},
        ) as chain,
    ):
        seconds = seconds_to_reset(chain)
        told = wait_for(chain.client, "connection_refused", status=504)
        known = wait_for(chain.agent, "connection_refused", status=504)

    assert TARGET_TIMEOUT_SECONDS <= seconds < TARGET_TIMEOUT_SECONDS + DEADLINE_SECONDS
    assert "did not answer within 1.5 s" in told.text("message")
    assert "route and the firewalls" in told.text("hint")
    assert "route and the firewalls" in known.text("hint")


def test_without_an_agent_the_application_is_reset_at_once_and_told_to_start_one(
    tmp_path: Path,
) -> None:
    with running_chain(tmp_path) as chain:
        chain.agent.process.terminate()
        assert chain.agent.process.wait(timeout_seconds=DEADLINE_SECONDS) == 0

        seconds = min(seconds_to_reset(chain) for _ in range(3))
        told = wait_for(chain.client, "connection_refused", status=404)

    assert seconds < AT_ONCE_SECONDS
    assert "There are no listeners connected for the endpoint." in told.text("message")
    assert "hcm run" in told.text("hint")


def test_an_application_that_gives_up_while_the_target_is_dialled_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    with (
        full_backlog() as address,
        running_chain(
            tmp_path,
            endpoint=address,
            agent_settings={"TargetTimeoutSeconds": TARGET_TIMEOUT_SECONDS},
        ) as chain,
    ):
        application = chain.connect()
        wait_for(chain.agent, "accept")
        reset(application)
        abandoned = wait_for(chain.client, "connection_abandoned")

    assert "gave up" in abandoned.text("message")
