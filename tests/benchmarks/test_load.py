"""Both ends of the load generator, joined without a peer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from benchmarks import load
from benchmarks.load import Address, LoadFailed
from benchmarks.run import target


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with target() as found:
        yield found


@pytest.mark.parametrize("streams", [1, 3])
def test_bulk_both_ways(address: Address, streams: int) -> None:
    assert load.bulk_down(address, 3_000_000, streams=streams) > 0
    assert load.bulk_up(address, 3_000_000, streams=streams) > 0


def test_round_trips_and_set_ups_are_counted_one_by_one(address: Address) -> None:
    assert len(load.round_trips(address, 20)) == 20
    assert len(load.set_ups(address, 3)) == 3
    assert load.connections_per_second(address, 16, at_a_time=8) > 0


def test_idle_connections_are_open_for_the_length_of_the_block(address: Address) -> None:
    with load.idle_connections(address, 20):
        pass


def test_a_stalled_reader_gets_every_byte(address: Address) -> None:
    stalls: list[str] = []

    assert load.stalled_download(address, 1_000_000, lambda: stalls.append("down"))
    assert load.stalled_upload(address, 1_000_000, 0.01, lambda: stalls.append("up"))
    assert stalls == ["down", "up"]


def test_a_peer_that_hangs_up_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            sock, _ = listener.accept()
            sock.recv(64)
            sock.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(LoadFailed, match="before its first byte"):
            load.set_ups(listener.getsockname(), 1)
        thread.join()
