"""One relay with much to do: pairs, idle connections, control channels, and new rendezvous.

    python -m benchmarks.scale            2,000 pairs, 5,000 idle, 1,000 listeners, 100 a second
    python -m benchmarks.scale --quick    the same with few: a first look

Relay, agents and clients are processes as users run them. A pair is a connection with a rendezvous
of its own, so two WebSockets at the relay; idle connections share rendezvous, as is the default.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click
import psutil

from benchmarks import load, machine
from benchmarks.lag import Look, percentile_between
from benchmarks.load import Address, LoadFailed, open_echo
from benchmarks.meter import wait_until
from benchmarks.peers.hybridge import event, program, relay_config
from benchmarks.run import say, target
from benchmarks.statistic import percentile
from hybridge.program.command_line import run_command
from hybridge.program.limits import raise_descriptor_limit
from hybridge.protocol.errors import RelayError

IDLE, PLAIN = "idle", "plain"
"""The two hybrid connections that carry something."""

AGENT_PROCESSES = 4
"""In which the many listeners run."""

LISTENERS_SECONDS = 120.0
"""How long all listeners may take to be online."""

SETTLE_SECONDS = 2.0
DIALLERS = 64
"""Connections that may be being set up at one time."""

SET_UP_P99_MS = 300.0
LAG_P99_MS = 50.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much there is."""

    pairs: int = 2_000
    idle: int = 5_000
    idle_share: bool = True
    """Whether the idle connections share rendezvous; else each has one of its own."""

    listeners: int = 1_000
    a_second: int = 100
    seconds: float = 20.0


QUICK = Load(pairs=50, idle=100, listeners=20, a_second=20, seconds=3.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """The relay, and where its programs find what they need."""

    folder: Path
    pid: int
    admin: Address

    def strings(self, names: Sequence[str], rule: str) -> str:
        """Give the connection strings of some hybrid connections, one a line."""
        share = self.folder / "share"
        found = (next(share.glob(f"*.{name}.{rule}.*")).read_text() for name in names)
        return "\n".join(text.strip() for text in found)

    def look(self) -> Look:
        """Ask for its metrics."""
        return Look.take(*self.admin)


@contextlib.contextmanager
def running_relay(names: Sequence[str], to: Address) -> Iterator[Relay]:
    """Run a relay with so many hybrid connections."""
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="hybridge-scale-"))
        folder = Path(name)
        settings = {
            "HYBRIDGE_RELAY_CONFIG": str(relay_config(folder, names, to)),
            "HYBRIDGE_RELAY_PORT": "0",
            "HYBRIDGE_RELAY_ADMIN_PORT": "0",
            "HYBRIDGE_RELAY_STATE_DIR": str(folder / "state"),
            "HYBRIDGE_RELAY_SHARE_DIR": str(folder / "share"),
        }
        process = stack.enter_context(program("relay", settings=settings))
        told = event(process, "listening")
        admin = (str(told["admin_host"]), int(str(told["admin_port"])))
        yield Relay(folder=folder, pid=process.pid, admin=admin)


@contextlib.contextmanager
def agent(relay: Relay, names: Sequence[str], *, shares: bool = True) -> Iterator[None]:
    """Run one agent for some hybrid connections."""
    config = relay.folder / f"agent-{names[0]}.json"
    settings = {"Multiplex": shares, "EndpointCheckSeconds": 0}
    config.write_text(json.dumps({"Settings": settings}))
    variables = {
        "HCM_CONNECTION_STRING": relay.strings(names, "defaultListener"),
        "HCM_CONFIG": str(config),
        "HCM_CA": str(relay.folder / "share" / "ca.pem"),
    }
    with program("hcm_agent", "run", settings=variables):
        yield


@contextlib.contextmanager
def client(relay: Relay, name: str, *, shares: bool = True) -> Iterator[Address]:
    """Run one client; give its local address."""
    config = relay.folder / f"client-{name}.json"
    config.write_text(json.dumps({"Settings": {"Multiplex": shares}}))
    variables = {
        "APP_CLIENT_CONNECTION_STRING": relay.strings([name], "defaultSender"),
        "APP_CLIENT_CONFIG": str(config),
        "APP_CLIENT_CA": str(relay.folder / "share" / "ca.pem"),
        "APP_CLIENT_LISTEN": "127.0.0.1:0",
    }
    with program("app_client", "forward", settings=variables) as process:
        told = event(process, "listening")
        yield str(told["host"]), int(str(told["port"]))


def set_ups_at_a_rate(address: Address, *, a_second: float, seconds: float) -> list[float]:
    """Open connections at fixed times, whatever becomes of the ones before.

    Returns:
        Seconds from the time that each was due to its first byte back.

    Raises:
        LoadFailed: A connection ended before its first byte.
        OSError: One was refused or reset.
    """
    started = time.perf_counter()

    def set_up(number: int) -> float:
        due = started + number / a_second
        time.sleep(max(0.0, due - time.perf_counter()))
        with open_echo(address):
            return time.perf_counter() - due

    with ThreadPoolExecutor(DIALLERS) as pool:
        return list(pool.map(set_up, range(round(a_second * seconds))))


def run(size: Load) -> list[str]:
    """Build it all up, measure, and give the lines of the report.

    Raises:
        LoadFailed: Not all listeners came online, or a connection failed.
    """
    idle_names = [f"listener{number:04}" for number in range(size.listeners)]
    with ExitStack() as stack:
        to = stack.enter_context(target())
        relay = stack.enter_context(running_relay([IDLE, PLAIN, *idle_names], to))
        stack.enter_context(agent(relay, [IDLE], shares=size.idle_share))
        stack.enter_context(agent(relay, [PLAIN], shares=False))
        for number in range(AGENT_PROCESSES):
            if share := idle_names[number::AGENT_PROCESSES]:
                stack.enter_context(agent(relay, share))
        online = size.listeners + 2
        say(f"waiting for {online} listeners")
        if not wait_until(lambda: relay.look().listeners >= online, seconds=LISTENERS_SECONDS):
            raise LoadFailed(f"{relay.look().listeners} of {online} listeners came online")
        idle = stack.enter_context(client(relay, IDLE, shares=size.idle_share))
        plain = stack.enter_context(client(relay, PLAIN, shares=False))
        say(f"opening {size.pairs} pairs")
        stack.enter_context(load.idle_connections(plain, size.pairs))
        say(f"opening {size.idle} idle connections ({_how(size)})")
        stack.enter_context(load.idle_connections(idle, size.idle))
        time.sleep(SETTLE_SECONDS)
        process = psutil.Process(relay.pid)
        before, cpu = relay.look(), sum(process.cpu_times()[:2])
        say(f"{size.a_second} rendezvous a second for {size.seconds:g} s")
        seconds = set_ups_at_a_rate(plain, a_second=size.a_second, seconds=size.seconds)
        after, spent = relay.look(), sum(process.cpu_times()[:2]) - cpu
        resident = process.memory_info().rss
    lines = report(size, seconds, before, after)
    lines.append(
        f"relay: {spent / size.seconds:.2f} CPU seconds a second, {resident / 2**20:.0f} MiB,"
        f" {after.listeners} listeners, {before.connections} connections counted before"
    )
    return lines


def report(size: Load, seconds: Sequence[float], before: Look, after: Look) -> list[str]:
    """Write what was found, beside the goals."""
    p50, p99 = (percentile(list(seconds), each) * 1e3 for each in (50, 99))
    lower, upper = (bound * 1e3 for bound in percentile_between(before, after, 99))
    return [
        f"{size.pairs} pairs, {size.idle} idle connections ({_how(size)}),"
        f" {size.listeners} control channels,"
        f" {size.a_second} rendezvous a second for {size.seconds:g} s",
        f"set-up: p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {max(seconds) * 1e3:.1f} ms"
        f" (goal: p99 ≤ {SET_UP_P99_MS:.0f} ms: {_verdict(p99 <= SET_UP_P99_MS)})",
        f"event-loop lag: p99 between {lower:g} and {upper:g} ms"
        f" (goal: ≤ {LAG_P99_MS:.0f} ms: {_verdict(upper <= LAG_P99_MS)})",
    ]


def _how(size: Load) -> str:
    return "sharing rendezvous" if size.idle_share else "a rendezvous each"


def _verdict(reached: bool) -> str:
    return "reached" if reached else "missed"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="A first look, with few of everything.")
@click.option("--pairs", type=click.IntRange(1), help="[default: 2000]")
@click.option("--idle", type=click.IntRange(1), help="[default: 5000]")
@click.option("--idle-plain", is_flag=True, help="Each idle one has a rendezvous of its own.")
@click.option("--listeners", type=click.IntRange(1), help="[default: 1000]")
@click.option("--a-second", type=click.IntRange(1), help="Rendezvous.  [default: 100]")
@click.option("--seconds", type=click.FloatRange(1), help="How long.  [default: 20]")
def main(*, quick: bool, idle_plain: bool, **given: float | None) -> int:
    """Measure one relay under much load."""
    changes = {name: value for name, value in given.items() if value is not None}
    size = dataclasses.replace(QUICK if quick else Load(), idle_share=not idle_plain)
    size = dataclasses.replace(size, **changes)  # type: ignore[arg-type] # by name
    raise_descriptor_limit(descriptors_per_connection=1)
    click.echo(f"load average: {machine.load_average()}; {machine.describe()['processor']}")
    try:
        lines = run(size)
    except (LoadFailed, OSError) as error:
        raise RelayError(
            f"the load was not carried: {error}",
            hint="each connection takes descriptors: look at ulimit -Hn, or ask for fewer",
        ) from error
    for line in lines:
        click.echo(line)
    return 0


if __name__ == "__main__":
    run_command(main, "benchmarks.scale")
