"""A real PostgreSQL as the target, and ``pgbench -S`` as the load."""

from __future__ import annotations

import os
import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import Address, LoadFailed
from benchmarks.peers import PeerMissing, Running
from benchmarks.sizes import Sizes, Values
from devstack.postgres import PostgresServer
from devstack.processes import ProcessFailed

SCALE = 1
"""100,000 rows: the table fits into memory, so that the way to it is what is measured."""

CLIENTS = (1, 8)
DEADLINE_SECONDS = 10.0

_SSL_REQUEST = struct.pack(">II", 8, 80_877_103)
_TPS = re.compile(r"^tps = ([0-9.]+)", re.M)


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A PostgreSQL that has pgbench's tables."""

    address: Address
    pgbench: Path
    password: str

    @property
    def version(self) -> str:
        """What pgbench calls itself."""
        command = [str(self.pgbench), "--version"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.strip()


@contextmanager
def database() -> Iterator[Database]:
    """Start a PostgreSQL and fill it.

    Raises:
        PeerMissing: There is no PostgreSQL here, or no pgbench.
    """
    server = PostgresServer()
    try:
        server.__enter__()
    except ProcessFailed as failure:
        raise PeerMissing(f"{failure}: {failure.hint}") from failure
    with server:
        found = Database(
            address=(server.host, server.port),
            pgbench=_pgbench(server.programs),
            password=server.password,
        )
        try:
            _run(found, found.address, "-i", "-q", "-s", str(SCALE))
        except LoadFailed as failure:
            raise PeerMissing(str(failure)) from failure
        yield found


def _pgbench(programs: Path) -> Path:
    if (programs / "pgbench").exists():
        return programs / "pgbench"
    if found := shutil.which("pgbench"):
        return Path(found)
    raise PeerMissing("no pgbench was found: install Debian's postgresql-contrib")


def is_through(address: Address) -> bool:
    """Tell whether a PostgreSQL answers: it says first whether it would speak TLS."""
    try:
        with socket.create_connection(address, timeout=DEADLINE_SECONDS) as sock:
            sock.sendall(_SSL_REQUEST)
            return sock.recv(1) in {b"S", b"N"}
    except OSError:
        return False


def pgbench(found: Database, peer: Running, sizes: Sizes) -> Values:
    """Transactions a second, with one client and with eight: one SELECT each."""
    values = {}
    for clients in CLIENTS:
        arguments = ("-S", "-n", "-c", str(clients), "-T", str(sizes.pgbench_seconds))
        values[f"pgbench_{clients}"] = transactions_per_second(
            _run(found, peer.address, *arguments)
        )
    return values


def transactions_per_second(output: str) -> float:
    """Read what pgbench printed.

    Raises:
        LoadFailed: There is no such line, or it is 0.
    """
    found = _TPS.search(output)
    if found is None or not float(found[1]):
        raise LoadFailed("pgbench made no transaction")
    return float(found[1])


def _run(found: Database, address: Address, *arguments: str) -> str:
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PGPASSWORD": found.password,
        "PGSSLMODE": "disable",
        "PGCONNECT_TIMEOUT": "20",
        "LC_ALL": "C",
    }
    host, port = address
    user, database = PostgresServer.user, PostgresServer.database
    try:
        done = subprocess.run(
            [found.pgbench, *arguments, "-h", host, "-p", str(port), "-U", user, database],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    except subprocess.TimeoutExpired as error:
        raise LoadFailed("pgbench did not end") from error
    if done.returncode:
        last = done.stderr.strip().splitlines() or ["it says nothing"]
        raise LoadFailed(f"pgbench failed: {last[-1]}")
    return done.stdout
