"""The command line of the benchmarks."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from benchmarks.measures import MEASURES
from benchmarks.peers import Peer
from benchmarks.peers.chain import CChain
from benchmarks.peers.chisel import Chisel
from benchmarks.peers.direct import Direct
from benchmarks.peers.frp import Frp
from benchmarks.peers.hybridge import Hybridge
from benchmarks.peers.naive import Naive
from benchmarks.peers.openssh import OpenSsh
from benchmarks.peers.rathole import Rathole
from benchmarks.peers.system_python import SystemPython
from benchmarks.peers.tunnel import Tunnel
from benchmarks.peers.wstunnel import Wstunnel
from benchmarks.plot import NoPlot, draw
from benchmarks.report import markdown
from benchmarks.results import Results
from benchmarks.run import PGBENCH, run
from benchmarks.sizes import QUICK, Sizes
from hybridge.program.command_line import run_command
from hybridge.program.limits import raise_descriptor_limit
from hybridge.protocol.errors import InvalidSetting

FOLDER = Path(__file__).parent
CACHE = FOLDER / ".cache"

PEERS: tuple[Peer, ...] = (
    Direct(),
    OpenSsh(cache=CACHE),
    OpenSsh(cache=CACHE, cipher=None),
    CChain(cache=CACHE),
    Frp(cache=CACHE),
    Chisel(cache=CACHE),
    Rathole(cache=CACHE),
    Wstunnel(cache=CACHE),
    Naive(cache=CACHE),
    Hybridge("asyncio"),
    Hybridge("uvloop"),
    Hybridge("uvloop", shares=False),
    Hybridge("uvloop", python=SystemPython(cache=CACHE)),
)

MEASURE_NAMES = (*(each.name for each in MEASURES), PGBENCH)


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: python -m benchmarks --quick --peer openssh --peer hybridge-uvloop",
)
@click.option("--quick", is_flag=True, help="A first look: one round, less of everything.")
@click.option("--rounds", type=click.IntRange(1), help="[default: 3; 1 with --quick]")
@click.option(
    "--peer", "peers", multiple=True, type=click.Choice([peer.name for peer in PEERS]),
    help="Only this one; may be repeated.",
)  # fmt: skip
@click.option(
    "--measure", "measures", multiple=True, type=click.Choice(MEASURE_NAMES),
    help="Only this one; may be repeated. growth only where it is named.",
)  # fmt: skip
@click.option("--build", is_flag=True, help="Build peers that are not here: takes minutes.")
@click.option("--idle-connections", type=click.IntRange(1), help="[default: 1000]")
@click.option("--stall-seconds", type=click.FloatRange(0.1, 600.0), help="[default: 5]")
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), default=FOLDER / "results",
    help="Folder for the report and the raw data.  [default: benchmarks/results]",
)  # fmt: skip
def main(
    *,
    quick: bool,
    rounds: int | None,
    peers: tuple[str, ...],
    measures: tuple[str, ...],
    build: bool,
    idle_connections: int | None,
    stall_seconds: float | None,
    output: Path,
) -> int:
    """Measure Hybridge beside what you would pick instead, in one interleaved run."""
    sizes = QUICK if quick else Sizes()
    if idle_connections is not None:
        sizes = dataclasses.replace(sizes, idle_connections=idle_connections)
    if stall_seconds is not None:
        sizes = dataclasses.replace(sizes, stall_seconds=stall_seconds)
    raise_descriptor_limit(descriptors_per_connection=1)
    for peer in PEERS:
        if isinstance(peer, Tunnel):
            peer.may_build = build
    _make_folder(output)
    wanted = measures or (*(each.name for each in MEASURES if each.is_default), PGBENCH)
    results = run(
        _chosen(peers, wanted),
        [each for each in MEASURES if each.name in wanted],
        sizes,
        rounds=rounds or (1 if quick else 3),
        with_pgbench=PGBENCH in wanted,
    )
    report = markdown(results)
    click.echo(report)
    name = write(results, report, sizes, output)
    click.echo(f"Written: {name}.md, {name}.json")
    try:
        click.echo(f"Drawn: {', '.join(path.name for path in draw(results, output, name))}")
    except NoPlot as reason:
        click.echo(f"No plot: {reason}")
    return 1 if results.failures else 0


def _chosen(names: Sequence[str], measures: Sequence[str]) -> list[Peer]:
    """Give the peers that were named; all where none was, but only our own for growth."""
    if not names and set(measures) == {"growth"}:
        names = [peer.name for peer in PEERS if isinstance(peer, Hybridge)]
    return [peer for peer in PEERS if not names or peer.name in names]


def _make_folder(folder: Path) -> None:
    """Make the folder for the report now, and not only when all is measured."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InvalidSetting(
            str(folder),
            f"nothing can be written there: {error.strerror}",
            hint="name another folder with --output",
        ) from error


def write(results: Results, report: str, sizes: Sizes, folder: Path) -> str:
    """Write the report, and the raw data beside it; give the name of both."""
    name = datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S")
    fields = {"sizes": dataclasses.asdict(sizes), **results.to_fields()}
    (folder / f"{name}.json").write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(report, encoding="utf-8")
    return name


if __name__ == "__main__":
    run_command(main, "benchmarks")
