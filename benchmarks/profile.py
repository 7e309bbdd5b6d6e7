"""Where the time goes: samples of all processes of a peer, while it works.

    python -m benchmarks.profile                         bulk, round trip, set-up
    python -m benchmarks.profile --peer openssh --measure round-trip

Needs Linux' ``perf``, and the right to sample all processes (root, as a rule). What it prints is
CPU time, so wakes and waits count only as far as a processor worked on them.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks import load
from benchmarks.__main__ import PEERS
from benchmarks.load import Address
from benchmarks.peers import Peer, PeerMissing, Running
from benchmarks.run import say, target
from benchmarks.sizes import GIGABYTE, MEBIBYTE
from benchmarks.where import PARTS, count, samples
from hybridge.program.command_line import run_command
from hybridge.protocol.errors import InvalidSetting

SAMPLES_A_SECOND = 4_999
"""An odd number, so that nothing regular is always or never met."""

USUAL_PEERS = ("openssh", "c-chain", "hybridge-uvloop")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the peer does while it is looked at."""

    name: str
    unit: str
    """What the times are for: one of so many that are done."""

    scale: float
    """Seconds are multiplied by this."""

    times: int
    """How many are done."""

    warm_up: Callable[[Address], object]
    run: Callable[[Address], object]


BULK_BYTES = 1_024 * MEBIBYTE
ROUND_TRIPS = 20_000
SET_UPS = 1_500

WORKS = (
    Work(
        name="bulk",
        unit="ms of CPU for each MB, down",
        scale=1e3,
        times=BULK_BYTES * 1_000 // GIGABYTE,
        warm_up=lambda address: load.bulk_down(address, 64 * MEBIBYTE),
        run=lambda address: load.bulk_down(address, BULK_BYTES),
    ),
    Work(
        name="round-trip",
        unit="µs of CPU for each round trip of 64 bytes",
        scale=1e6,
        times=ROUND_TRIPS,
        warm_up=lambda address: load.round_trips(address, 1_000),
        run=lambda address: load.round_trips(address, ROUND_TRIPS),
    ),
    Work(
        name="set-up",
        unit="µs of CPU for each connection, 8 at a time",
        scale=1e6,
        times=SET_UPS,
        warm_up=lambda address: load.connections_per_second(address, 100, at_a_time=8),
        run=lambda address: load.connections_per_second(address, SET_UPS, at_a_time=8),
    ),
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--peer",
    "peers",
    multiple=True,
    type=click.Choice([each.name for each in PEERS]),
    default=USUAL_PEERS,
    help="Only this one; may be repeated.",
)
@click.option(
    "--measure",
    "works",
    multiple=True,
    type=click.Choice([each.name for each in WORKS]),
    default=[each.name for each in WORKS],
    help="Only this one; may be repeated.",
)
def main(peers: Sequence[str], works: Sequence[str]) -> None:
    """Show where the CPU time of a peer goes, by process."""
    perf = shutil.which("perf")
    if perf is None:
        raise InvalidSetting(
            "perf", "it is not installed", hint="install it (Debian: apt install linux-perf)"
        )
    chosen = [each for each in PEERS if each.name in peers]
    for work in WORKS:
        if work.name in works:
            click.echo(f"## {work.name}: {work.unit}\n")
            for peer in chosen:
                try:
                    peer.prepare()
                except PeerMissing as error:
                    say(f"{peer.label} is left out: {error}")
                else:
                    click.echo(f"### {peer.label}\n\n{_look(perf, peer, work)}\n")


def _look(perf: str, peer: Peer, work: Work) -> str:
    with (
        tempfile.TemporaryDirectory(prefix="hybridge-profile-") as folder,
        target() as address,
        peer.run(address) as running,
    ):
        work.warm_up(running.address)
        owners = _owners(running)
        data = Path(folder) / "perf.data"
        with _recording(perf, data):
            work.run(running.address)
            owners |= _owners(running)
        counts = _read(perf, data, owners)
    return table(counts, work)


def _owners(running: Running) -> dict[int, str]:
    """Give the name of each process of a peer by its id; its children have it too."""
    return {pid: name for name, pids in running.meter.pids().items() for pid in pids}


@contextmanager
def _recording(perf: str, data: Path) -> Iterator[None]:
    command = [perf, "record", "-q", "-F", str(SAMPLES_A_SECOND), "-e", "cpu-clock", "-g", "-a"]
    recording = subprocess.Popen(
        [*command, "-o", str(data)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        # It says nothing once it is ready.
        _, problem = recording.communicate(timeout=0.5)
    except subprocess.TimeoutExpired:
        pass
    else:
        raise InvalidSetting(
            "perf",
            f"it may not sample: {first_reason(problem.decode(errors='replace'))}",
            hint="run this as root, or set kernel.perf_event_paranoid to -1",
        )
    try:
        yield
    finally:
        recording.send_signal(signal.SIGINT)
        recording.communicate()


def first_reason(said: str) -> str:
    """Give the first line of what perf says that says something: often it begins with "Error:"."""
    lines = (line.strip() for line in said.splitlines())
    return next((line for line in lines if line and line != "Error:"), "it does not say why")


def _read(perf: str, data: Path, owners: dict[int, str]) -> Mapping[str, Counter[str]]:
    command = [perf, "script", "-i", str(data), "-F", "pid,ip,sym,dso"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace"
    ) as script:
        if script.stdout is None:
            raise AssertionError("it was asked for")
        return count(samples(script.stdout), owners)


def table(counts: Mapping[str, Counter[str]], work: Work) -> str:
    """Write the time of each part by process, and of all together with its share."""
    names = list(counts)
    total = sum(sum(each.values()) for each in counts.values())
    factor = work.scale / SAMPLES_A_SECOND / work.times
    lines = [
        f"| where | {' | '.join(names)} | all | share |",
        f"| --- |{' ---: |' * (len(names) + 2)}",
    ]
    for part in (*PARTS, None):
        row = [sum(each.values()) if part is None else each[part] for each in counts.values()]
        cells = [f"{value * factor:.3g}" for value in (*row, sum(row))]
        share = f"{100 * sum(row) / total:.0f} %" if total else "-"
        lines.append(f"| {part or 'all'} | {' | '.join(cells)} | {share} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main, "benchmarks.profile")
