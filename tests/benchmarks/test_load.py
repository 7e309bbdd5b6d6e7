"""Both ends of the load generator, joined without a peer."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from benchmarks import half_close, load
from benchmarks.growth import exchange
from benchmarks.load import Address, LoadFailed
from benchmarks.requests import requests_per_second
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


def test_requests_are_answered_over_all_connections(address: Address) -> None:
    assert requests_per_second(address, 100, connections=4) > 0


def test_paced_set_ups_are_counted_one_by_one(address: Address) -> None:
    assert len(load.paced_set_ups(address, 3, every_seconds=0.001)) == 3


def test_each_direction_ends_on_its_own(address: Address) -> None:
    assert half_close.near_ends_first(address)
    assert half_close.far_ends_first(address)


def test_a_message_larger_than_all_buffers_comes_back_whole(address: Address) -> None:
    with load.open_echo(address) as sock:
        sock.setblocking(False)
        exchange(sock, memoryview(bytes(12_000_000)))
        sock.setblocking(True)
        sock.sendall(b"end")
        assert sock.recv(3, socket.MSG_WAITALL) == b"end"


class _HangsUp:
    """A peer that ends both directions at the end of one, as a WebSocket's close does."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: Address = self._listener.getsockname()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._relay, args=(near,)))
            self._threads[-1].start()

    def _relay(self, near: socket.socket) -> None:
        with near, socket.create_connection(self._target) as far:
            back = threading.Thread(target=self._carry, args=(far, near))
            back.start()
            self._carry(near, far)
            back.join()

    @staticmethod
    def _carry(source: socket.socket, to: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                to.sendall(data)
        for sock in (source, to):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


def test_a_peer_that_loses_a_half_close_is_found_out(address: Address) -> None:
    peer = _HangsUp(address)
    try:
        assert load.is_through(peer.address)
        assert not half_close.near_ends_first(peer.address)
        assert not half_close.far_ends_first(peer.address)
    finally:
        peer.close()


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
