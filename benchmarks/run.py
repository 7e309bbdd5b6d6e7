"""One run: rounds of all measures over all peers, interleaved; fresh processes each round."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from benchmarks import machine
from benchmarks.load import Address, LoadFailed
from benchmarks.measures import Measure, Sizes
from benchmarks.peers import Peer, PeerMissing, Running
from benchmarks.report import Results
from devstack.processes import Process, ProcessFailed

START_SECONDS = 20.0


def run(
    peers: Sequence[Peer], measures: Sequence[Measure], sizes: Sizes, *, rounds: int
) -> Results:
    """Measure, and say aloud what goes on. All processes have ended when it returns or raises."""
    available, results = _prepare(peers)
    results.machine = {
        **results.machine,
        "load average before the run (1 min, 5 min)": machine.load_average(),
    }
    with target() as address:
        for number in range(rounds):
            _say(f"round {number + 1} of {rounds}")
            # Each round begins with another peer: none always has the cooler machine.
            turn = number % len(available) if available else 0
            _round([*available[turn:], *available[:turn]], measures, sizes, address, results)
    results.machine = {
        **results.machine,
        "load average after the run (1 min, 5 min)": machine.load_average(),
    }
    return results


def _prepare(peers: Sequence[Peer]) -> tuple[list[Peer], Results]:
    described = machine.describe()
    available: list[Peer] = []
    skipped: dict[str, str] = {}
    for peer in peers:
        try:
            versions = peer.prepare()
        except PeerMissing as missing:
            _say(f"not here: {peer.label}: {missing}")
            skipped[peer.label] = str(missing)
            continue
        available.append(peer)
        if versions:
            described[peer.label] = versions
    labels = {peer.name: peer.label for peer in available}
    return available, Results(machine=described, labels=labels, skipped=skipped)


def _round(
    peers: Sequence[Peer],
    measures: Sequence[Measure],
    sizes: Sizes,
    address: Address,
    results: Results,
) -> None:
    values: dict[str, dict[str, float]] = {}
    results.rounds.append(values)
    with ExitStack() as stack:
        running: list[tuple[Peer, Running]] = []
        for peer in peers:
            try:
                running.append((peer, stack.enter_context(peer.run(address))))
            except ProcessFailed as failure:
                _fail(results, f"{peer.label}: {failure}", failure.last_lines)
        for measure in measures:
            for peer, way in running:
                if measure.needs_processes and way.meter.is_empty:
                    continue
                _say(f"  {measure.name}: {peer.label}")
                try:
                    found = measure.run(way, sizes)
                except (LoadFailed, OSError) as error:
                    _fail(results, f"{measure.name}, {peer.label}: {error}", _last_lines(way))
                else:
                    values.setdefault(peer.name, {}).update(found)


def _last_lines(peer: Running) -> list[str]:
    return [f"{each.name}: {line}" for each in peer.processes for line in each.last_lines[-3:]]


@contextmanager
def target() -> Iterator[Address]:
    """Run the load generator's far end; give its address."""
    with Process(
        "the target", [sys.executable, "-m", "benchmarks.target"], environment=dict(os.environ)
    ) as process:
        port = process.wait_for(
            "its port",
            lambda line: int(line.split()[1]) if line.startswith("port ") else None,
            timeout_seconds=START_SECONDS,
        )
        yield "127.0.0.1", port


def _fail(results: Results, what: str, last_lines: Sequence[str] = ()) -> None:
    results.failures.append(what)
    _say(f"failed: {what}")
    for line in last_lines:
        _say(f"    {line}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
