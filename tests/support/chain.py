"""Relay, agent and client as separate processes, and both ends of what goes through them.

Every program that runs here is looked at when it has ended: whatever it wrote must hold no key, no
signature and no traceback.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devstack.programs import Event, Program

HYBRID_CONNECTION = "orders-db"
DEADLINE_SECONDS = 30.0
"""How long anything may take that follows at once, on a machine that is busy with other tests."""

FULL_LENGTH = "HYBRIDGE_FULL_LENGTH"
"""Environment variable: set it to have the figures of the requirements instead of short ones."""

TOKEN_BYTES = 16

Settings = Mapping[str, object]


def is_full_length() -> bool:
    """Whether tests shall take the time that the requirements name."""
    return bool(os.environ.get(FULL_LENGTH))


# --- programs ------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(
    module: str,
    *arguments: str,
    settings: Mapping[str, str] | None = None,
    secrets: Sequence[str] = (),
) -> Iterator[Program]:
    """Run one program for a block; then look for what its output must not hold."""
    program = Program(module, arguments, settings=settings)
    with program:
        yield program
    check_output("\n".join(program.process.lines_since(0)), secrets)


def check_output(output: str, secrets: Sequence[str]) -> None:
    """Check that nothing in a program's output is a secret or a bug."""
    assert "Traceback" not in output, output
    assert "sig=" not in output, "a token was written"
    assert not [True for secret in secrets if secret in output], "a key was written"


def end(program: Program) -> int:
    """Send SIGTERM, and give the exit code."""
    program.process.terminate()
    return program.process.wait(timeout_seconds=DEADLINE_SECONDS)


def events(program: Program, name: str, **fields: object) -> list[Event]:
    """Give the lines so far with this event and these fields."""
    found = []
    for line in program.process.lines_since(0):
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and event.get("event") == name:
                found.append(Event(fields=event))
    return [each for each in found if fields.items() <= each.fields.items()]


def wait_for(program: Program, name: str, *, since: int = 0, **fields: object) -> Event:
    """Wait for a line with this event and these fields, after ``since`` lines."""

    def find(line: str) -> Event | None:
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            is_it = isinstance(event, dict) and {"event": name, **fields}.items() <= event.items()
            return Event(fields=event) if is_it else None
        return None

    return program.process.wait_for(
        f"the event {name!r} {fields}", find, since=since, timeout_seconds=DEADLINE_SECONDS
    )


def write_private(path: Path, document: object) -> Path:
    """Write a configuration file that only we can read: it may hold keys."""
    path.touch(mode=0o600)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def quiet_port() -> int:
    """A port on which nothing listens, outside the range from which the kernel gives ports away."""
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311 - no secret
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def relay_document(
    endpoints: Mapping[str, str],
    *,
    settings: Settings | None = None,
    hosts: Sequence[str] = ("localhost",),
) -> dict[str, object]:
    """A relay's configuration: hybrid connections by name, with their targets."""
    return {
        "UserConfig": {
            "Namespaces": [
                {
                    "Name": "demo-ns",
                    "Hosts": list(hosts),
                    "HybridConnections": [
                        {"Name": name, "Endpoint": endpoint} for name, endpoint in endpoints.items()
                    ],
                }
            ],
            "Settings": dict(settings or {}),
        }
    }


@dataclass(kw_only=True)
class RelayProcess:
    """A relay with keys of its own, and where its folders are."""

    program: Program
    folder: Path
    port: int
    admin_port: int

    @property
    def config(self) -> Path:
        return self.folder / "relay.json"

    @property
    def ca(self) -> Path:
        return self.folder / "share" / "ca.pem"

    @property
    def secrets(self) -> list[str]:
        """Every key of every rule."""
        keys = json.loads((self.folder / "state" / "keys.json").read_text())["keys"]
        return [row[name] for row in keys for name in ("primary_key", "secondary_key")]

    def connection_string(
        self, rule: str, hybrid_connection: str = HYBRID_CONNECTION, *, key: str = ""
    ) -> str:
        """What the relay shares for a rule; ``key`` takes the place of the right one."""
        (path,) = (self.folder / "share").glob(f"*.{hybrid_connection}.{rule}.*")
        text = path.read_text(encoding="utf-8").strip()
        if not key:
            return text
        parts = [part.partition("=") for part in text.split(";")]
        return ";".join(
            f"{name}={key if name == 'SharedAccessKey' else value}" for name, _, value in parts
        )

    def agent_settings(self, *hybrid_connections: str) -> dict[str, str]:
        """Environment of an agent that serves these.

        It checks no targets, so that nobody but senders connects to them.
        """
        file = write_private(self.folder / "quiet.json", {"Settings": {"EndpointCheckSeconds": 0}})
        names = hybrid_connections or (HYBRID_CONNECTION,)
        strings = [self.connection_string("defaultListener", name) for name in names]
        return {
            "HCM_CONNECTION_STRING": "\n".join(strings),
            "HCM_CA": str(self.ca),
            "HCM_CONFIG": str(file),
        }

    def client_settings(self, hybrid_connection: str = HYBRID_CONNECTION) -> dict[str, str]:
        """Environment of a client with a free local port."""
        return {
            "APP_CLIENT_CONNECTION_STRING": self.connection_string(
                "defaultSender", hybrid_connection
            ),
            "APP_CLIENT_CA": str(self.ca),
            "APP_CLIENT_LISTEN": "127.0.0.1:0",
        }

    def health(self) -> int:
        """Ask the admin port; give the status."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.admin_port, timeout=DEADLINE_SECONDS
        )
        with contextlib.closing(connection):
            connection.request("GET", "/health")
            with connection.getresponse() as response:
                return response.status


@contextlib.contextmanager
def running_relay_process(
    folder: Path,
    endpoints: Mapping[str, str],
    *,
    settings: Settings | None = None,
    hosts: Sequence[str] = ("localhost",),
    port: int = 0,
    environment: Mapping[str, str] | None = None,
) -> Iterator[RelayProcess]:
    """Run a relay that has a configuration file, and so keys that it made."""
    write_private(folder / "relay.json", relay_document(endpoints, settings=settings, hosts=hosts))
    variables = {
        "HYBRIDGE_RELAY_CONFIG": str(folder / "relay.json"),
        "HYBRIDGE_RELAY_PORT": str(port),
        "HYBRIDGE_RELAY_ADMIN_PORT": "0",
        "HYBRIDGE_RELAY_SHARE_DIR": str(folder / "share"),
        "HYBRIDGE_RELAY_STATE_DIR": str(folder / "state"),
        **(environment or {}),
    }
    secrets: list[str] = []
    with running("relay", settings=variables, secrets=secrets) as program:
        listening = wait_for(program, "listening")
        relay = RelayProcess(
            program=program,
            folder=folder,
            port=int(listening.text("port")),
            admin_port=int(listening.text("admin_port")),
        )
        yield relay
        secrets += relay.secrets


# --- both ends -----------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Chain:
    """The three programs, the application's end of a connection and the target's."""

    relay: RelayProcess
    agent: Program
    client: Program
    address: tuple[str, int]
    """Local port of the client."""
    target: socket.socket = field(repr=False)
    """Listens where the agent connects to."""

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {
            "relay": self.relay.program.process.pid,
            "agent": self.agent.process.pid,
            "client": self.client.process.pid,
        }

    def connect(self) -> socket.socket:
        """Connect as the application does."""
        return socket.create_connection(self.address, timeout=DEADLINE_SECONDS)

    def accept(self) -> socket.socket:
        """Accept as the target does."""
        sock, _ = self.target.accept()
        sock.settimeout(DEADLINE_SECONDS)
        return sock

    @contextlib.contextmanager
    def pair(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        """One connection through the chain, joined: the application's end, and the target's."""
        with self.connect() as near:
            token = random.randbytes(TOKEN_BYTES)  # noqa: S311 - no secret
            near.sendall(token)
            while True:
                with self.accept() as far:
                    # What an earlier test left in the queue is not ours.
                    if _receive_exactly(far, TOKEN_BYTES) == token:
                        yield near, far
                        return


@contextlib.contextmanager
def target_socket(host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A listening socket: the service on-premises."""
    with socket.create_server((host, 0), backlog=4_096) as listening:
        listening.settimeout(DEADLINE_SECONDS)
        yield listening


def running_agent(
    relay: RelayProcess,
    settings: Settings | None = None,
    *,
    hybrid_connections: Sequence[str] = (HYBRID_CONNECTION,),
    environment: Mapping[str, str] | None = None,
) -> contextlib.AbstractContextManager[Program]:
    """Run an agent that serves these; ``settings`` are those of its file.

    It checks no targets, so that nobody but senders connects to them.
    """
    quiet = {"EndpointCheckSeconds": 0}
    file = write_private(relay.folder / "agent.json", {"Settings": quiet | dict(settings or {})})
    return running(
        "hcm_agent",
        "run",
        settings={
            **(environment or {}),
            **relay.agent_settings(*hybrid_connections),
            "HCM_CONFIG": str(file),
        },
        secrets=relay.secrets,
    )


def running_client(
    relay: RelayProcess,
    settings: Settings | None = None,
    *,
    hybrid_connections: Sequence[str] = (HYBRID_CONNECTION,),
    environment: Mapping[str, str] | None = None,
) -> contextlib.AbstractContextManager[Program]:
    """Run a client with a free port for each; ``settings`` are those of its file."""
    entries = [
        {
            "ConnectionString": relay.connection_string("defaultSender", name),
            "Listen": "127.0.0.1:0",
        }
        for name in hybrid_connections
    ]
    file = write_private(
        relay.folder / "client.json",
        {"HybridConnections": entries, "Settings": dict(settings or {})},
    )
    return running(
        "app_client",
        "run",
        settings={
            **(environment or {}),
            "APP_CLIENT_CONFIG": str(file),
            "APP_CLIENT_CA": str(relay.ca),
        },
        secrets=relay.secrets,
    )


@contextlib.contextmanager
def running_chain(
    folder: Path,
    *,
    endpoint: tuple[str, int] | None = None,
    relay_settings: Settings | None = None,
    agent_settings: Settings | None = None,
    client_settings: Settings | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Chain]:
    """Run all three, ready to carry.

    Args:
        folder: For state, shared files and configuration.
        endpoint: The target; None: a socket of ours, `Chain.target`.
        relay_settings: ``Settings`` of the relay's file.
        agent_settings: ``Settings`` of the agent's file.
        client_settings: ``Settings`` of the client's file.
        environment: For all three.
    """
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(target_socket())
        host, port = endpoint or target.getsockname()
        common = environment or {}
        relay = stack.enter_context(
            running_relay_process(
                folder,
                {HYBRID_CONNECTION: f"{host}:{port}"},
                settings=relay_settings,
                environment=common,
            )
        )
        agent = stack.enter_context(running_agent(relay, agent_settings, environment=common))
        client = stack.enter_context(running_client(relay, client_settings, environment=common))
        wait_for(agent, "online")
        listening = wait_for(client, "listening")
        yield Chain(
            relay=relay,
            agent=agent,
            client=client,
            address=(listening.text("host"), int(listening.text("port"))),
            target=target,
        )


# --- bytes ---------------------------------------------------------------------------------------


def reset(sock: socket.socket) -> None:
    """Close with RST: the peer sees a broken connection."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def is_reset(address: tuple[str, int]) -> bool:
    """Connect, and tell whether nothing came but a reset.

    The connection is accepted first; a reset that follows at once may be what connecting reports.
    """
    try:
        with socket.create_connection(address, timeout=DEADLINE_SECONDS) as sock:
            sock.recv(1)
    except ConnectionResetError:
        return True
    return False


def receive_to_end(sock: socket.socket) -> tuple[bytes, bool]:
    """Read until the end; give all that came, and whether the end was a reset."""
    received = bytearray()
    try:
        while data := sock.recv(262_144):
            received += data
    except ConnectionResetError:
        return bytes(received), True
    return bytes(received), False


def _receive_exactly(sock: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size and (data := sock.recv(size - len(received))):
        received += data
    return received
