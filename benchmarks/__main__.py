"""The command line of the benchmarks."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

import click

from benchmarks.measures import MEASURES, QUICK, Sizes
from benchmarks.peers import Peer
from benchmarks.peers.direct import Direct
from benchmarks.peers.hybridge import Hybridge
from benchmarks.peers.openssh import OpenSsh
from benchmarks.report import Results, markdown
from benchmarks.run import run
from hybridge.program.command_line import run_command
from hybridge.program.limits import raise_descriptor_limit

FOLDER = Path(__file__).parent

PEERS: tuple[Peer, ...] = (
    Direct(),
    OpenSsh(cache=FOLDER / ".cache"),
    Hybridge("asyncio"),
    Hybridge("uvloop"),
    Hybridge("uvloop", shares=False),
)


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
    "--measure", "measures", multiple=True, type=click.Choice([each.name for each in MEASURES]),
    help="Only this one; may be repeated.",
)  # fmt: skip
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
    idle_connections: int | None,
    stall_seconds: float | None,
    output: Path,
) -> int:
    """Measure Hybridge beside OpenSSH and the bare loopback, in one interleaved run."""
    sizes = QUICK if quick else Sizes()
    if idle_connections is not None:
        sizes = dataclasses.replace(sizes, idle_connections=idle_connections)
    if stall_seconds is not None:
        sizes = dataclasses.replace(sizes, stall_seconds=stall_seconds)
    raise_descriptor_limit(descriptors_per_connection=1)
    results = run(
        [peer for peer in PEERS if not peers or peer.name in peers],
        [each for each in MEASURES if not measures or each.name in measures],
        sizes,
        rounds=rounds or (1 if quick else 3),
    )
    report = markdown(results)
    click.echo(report)
    click.echo(f"Written: {write(results, report, sizes, output)}")
    return 1 if results.failures else 0


def write(results: Results, report: str, sizes: Sizes, folder: Path) -> str:
    """Write the report, and the raw data beside it; give the report's name."""
    folder.mkdir(parents=True, exist_ok=True)
    name = datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S")
    fields = {"sizes": dataclasses.asdict(sizes), **results.to_fields()}
    (folder / f"{name}.json").write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
    path = folder / f"{name}.md"
    path.write_text(report, encoding="utf-8")
    return path.name


if __name__ == "__main__":
    run_command(main, "benchmarks")
