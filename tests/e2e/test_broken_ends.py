"""A broken end looks broken: what arrives is a prefix, and never seems to be complete."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.chain import DEADLINE_SECONDS, Chain, receive_to_end, reset
from tests.support.mending import MendingChain

SEED = 20_260
COUNTS = [int(2 ** random.Random(SEED + turn).uniform(0, 21)) for turn in range(60)]  # noqa: S311
"""From 1 byte to 2 MiB, as many small ones as large ones."""

DATA = random.Random(SEED).randbytes(max(COUNTS))  # noqa: S311 - no secret

NOTICED_SECONDS = 5.0
"""How long after a program was killed the other end may still seem alive on a busy machine: far
less than the pings would take, which are for machines that vanish."""


@pytest.fixture(scope="module")
def mending(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MendingChain]:
    with MendingChain(tmp_path_factory.mktemp("mending"), {}) as chain:
        yield chain


def receive_prefix(sock: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size and (data := sock.recv(262_144)):
        received += data
    return received


@pytest.mark.clause(85)
@pytest.mark.parametrize("who_breaks", ["application", "target"])
def test_an_abort_after_any_number_of_bytes_gives_a_prefix_and_a_reset(
    chain: Chain, who_breaks: str
) -> None:
    for turn, count in enumerate(COUNTS):
        with chain.pair() as (near, far):
            breaks, reads = (near, far) if who_breaks == "application" else (far, near)

            with ThreadPoolExecutor(1) as pool:
                sending = pool.submit(breaks.sendall, DATA[:count])
                # Every other time all has arrived before the abort; else it overtakes bytes.
                arrived = receive_prefix(reads, count if turn % 2 else min(count, 1))
                sending.result()
            reset(breaks)
            rest, was_reset = receive_to_end(reads)

            arrived += rest
            assert was_reset, f"a clean end after {len(arrived)} of {count} bytes"
            assert arrived == DATA[: len(arrived)]
            assert len(arrived) == count or not turn % 2


@pytest.mark.parametrize("who_breaks", ["application", "target"])
def test_an_answer_that_breaks_after_a_half_close_ends_in_a_reset(
    chain: Chain, who_breaks: str
) -> None:
    for count in COUNTS[::4]:
        with chain.pair() as (near, far):
            breaks, reads = (near, far) if who_breaks == "application" else (far, near)
            reads.shutdown(socket.SHUT_WR)
            assert breaks.recv(1) == b""

            with ThreadPoolExecutor(1) as pool:
                sending = pool.submit(breaks.sendall, DATA[:count])
                arrived = receive_prefix(reads, 1)
                sending.result()
            reset(breaks)
            rest, was_reset = receive_to_end(reads)

            arrived += rest
            assert was_reset, f"a clean end after {len(arrived)} of {count} bytes"
            assert arrived == DATA[: len(arrived)]


def test_the_other_connections_go_on(chain: Chain) -> None:
    with chain.pair() as (near, far), chain.pair() as (other_near, other_far):
        reset(near)
        assert receive_to_end(far) == (b"", True)

        other_near.sendall(b"still here")
        assert other_far.recv(100) == b"still here"
        other_far.sendall(b"here too")
        assert other_near.recv(100) == b"here too"


def send_without_end(sock: socket.socket) -> None:
    """Send until the connection breaks."""
    try:
        while True:
            sock.sendall(DATA)
    except OSError:
        return


@pytest.mark.parametrize("program", ["relay", "agent", "client"])
def test_a_program_that_is_killed_breaks_every_connection_at_once(
    mending: MendingChain, program: str
) -> None:
    chain = mending.mend()
    with (
        chain.pair() as (reading_application, sending_target),
        chain.pair() as (sending_application, reading_target),
        chain.pair() as (idle_application, idle_target),
        ThreadPoolExecutor(2) as pool,
    ):
        victims = {"relay": chain.relay.program, "agent": chain.agent, "client": chain.client}
        victim = victims[program].process
        # The end that the program itself held is closed by the kernel, which may send a FIN.
        watched = [reading_application, idle_application] if program != "client" else []
        watched += [reading_target, idle_target] if program != "agent" else []
        senders = (sending_target, sending_application)
        sending = [pool.submit(send_without_end, sock) for sock in senders]
        for reader in (reading_application, reading_target):
            receive_prefix(reader, 4 * len(DATA))

        os.kill(victim.pid, signal.SIGKILL)
        killed = time.monotonic()
        ends = [receive_to_end(sock)[1] for sock in watched]
        seconds = time.monotonic() - killed

        for sock in (*senders, reading_application, reading_target):
            sock.close()
        for each in sending:
            each.result()
        code = victim.wait(timeout_seconds=DEADLINE_SECONDS)

    assert ends == [True] * len(watched)
    assert seconds < NOTICED_SECONDS
    assert code == -signal.SIGKILL
