"""The end of one direction does not cut the other: a late answer arrives whole."""

from __future__ import annotations

import hashlib
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.chain import Chain, is_full_length, receive_to_end

ANSWER_BYTES = 32 * 1_048_576
ANSWER = hashlib.shake_128(b"a late answer").digest(ANSWER_BYTES)
ROUNDS = 20 if is_full_length() else 3
"""Of both directions each."""


def hash_of(sock: socket.socket) -> tuple[str, bool]:
    """Read to the end; give the hash of all that came, and whether the end was a reset."""
    found = hashlib.sha256()
    try:
        while data := sock.recv(262_144):
            found.update(data)
    except ConnectionResetError:
        return found.hexdigest(), True
    return found.hexdigest(), False


def exchange(asks: socket.socket, answers: socket.socket) -> tuple[str, bool]:
    """Ask, finish sending, and only then be answered; give what arrived."""
    asks.sendall(b"the question")
    asks.shutdown(socket.SHUT_WR)
    assert receive_to_end(answers) == (b"the question", False)
    with ThreadPoolExecutor(1) as pool:
        arrived = pool.submit(hash_of, asks)
        answers.sendall(ANSWER)
        answers.shutdown(socket.SHUT_WR)
        return arrived.result()


@pytest.mark.clause(83)
@pytest.mark.parametrize("run", range(ROUNDS))
@pytest.mark.parametrize("who_asks", ["application", "target"])
def test_a_late_answer_of_32_mib_arrives_whole(chain: Chain, who_asks: str, run: int) -> None:
    with chain.pair() as (near, far):
        asks, answers = (near, far) if who_asks == "application" else (far, near)

        arrived = exchange(asks, answers)

    assert arrived == (hashlib.sha256(ANSWER).hexdigest(), False)


def test_both_ends_may_finish_before_either_has_read(chain: Chain) -> None:
    with chain.pair() as (near, far):
        near.sendall(b"from the application")
        near.shutdown(socket.SHUT_WR)
        far.sendall(b"from the target")
        far.shutdown(socket.SHUT_WR)

        assert receive_to_end(near) == (b"from the target", False)
        assert receive_to_end(far) == (b"from the application", False)
