"""A reader that stalls is waited for: pings go on, memory does not grow, and no byte is lost.

The times are scaled down; with ``HYBRIDGE_FULL_LENGTH=1`` they are those of the requirements.
"""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from benchmarks.meter import Meter
from tests.support.chain import Chain, is_full_length, receive_to_end, running_chain


@dataclass(frozen=True)
class Scale:
    """How long everything takes."""

    stall_seconds: float
    ping_interval_seconds: float
    pong_timeout_seconds: float

    @property
    def settings(self) -> dict[str, object]:
        """For all three programs."""
        return {
            "PingIntervalSeconds": self.ping_interval_seconds,
            "PongTimeoutSeconds": self.pong_timeout_seconds,
        }


SCALE = (
    Scale(stall_seconds=120.0, ping_interval_seconds=15.0, pong_timeout_seconds=10.0)
    if is_full_length()
    else Scale(stall_seconds=2.0, ping_interval_seconds=0.1, pong_timeout_seconds=0.8)
)
"""A stall is several times as long as a silent peer may live."""

SENT = hashlib.shake_128(b"much").digest(64 * 1_048_576)
"""As a rule more than all kernel buffers on the way hold."""

MOST_ROUNDS = 4
"""How often it is sent where they hold more: several sockets may have 32 MiB each, and more time to
grow to that on a slow machine."""

WARM_UP_BYTES = 8 * 1_048_576
MOST_GROWTH_BYTES = 1_048_576
SAMPLE_SECONDS = 0.1

pytestmark = pytest.mark.timeout(400)


def read_exactly(sock: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size and (data := sock.recv(min(262_144, size - len(received)))):
        received += data
    return bytes(received)


def carry(sends: socket.socket, reads: socket.socket) -> None:
    """Let some bytes through, so that what is allocated once is allocated."""
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(sends.sendall, SENT[:WARM_UP_BYTES])
        assert read_exactly(reads, WARM_UP_BYTES) == SENT[:WARM_UP_BYTES]
        sending.result()


def send_rounds(sock: socket.socket, enough: threading.Event) -> int:
    """Send until it is enough, then end this direction; give how many rounds it took."""
    rounds = 0
    while rounds < MOST_ROUNDS and not (rounds and enough.is_set()):
        sock.sendall(SENT)
        rounds += 1
    sock.shutdown(socket.SHUT_WR)
    return rounds


def growth_while_stalled(chain: Chain, sends: socket.socket) -> dict[str, int]:
    """Send to a reader that reads nothing; give by how much each program's memory grew at most."""
    meter = Meter(chain.pids)
    before = meter.resident_bytes()
    most = dict.fromkeys(before, 0)
    deadline = time.monotonic() + SCALE.stall_seconds
    while time.monotonic() < deadline:
        time.sleep(SAMPLE_SECONDS)
        for name, size in meter.resident_bytes().items():
            most[name] = max(most[name], size - before[name])
    return most


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    settings = SCALE.settings
    with running_chain(
        tmp_path_factory.mktemp("scaled"),
        relay_settings=settings,
        agent_settings=settings,
        client_settings=settings,
    ) as chain:
        yield chain


@pytest.mark.clause(88)
@pytest.mark.parametrize("who_stalls", ["application", "target"])
def test_a_stalled_reader_then_gets_every_byte_and_memory_has_not_grown(
    scaled: Chain, who_stalls: str, record_property: Callable[[str, object], None]
) -> None:
    chain = scaled
    with (
        chain.pair() as (near, far),
        ThreadPoolExecutor(1) as pool,
    ):
        carry(near, far)
        carry(far, near)
        reads, sends = (near, far) if who_stalls == "application" else (far, near)
        sends.settimeout(SCALE.stall_seconds + 60)

        enough = threading.Event()
        sending = pool.submit(send_rounds, sends, enough)
        growth = growth_while_stalled(chain, sends)
        is_held_up = not sending.done()
        enough.set()
        received, was_reset = receive_to_end(reads)
        rounds = sending.result()
        # The other way was never held up.
        reads.sendall(b"thank you")
        answer = sends.recv(100)

    record_property("bytes grown while stalled", growth)
    assert is_held_up
    assert not was_reset
    assert hashlib.sha256(received).digest() == hashlib.sha256(SENT * rounds).digest()
    assert answer == b"thank you"
    assert max(growth.values()) < MOST_GROWTH_BYTES


def test_a_peer_that_is_silent_without_being_held_up_is_dropped(tmp_path: Path) -> None:
    # The counterpart: with these times, who answers no ping and is not blocked is gone soon.
    settings = {"PingIntervalSeconds": 0.1, "PongTimeoutSeconds": 1.0}
    with running_chain(tmp_path, relay_settings=settings) as chain, chain.pair() as (near, far):
        agent = psutil.Process(chain.agent.process.pid)
        agent.suspend()
        try:
            near.settimeout(20)
            with pytest.raises(ConnectionResetError):
                near.recv(1)
        finally:
            agent.resume()
        with pytest.raises(ConnectionResetError):
            far.recv(1)
