"""How soon agents are Connected again: after a kill, after a relay restart, and 200 at once.

python -m benchmarks.reconnect            50 kills, 20 relay restarts, 200 agents: three minutes
python -m benchmarks.reconnect --quick    the same with few: a first look

Real programs on loopback: the relay, and `hcm run`. The 200 agents are 200 hybrid connections with
one listener each, in four processes. Nothing is judged here: the figures are printed.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from devstack.programs import Event, Program
from hybridge.program.command_line import run_command

DEADLINE_SECONDS = 120.0
"""How long anything is waited for."""

AGENT_PROCESSES = 4
"""In which the many agents run."""

BUCKET_SECONDS = 0.5
"""Width of a row of the histogram."""


@dataclass(kw_only=True)
class Site:
    """A relay's folder and port, which it keeps over its restarts."""

    folder: Path
    port: int
    names: Sequence[str]
    """Of its hybrid connections."""

    def relay(self) -> Program:
        """One run of the relay."""
        entries = [{"Name": name, "Endpoint": f"127.0.0.1:{self.port}"} for name in self.names]
        space = {"Name": "bench-ns", "Hosts": ["localhost"], "HybridConnections": entries}
        config = self.folder / "relay.json"
        config.write_text(json.dumps({"UserConfig": {"Namespaces": [space]}}))
        settings = {
            "HYBRIDGE_RELAY_CONFIG": str(config),
            "HYBRIDGE_RELAY_PORT": str(self.port),
            "HYBRIDGE_RELAY_ADMIN_PORT": "0",
            "HYBRIDGE_RELAY_STATE_DIR": str(self.folder / "state"),
            "HYBRIDGE_RELAY_SHARE_DIR": str(self.folder / "share"),
        }
        return Program("relay", (), settings=settings)

    def agent(self, names: Sequence[str]) -> Program:
        """An agent that serves these; it checks no targets."""
        share = self.folder / "share"
        found = [next(share.glob(f"*.{name}.defaultListener.*")).read_text() for name in names]
        config = self.folder / "agent.json"
        config.write_text(json.dumps({"Settings": {"EndpointCheckSeconds": 0}}))
        settings = {
            "HCM_CONNECTION_STRING": "\n".join(text.strip() for text in found),
            "HCM_CA": str(share / "ca.pem"),
            "HCM_CONFIG": str(config),
        }
        return Program("hcm_agent", ("run",), settings=settings)


@contextlib.contextmanager
def site(count: int) -> Iterator[Site]:
    """A place for a relay with so many hybrid connections."""
    with tempfile.TemporaryDirectory(prefix="hybridge-reconnect-") as folder:
        names = [f"hc{number:03}" for number in range(count)]
        yield Site(folder=Path(folder), port=_quiet_port(), names=names)


def _quiet_port() -> int:
    # Outside the range from which the kernel gives ports away: the relay comes back to it.
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311 - no secret
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _kill(program: Program, number: int = signal.SIGKILL) -> float:
    """End a program, and give the Unix time of that."""
    os.kill(program.process.pid, number)
    killed_at = time.time()
    program.process.wait(timeout_seconds=DEADLINE_SECONDS)
    return killed_at


def _listening(relay: Program) -> float:
    """Wait until the relay listens; give the Unix time of that."""
    relay.wait_for_event("listening", timeout_seconds=DEADLINE_SECONDS)
    return time.time()


def agent_kills(count: int) -> list[float]:
    """Kill an agent, which a supervisor starts again at once; seconds from kill to Connected."""
    found = []
    with site(1) as place, place.relay() as relay:
        _listening(relay)
        killed_at = 0.0
        for number in range(count + 1):
            with place.agent(place.names) as agent:
                online = agent.wait_for_event("online", timeout_seconds=DEADLINE_SECONDS)
                if number:
                    found.append(online.time - killed_at)
                killed_at = _kill(agent)
    return found


def relay_restarts(count: int) -> tuple[list[float], list[float]]:
    """Restart the relay, by SIGKILL and SIGTERM in turn, and leave it away for up to three seconds.

    Returns:
        Seconds from the relay's listening to the agent being Connected, and from the cut to the
        first try after it.
    """
    back: list[float] = []
    first_tries: list[float] = []
    with site(1) as place, contextlib.ExitStack() as stack:
        relay = stack.enter_context(place.relay())
        _listening(relay)
        agent = stack.enter_context(place.agent(place.names))
        agent.wait_for_event("online", timeout_seconds=DEADLINE_SECONDS)
        for number in range(count):
            position = agent.process.line_count
            _kill(relay, (signal.SIGKILL, signal.SIGTERM)[number % 2])
            time.sleep(number % 4)
            relay = stack.enter_context(place.relay())
            listening_at = _listening(relay)
            online = agent.wait_for_event(
                "online", since=position, timeout_seconds=DEADLINE_SECONDS
            )
            back.append(online.time - listening_at)
            seen = _changes(agent, position)
            first_tries.append(seen[1].time - seen[0].time)
    return back, first_tries


def many_agents(count: int, *, processes: int = AGENT_PROCESSES) -> list[float]:
    """Restart the relay under many agents; seconds from its listening to each being Connected."""
    with site(count) as place, contextlib.ExitStack() as stack:
        relay = stack.enter_context(place.relay())
        _listening(relay)
        agents = [
            stack.enter_context(place.agent(place.names[number::processes]))
            for number in range(processes)
        ]
        _wait_online(agents, [0] * len(agents), count)
        positions = [agent.process.line_count for agent in agents]
        _kill(relay)
        relay = stack.enter_context(place.relay())
        listening_at = _listening(relay)
        return [time - listening_at for time in _wait_online(agents, positions, count)]


def _wait_online(agents: Sequence[Program], positions: Sequence[int], count: int) -> list[float]:
    """Wait until all are Connected; give the Unix times of that."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        online = {
            event.text("hybrid_connection"): event.time
            for agent, position in zip(agents, positions, strict=True)
            for event in _changes(agent, position)
            if event.text("event") == "online"
        }
        if len(online) == count:
            return sorted(online.values())
        time.sleep(0.1)
    raise TimeoutError(f"{len(online)} of {count} agents came back")


def _changes(agent: Program, position: int) -> list[Event]:
    """The lines about going online and offline since a position; every try is one."""
    found = []
    for line in agent.process.lines_since(position):
        with contextlib.suppress(ValueError):
            fields = json.loads(line)
            if isinstance(fields, dict) and fields.get("event") in ("online", "offline"):
                found.append(Event(fields=fields))
    return found


def distribution(title: str, seconds: Sequence[float]) -> str:
    """One line: how many, and how long they took."""
    ordered = sorted(seconds)

    def percentile(share: float) -> float:
        return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]

    figures = ", ".join(
        f"{name} {value:.2f} s"
        for name, value in [
            ("least", ordered[0]),
            ("median", percentile(0.5)),
            ("p90", percentile(0.9)),
            ("p99", percentile(0.99)),
            ("most", ordered[-1]),
        ]
    )
    return f"{title} ({len(ordered)}): {figures}"


def spread(seconds: Sequence[float]) -> str:
    """How many fell into each half second."""
    counts = Counter(int(max(0.0, each) / BUCKET_SECONDS) for each in seconds)
    return "\n".join(
        f"  {number * BUCKET_SECONDS:4.1f} s  {'#' * (counts[number] // 2)} {counts[number]}"
        for number in range(max(counts) + 1)
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="A first look: few of everything.")
def main(*, quick: bool) -> int:
    """Measure how soon agents are Connected again."""
    kills, restarts, agents = (3, 4, 40) if quick else (50, 20, 200)
    click.echo(distribution("agent killed, until Connected", agent_kills(kills)))
    back, first_tries = relay_restarts(restarts)
    click.echo(distribution("relay restarted, from listening until Connected", back))
    click.echo(distribution("relay restarted, from the cut to the first try", first_tries))
    many = many_agents(agents)
    click.echo(distribution(f"{agents} agents, from listening until Connected", many))
    click.echo(spread(many))
    return 0


if __name__ == "__main__":
    run_command(main, "benchmarks.reconnect")
