"""The relay as a program on port 443: Microsoft's Node libraries look for it nowhere else."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hybridge.protocol.connection_string import ConnectionString, serialize
from hybridge.protocol.sas import resource_of, sign
from hybridge.protocol.secret import Secret
from tests.support.chain import running, wait_for, write_private
from tests.support.raw import RelayPeers

PORT = 443
HOST = "demo-ns.servicebus.windows.net"
RULE = "RootManageSharedAccessKey"
KEY = "aW50ZXJvcC1pbnRlcm9wLWludGVyb3AtaW50ZXJvcC0="
"""Of the namespace's rule."""

ENTITY_KEY = "ZW50aXR5LWVudGl0eS1lbnRpdHktZW50aXR5LWVudC0="
"""Of each hybrid connection's rules ``listen`` and ``send``."""

HYBRID_CONNECTIONS = ("a2", "node-ws", "node-http", "sdk", "java", "dotnet", "team/dotnet")
"""Protected ones: each group of tests has its own."""

ANONYMOUS = "open"
"""One whose senders need no token."""

LOCK = Path(tempfile.gettempdir()) / "hybridge-interop-443.lock"
"""Held while a relay of ours has the port: a second run waits for the first."""


@dataclass(frozen=True, kw_only=True)
class InteropRelay:
    """A running relay, and what its clients need to know."""

    ca: Path
    admin_port: int

    @property
    def peers(self) -> RelayPeers:
        """Makes raw peers."""
        return RelayPeers(PORT, ca=self.ca, host=HOST)

    @property
    def connect_to(self) -> tuple[str, int]:
        """What our own SDK dials instead of the name."""
        return "127.0.0.1", PORT

    def token(self, resource: str, *, rule: str = RULE, key: str = KEY) -> str:
        """Sign a token, good for ten minutes, for a resource in the spelling that is given."""
        return sign(resource, key_name=rule, key=key, expires_at=int(time.time()) + 600)

    def token_for(self, path: str) -> str:
        """Sign a token as the .NET library does."""
        return self.token(resource_of(HOST, path))

    def connection_string(self, path: str) -> str:
        """Give a connection string with all rights."""
        return serialize(ConnectionString(host=HOST, path=path, key_name=RULE, key=Secret(KEY)))


def why_no_port() -> str:
    """Say why we may not listen on port 443; empty where we may."""
    try:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", PORT))
            sock.listen()
    except PermissionError:
        return (
            f"port {PORT} is not for this user, and Microsoft's Node libraries use no other\n"
            f"hint: run as root, or: sysctl -w net.ipv4.ip_unprivileged_port_start={PORT}"
        )
    except OSError as error:
        return (
            f"port {PORT} on 127.0.0.1 cannot be used: {error.strerror}\n"
            "hint: stop what listens there"
        )
    return ""


@contextlib.contextmanager
def relay_on_443(folder: Path) -> Iterator[InteropRelay]:
    """Run the relay for a block.

    Raises:
        PermissionError: The port is not ours to have; the message says what to do.
    """
    with _port_lock():
        if problem := why_no_port():
            raise PermissionError(problem)
        config = write_private(folder / "relay.json", _document())
        variables = {
            "HYBRIDGE_RELAY_CONFIG": str(config),
            "HYBRIDGE_RELAY_HOST": "127.0.0.1",
            "HYBRIDGE_RELAY_PORT": str(PORT),
            "HYBRIDGE_RELAY_ADMIN_PORT": "0",
            "HYBRIDGE_RELAY_SHARE_DIR": str(folder / "share"),
            "HYBRIDGE_RELAY_STATE_DIR": str(folder / "state"),
        }
        with running("relay", settings=variables, secrets=[KEY, ENTITY_KEY]) as program:
            listening = wait_for(program, "listening")
            yield InteropRelay(
                ca=folder / "share" / "ca.pem", admin_port=int(listening.text("admin_port"))
            )


@contextlib.contextmanager
def _port_lock() -> Iterator[None]:
    descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _document() -> dict[str, object]:
    rules = [
        {"Name": "listen", "Rights": ["Listen"], "PrimaryKey": ENTITY_KEY},
        {"Name": "send", "Rights": ["Send"], "PrimaryKey": ENTITY_KEY},
    ]
    connections: list[dict[str, object]] = [
        {"Name": name, "AuthorizationRules": rules} for name in HYBRID_CONNECTIONS
    ]
    connections.append(
        {"Name": ANONYMOUS, "RequiresClientAuthorization": False, "AuthorizationRules": rules}
    )
    root = {"Name": RULE, "Rights": ["Listen", "Send", "Manage"], "PrimaryKey": KEY}
    namespace = {
        "Name": "demo-ns",
        "Hosts": [HOST, "localhost"],
        "AuthorizationRules": [root],
        "HybridConnections": connections,
    }
    return {
        "UserConfig": {
            "Namespaces": [namespace],
            "Settings": {"CloseForwardDelaySeconds": 0.0, "DrainSeconds": 0},
        }
    }
