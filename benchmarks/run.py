"""One run: rounds of all measures over all peers, interleaved; fresh processes each round."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from benchmarks import load, machine, postgres
from benchmarks.load import Address, LoadFailed
from benchmarks.measures import Measure
from benchmarks.meter import wait_until
from benchmarks.peers import Peer, PeerMissing, Running
from benchmarks.results import Results
from benchmarks.sizes import Sizes
from devstack.processes import Process, ProcessFailed

START_SECONDS = 20.0

PGBENCH = "pgbench"
"""The measure whose target is a PostgreSQL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A target, and what is measured on the way to it."""

    address: Address
    measures: Sequence[Measure]

    is_through: Callable[[Address], bool]
    """Tells whether a connection to an address gets through to the target."""


def run(
    peers: Sequence[Peer],
    measures: Sequence[Measure],
    sizes: Sizes,
    *,
    rounds: int,
    with_pgbench: bool = False,
) -> Results:
    """Measure, and say aloud what goes on. All processes have ended when it returns or raises."""
    available, results = _prepare(peers)
    results.machine = {
        **results.machine,
        "load average before the run (1 min, 5 min)": machine.load_average(),
    }
    with ExitStack() as stack:
        sites = []
        if measures:
            address = stack.enter_context(target())
            sites.append(Site(address=address, measures=measures, is_through=load.is_through))
        if with_pgbench and (site := _database(stack, results)):
            sites.append(site)
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            # Each round begins with another peer: none always has the cooler machine.
            turn = number % len(available) if available else 0
            values: dict[str, dict[str, float]] = {}
            results.rounds.append(values)
            for site in sites:
                _visit(site, [*available[turn:], *available[:turn]], sizes, values, results)
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
            say(f"not here: {peer.label}: {missing}")
            skipped[peer.label] = str(missing)
            continue
        available.append(peer)
        if versions:
            described[peer.label] = versions
    labels = {peer.name: peer.label for peer in available}
    return available, Results(machine=described, labels=labels, skipped=skipped)


def _database(stack: ExitStack, results: Results) -> Site | None:
    try:
        found = stack.enter_context(postgres.database())
    except PeerMissing as missing:
        say(f"not here: pgbench: {missing}")
        results.skipped = {**results.skipped, "pgbench": str(missing)}
        return None
    results.machine = {**results.machine, "pgbench": found.version}
    measure = Measure(name=PGBENCH, run=partial(postgres.pgbench, found))
    return Site(address=found.address, measures=[measure], is_through=postgres.is_through)


def _visit(
    site: Site,
    peers: Sequence[Peer],
    sizes: Sizes,
    values: dict[str, dict[str, float]],
    results: Results,
) -> None:
    """Start all peers in front of one target, make each measure on each, end them."""
    with ExitStack() as stack:
        running: list[tuple[Peer, Running]] = []
        for peer in peers:
            try:
                way = stack.enter_context(peer.run(site.address))
            except ProcessFailed as failure:
                _fail(results, f"{peer.label}: {failure}", failure.last_lines)
                continue
            if wait_until(partial(site.is_through, way.address), seconds=START_SECONDS):
                running.append((peer, way))
            else:
                _fail(results, f"{peer.label}: no connection gets through", _last_lines(way))
        for measure in site.measures:
            for peer, way in running:
                if measure.needs_processes and way.meter.is_empty:
                    continue
                say(f"  {measure.name}: {peer.label}")
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
    say(f"failed: {what}")
    for line in last_lines:
        say(f"    {line}")


def say(text: str) -> None:
    """Tell whoever waits what goes on."""
    print(text, file=sys.stderr, flush=True)
