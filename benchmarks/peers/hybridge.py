"""Relay, agent and client as a user runs them: tokens, random masks, pings, logs."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.load import Address
from benchmarks.meter import Meter
from benchmarks.peers import PeerMissing, Running
from benchmarks.peers.system_python import SystemPython
from devstack.processes import Process
from hybridge.program.lifetime import EVENT_LOOP_VARIABLE

HYBRID_CONNECTION = "bench"
START_SECONDS = 30.0

MAX_CONNECTIONS = 20_000
"""Azure's limit, which is the default, is 5,000 for each namespace: it is not what is measured."""

_OUR_VARIABLES = ("HYBRIDGE_", "HCM_", "APP_CLIENT_")


class Hybridge:
    """The three programs, each a process.

    Args:
        event_loop: ``asyncio`` or ``uvloop``.
        shares: Whether connections share a rendezvous, as they do by default.
        python: What runs them, where it is not what runs this.
    """

    def __init__(
        self, event_loop: str, *, shares: bool = True, python: SystemPython | None = None
    ) -> None:
        self._event_loop = event_loop
        self._shares = shares
        self._python = python
        self._interpreter = sys.executable
        self.name = f"hybridge-{event_loop}" + ("" if shares else "-plain")
        self.label = f"Hybridge ({event_loop}"
        if not shares:
            self.label += ", a rendezvous for each connection"
        if python is not None:
            self.name += "-system-python"
            self.label += ", the system's Python"
        self.label += ")"

    def prepare(self) -> str:
        if self._event_loop == "asyncio":
            return ""
        if self._python is not None:
            interpreter, found = self._python.prepare()
            self._interpreter = str(interpreter)
            return f"Python {found}"
        try:
            return f"uvloop {version('uvloop')}"
        except PackageNotFoundError:
            raise PeerMissing("uvloop is not installed: pip install 'hybridge[fast]'") from None

    @contextmanager
    def run(self, target: Address) -> Iterator[Running]:
        """Start the three programs, and wait until they are ready."""
        with ExitStack() as stack:
            folder = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="hybridge-bench-"))
            )
            relay = stack.enter_context(
                self._program(
                    "relay",
                    settings={
                        "HYBRIDGE_RELAY_CONFIG": str(
                            relay_config(folder, [HYBRID_CONNECTION], target)
                        ),
                        "HYBRIDGE_RELAY_PORT": "0",
                        "HYBRIDGE_RELAY_ADMIN_PORT": "0",
                        "HYBRIDGE_RELAY_STATE_DIR": str(folder / "state"),
                        "HYBRIDGE_RELAY_SHARE_DIR": str(folder / "share"),
                    },
                )
            )
            event(relay, "listening")
            config = folder / "agent.json"
            config.write_text(json.dumps({"Settings": {"Multiplex": self._shares}}))
            agent = stack.enter_context(
                self._program(
                    "hcm_agent",
                    "run",
                    settings={
                        "HCM_CONNECTION_STRING": _connection_string(folder, "defaultListener"),
                        "HCM_CONFIG": str(config),
                        "HCM_CA": str(folder / "share" / "ca.pem"),
                    },
                )
            )
            event(agent, "online")
            client = stack.enter_context(
                self._program(
                    "app_client",
                    "forward",
                    settings={
                        "APP_CLIENT_CONNECTION_STRING": _connection_string(folder, "defaultSender"),
                        "APP_CLIENT_CA": str(folder / "share" / "ca.pem"),
                        "APP_CLIENT_LISTEN": "127.0.0.1:0",
                    },
                )
            )
            listening = event(client, "listening")
            pids = {"relay": relay.pid, "agent": agent.pid, "client": client.pid}
            address = (str(listening["host"]), int(str(listening["port"])))
            yield Running(address=address, meter=Meter(pids), processes=(relay, agent, client))

    def _program(self, module: str, *arguments: str, settings: Mapping[str, str]) -> Process:
        return program(
            module,
            *arguments,
            settings=settings,
            event_loop=self._event_loop,
            interpreter=self._interpreter,
        )


def relay_config(folder: Path, names: Sequence[str], target: Address) -> Path:
    """Write a relay's configuration: hybrid connections that all lead to one target."""
    entries = [{"Name": name, "Endpoint": f"{target[0]}:{target[1]}"} for name in names]
    space = {"Name": "bench-ns", "Hosts": ["localhost"], "HybridConnections": entries}
    settings = {"MaxConnections": MAX_CONNECTIONS}
    path = folder / "relay.json"
    path.write_text(json.dumps({"UserConfig": {"Namespaces": [space], "Settings": settings}}))
    return path


def program(
    module: str,
    *arguments: str,
    settings: Mapping[str, str],
    event_loop: str = "",
    interpreter: str = sys.executable,
) -> Process:
    """Make one of the three programs, as users run it; nothing of our own environment decides."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(_OUR_VARIABLES)
    }
    return Process(
        module,
        [interpreter, "-P", "-m", module, *arguments, "--log-format", "json"],
        environment={
            **inherited,
            "HCM_STATE": "none",
            EVENT_LOOP_VARIABLE: event_loop,
            **settings,
        },
    )


def event(process: Process, name: str) -> Mapping[str, object]:
    """Wait for the first line of the log with this event; give its fields."""

    def find(line: str) -> Mapping[str, object] | None:
        try:
            fields = json.loads(line)
        except ValueError:
            return None
        is_it = isinstance(fields, dict) and fields.get("event") == name
        return fields if is_it else None

    return process.wait_for(f"the event {name!r}", find, timeout_seconds=START_SECONDS)


def _connection_string(folder: Path, rule: str) -> str:
    (path,) = (folder / "share").glob(f"*.{HYBRID_CONNECTION}.{rule}.*")
    return path.read_text(encoding="utf-8").strip()
