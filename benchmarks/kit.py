"""What the test kit costs: a session's start, each hybrid connection, and where it is not used.

    python -m benchmarks.kit [--count 40] [--rounds 5]

Wall clock time, in fresh processes where imports count. The best round is what the machine can do;
the median and the worst show how busy it is.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

_START = """
import time
began = time.perf_counter()
from devstack.testing import background_relay
with background_relay():
    print(time.perf_counter() - began)
"""


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _start() -> float:
    """A session's first use: imports, certificate authority, certificate, relay."""
    command = [sys.executable, "-c", _START]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def _collect(folder: str, *arguments: str) -> float:
    """A project without tests that need us, as pytest collects it."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *arguments]
    return _seconds(lambda: subprocess.run(command, cwd=folder, capture_output=True, check=True))


def _hybrid_connections(count: int) -> tuple[list[float], list[float], list[float]]:
    """Make a namespace with a hybrid connection; connect through it; end it."""
    from devstack.testing import background_relay
    from tests.support.echo import echo_target

    made, used, ended = [], [], []
    with echo_target() as target, background_relay() as relay:
        for _ in range(count):
            began = time.perf_counter()
            with relay.namespace() as namespace:
                address = namespace.hybrid_connection(target).local_address
                made.append(time.perf_counter() - began)
                began = time.perf_counter()
                with socket.create_connection(address) as sock:
                    sock.sendall(b"x")
                    assert sock.recv(1) == b"x"
                used.append(time.perf_counter() - began)
                began = time.perf_counter()
            ended.append(time.perf_counter() - began)
    return made, used, ended


def _show(name: str, seconds: Sequence[float]) -> None:
    best, middle, worst = min(seconds), statistics.median(seconds), max(seconds)
    print(f"{name:<44}{best * 1000:7.0f} {middle * 1000:7.0f} {worst * 1000:7.0f}")


@click.command()
@click.option("--count", default=40, show_default=True, help="Hybrid connections, one by one.")
@click.option("--rounds", default=5, show_default=True, help="Fresh processes for each start.")
def main(count: int, rounds: int) -> None:
    """Measure and print."""
    print(f"{'milliseconds':<44}{'best':>7} {'median':>7} {'worst':>7}")
    _show("session start, imports and CA included", [_start() for _ in range(rounds)])
    made, used, ended = _hybrid_connections(count)
    _show("namespace and hybrid connection, ready", made)
    _show("connect, one byte there and back, close", used)
    _show("end, with a look for leaks", ended)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pytest.ini").write_text("[pytest]\n")
        Path(folder, "test_it.py").write_text("def test_it(): pass\n")
        without = ("-p", "no:hybridge")
        rows = [(_collect(folder, *without), _collect(folder)) for _ in range(rounds)]
    _show("pytest --collect-only, plugin blocked", [row[0] for row in rows])
    _show("pytest --collect-only, plugin loaded, unused", [row[1] for row in rows])


if __name__ == "__main__":
    main()
