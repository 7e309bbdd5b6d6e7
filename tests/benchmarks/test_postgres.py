from __future__ import annotations

import socket
import threading

import pytest

from benchmarks.load import LoadFailed
from benchmarks.postgres import is_through, transactions_per_second


def test_pgbench_tells_its_transactions_a_second() -> None:
    output = "latency average = 0.5 ms\ntps = 1234.56 (without initial connection time)\n"

    assert transactions_per_second(output) == 1234.56


@pytest.mark.parametrize("output", ["", "tps = 0.000000 (without initial connection time)"])
def test_pgbench_that_made_no_transaction_has_failed(output: str) -> None:
    with pytest.raises(LoadFailed, match="no transaction"):
        transactions_per_second(output)


@pytest.mark.parametrize(("answer", "expected"), [(b"N", True), (b"S", True), (b"", False)])
def test_a_postgresql_is_known_by_its_answer(answer: bytes, expected: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(8)
                sock.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert is_through(listener.getsockname()) is expected
        thread.join()
