"""The demo: real SQL from an application to a database that it has no way to, step by step.

PostgreSQL and the three programs run as separate processes on free loopback ports. Each step waits
for the thing that it shows.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import TextIO

from devstack.folders import temporary_folder
from devstack.postgres import PostgresServer
from devstack.processes import ProcessFailed
from devstack.programs import Event, Program
from devstack.screen import INDENT, Screen, seconds
from hybridge.protocol.errors import RelayError

try:
    import psycopg
except ImportError:
    raise ProcessFailed(
        "the demo needs a PostgreSQL driver: there is no package psycopg",
        hint="pip install 'hybridge[demo]', or run make demo in a clone",
    ) from None

HYBRID_CONNECTION = "orders-db"

ORDERS = [
    (1, "Contoso", "pallet of bolts", "129.90"),
    (2, "Fabrikam", "conveyor belt", "4310.00"),
    (3, "Northwind", "forklift battery", "880.50"),
    (4, "Tailspin", "label printer", "349.00"),
    (5, "Wingtip", "shelving, 12 m", "1999.95"),
]

QUERY = "select id, customer, article, total from orders where total > 500 order by total"

CONNECTS = 15
"""Connections whose set-up is timed, each way."""

QUERIES = 200
"""Queries that are timed, each way."""

LOOK_AGAIN_SECONDS = 0.2
"""How soon an interruption is seen that came just before the demo began to wait for it."""

EXIT_INTERRUPTED = 130
"""What a shell makes of a program that Ctrl-C ended."""


class DemoFailed(RelayError):
    """A step of the demo did not work."""


def run(output: TextIO, *, stays: bool) -> int:
    """Run the demo, and leave nothing behind: no process, no file.

    Args:
        output: Where its page goes.
        stays: Keep everything up after the last step, until Ctrl-C or SIGTERM.

    Returns:
        The exit code: 0, or 130 when it was interrupted before its end.

    Raises:
        RelayError: A step failed. What its program said last stands on standard error.
    """
    screen = Screen(output)
    demo = Demo(screen)
    try:
        with ExitStack() as stack:
            _forget_other_databases(stack)
            ignore_more = _raise_on_signals()
            try:
                demo.run(stack)
                if stays:
                    demo.stay()
            finally:
                ignore_more()
    except _Interrupted:
        if demo.is_done:
            screen.line()
            screen.line("Everything has been stopped and removed.")
            return 0
        screen.line()
        screen.line("Interrupted. Everything has been stopped and removed.")
        return EXIT_INTERRUPTED
    except ProcessFailed as failure:
        _show_last_lines(failure.last_lines)
        raise
    screen.line()
    screen.line("Everything has been stopped and removed.")
    return 0


class Demo:
    """The steps, in order.

    Args:
        screen: Where they are shown.
    """

    def __init__(self, screen: Screen) -> None:
        self.is_done = False
        self._screen = screen
        self._database = PostgresServer()
        self._relay_address = ""
        self._local: tuple[str, int] = ("", 0)

    def run(self, stack: ExitStack) -> None:
        """All steps. What was started ends with ``stack``."""
        self._show_title()
        folder = temporary_folder(stack, prefix="hybridge-demo-")
        self._start_database(stack)
        relay = self._start_relay(stack, folder)
        agent = self._start_agent(stack, folder, relay)
        client = self._start_client(stack, folder)
        # Ended first: its sessions end with it, and then no program waits for a connection.
        stack.push(self._database)
        self._connect(stack, relay, agent, client)
        self._query()
        self._compare()
        self.is_done = True

    def stay(self) -> None:
        """Say how to try it, and wait to be interrupted."""
        host, port = self._local
        database = self._database
        psql = shutil.which("psql") or str(database.programs / "psql")
        screen = self._screen
        screen.line()
        screen.line("It is all still up. Try it from another terminal:", bold=True)
        screen.line()
        screen.line(
            f"  PGPASSWORD={database.password} {psql} -h {host} -p {port}"
            f" -U {database.user} -c '{QUERY}'"
        )
        screen.line()
        screen.line("Ctrl-C ends it and removes everything.")
        while True:
            # Not signal.pause: it would sleep through a signal that came just before it.
            time.sleep(LOOK_AGAIN_SECONDS)

    # --- the steps ----------------------------------------------------------------------------

    def _show_title(self) -> None:
        screen = self._screen
        screen.line("Hybridge: a cloud application queries a database on-premises", bold=True)
        screen.line()
        screen.line("        cloud                               ┊   on-premises")
        screen.line("        app ──▶ app-client ──▶ relay ◀──────┊── hcm ──▶ PostgreSQL")
        screen.line(
            "                                            ┊   dials out only, nothing listens"
        )

    def _start_database(self, stack: ExitStack) -> None:
        with self._screen.step("On-premises: a real PostgreSQL, with a table"):
            stack.push(self._database)
            database = self._database.__enter__()
            with _driver_errors("PostgreSQL"), psycopg.connect(database.dsn) as connection:
                connection.execute(
                    "create table orders (id integer primary key, customer text not null,"
                    " article text not null, total numeric(8, 2) not null)"
                )
                connection.cursor().executemany(
                    "insert into orders values (%s, %s, %s, %s)", ORDERS
                )
                version = connection.info.parameter_status("server_version")
            self._screen.note(
                f"PostgreSQL {version} on {database.host}:{database.port},"
                f" table orders with {len(ORDERS)} rows"
            )

    def _start_relay(self, stack: ExitStack, folder: Path) -> Program:
        with self._screen.step("Cloud: the relay, the only one that listens"):
            target = f"{self._database.host}:{self._database.port}"
            relay = Program(
                "relay",
                ["--hybrid-connection", f"{HYBRID_CONNECTION}={target}"],
                settings={
                    "HYBRIDGE_RELAY_PORT": "0",
                    "HYBRIDGE_RELAY_ADMIN_PORT": "0",
                    "HYBRIDGE_RELAY_STATE_DIR": str(folder / "state"),
                    "HYBRIDGE_RELAY_SHARE_DIR": str(folder / "share"),
                },
            )
            stack.push(relay)
            relay.__enter__()
            listening = relay.wait_for_event("listening")
            self._relay_address = f"{listening.text('host')}:{listening.text('port')}"
            self._screen.note(
                f"TLS on {self._relay_address}, hybrid connection {HYBRID_CONNECTION} for {target}"
            )
        return relay

    def _start_agent(self, stack: ExitStack, folder: Path, relay: Program) -> Program:
        with self._screen.step("On-premises: hcm, the agent, dials out and waits"):
            agent = Program(
                "hcm_agent",
                ["run"],
                settings={
                    "HCM_CONNECTION_STRING": _connection_string(folder, "defaultListener"),
                    "HCM_CA": str(folder / "share" / "ca.pem"),
                },
            )
            stack.push(agent)
            agent.__enter__()
            agent.wait_for_event("online")
            seen = relay.wait_for_event("NewListenerRegistered")
            self._screen.arrow("hcm", "relay", f"dials {self._relay_address}, {_credentials(seen)}")
            self._screen.arrow("hcm", "relay", "control channel is open, waits for senders")
        return agent

    def _start_client(self, stack: ExitStack, folder: Path) -> Program:
        with self._screen.step("Cloud: app-client opens a local port for the application"):
            client = Program(
                "app_client",
                ["forward"],
                settings={
                    "APP_CLIENT_CONNECTION_STRING": _connection_string(folder, "defaultSender"),
                    "APP_CLIENT_CA": str(folder / "share" / "ca.pem"),
                    "APP_CLIENT_LISTEN": "127.0.0.1:0",
                },
            )
            stack.push(client)
            client.__enter__()
            listening = client.wait_for_event("listening")
            self._local = (listening.text("host"), int(listening.text("port")))
            self._screen.note(f"{self._local[0]}:{self._local[1]} now leads to the database")
        return client

    def _connect(self, stack: ExitStack, relay: Program, agent: Program, client: Program) -> None:
        with self._screen.step("The application connects to the local port"):
            story = Story(self._screen, relay=relay, agent=agent, client=client)
            host, port = self._local
            self._screen.arrow("app", "app-client", f"connects to {host}:{port}", at="0 ms")
            story.begin()
            with _driver_errors("app-client", client, agent, relay):
                self._application = psycopg.connect(self._database.dsn_at(host, port))
            stack.callback(self._application.close)
            story.tell()

    def _query(self) -> None:
        with self._screen.step("SQL, there and back"):
            self._screen.note(QUERY)
            with _driver_errors("the query"):
                cursor = self._application.execute(QUERY)
                rows = cursor.fetchall()
            self._screen.line()
            self._screen.table([column.name for column in cursor.description or ()], rows)
            self._screen.line()

    def _compare(self) -> None:
        with self._screen.step("What the way through the relay costs"), _driver_errors("timing"):
            direct = _timed(self._database.dsn)
            relayed = _timed(self._database.dsn_at(*self._local))
            self._screen.table(
                ["", "connect and log in", "one query"],
                [
                    ["direct", *map(seconds, direct)],
                    ["through the relay", *map(seconds, relayed)],
                ],
            )
            self._screen.note(
                f"medians of {CONNECTS} connections and {QUERIES} queries on this machine"
            )


class Story:
    """What the three programs log while one connection is made, told in the order of the protocol.

    Args:
        screen: Where it is told.
        relay: The relay.
        agent: The agent.
        client: The client.
    """

    def __init__(self, screen: Screen, *, relay: Program, agent: Program, client: Program) -> None:
        self._screen = screen
        self._relay = relay
        self._agent = agent
        self._client = client
        self._began_at = 0.0
        self._since = {program: program.process.line_count for program in (relay, agent, client)}

    def begin(self) -> None:
        """The application connects now."""
        self._began_at = time.time()

    def tell(self) -> None:
        """Wait for each event of the connection, and show it."""
        relay, agent, client = self._relay, self._agent, self._client
        dialled = self._event(relay, "NewSenderRegistering")
        accept = self._event(agent, "accept")
        connected = self._event(agent, "target_connected")
        joined = self._event(relay, "SenderListenerConnectionEstablished")
        opened = self._event(client, "connection_opened")
        self._show(
            (dialled, "app-client", "relay", f"dials, {_credentials(dialled)}"),
            (accept, "relay", "hcm", f"accept, by the control channel: {_short(accept)}"),
            (connected, "hcm", "PostgreSQL", f"dials {connected.text('target')}"),
            (joined, "hcm", "relay", "dials the rendezvous address: joined"),
            (opened, "app", "PostgreSQL", "bytes flow, both ways"),
        )

    def _event(self, program: Program, name: str) -> Event:
        return program.wait_for_event(name, since=self._since[program])

    def _show(self, *lines: tuple[Event, str, str, str]) -> None:
        # A program logs what it has done, and the next one may be faster with its own line: no
        # event is later than what it caused.
        times = [event.time for event, *_ in lines]
        for index, (_, source, target, text) in enumerate(lines):
            milliseconds = max(0.0, (min(times[index:]) - self._began_at) * 1_000)
            self._screen.arrow(source, target, text, at=f"{milliseconds:.0f} ms")


def _credentials(event: Event) -> str:
    """What the relay saw of a peer: its TLS, and the rule that signed its token."""
    version = event.text("tls").replace("TLSv", "TLS ")
    return f"{version}, with a token of rule {event.text('rule')}"


def _short(event: Event) -> str:
    return f"connection {event.text('id')[:8]}"


def _connection_string(folder: Path, rule: str) -> str:
    """What the relay shares of a rule. It goes on by the environment: others can see arguments."""
    names = list((folder / "share").glob(f"*.{HYBRID_CONNECTION}.{rule}.*"))
    if len(names) != 1:
        raise DemoFailed(f"the relay shared no connection string of rule {rule}")
    return names[0].read_text(encoding="utf-8").strip()


def _forget_other_databases(stack: ExitStack) -> None:
    """Until ``stack`` ends: PGHOSTADDR and its kin would lead our queries to another server."""
    theirs = {name: value for name, value in os.environ.items() if name.startswith("PG")}
    for name in theirs:
        del os.environ[name]
    stack.callback(os.environ.update, theirs)


def _timed(dsn: str) -> tuple[float, float]:
    """Median seconds to connect and log in, and of one query."""
    connects = []
    for _ in range(CONNECTS):
        started = time.perf_counter()
        with psycopg.connect(dsn):
            connects.append(time.perf_counter() - started)
    queries = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        for _ in range(QUERIES):
            started = time.perf_counter()
            connection.execute(QUERY).fetchall()
            queries.append(time.perf_counter() - started)
    return statistics.median(connects), statistics.median(queries)


@contextlib.contextmanager
def _driver_errors(what: str, *programs: Program) -> Iterator[None]:
    """Turn the driver's errors into ours, with what the programs said last."""
    try:
        yield
    except psycopg.Error as error:
        lines = [line for program in programs for line in program.process.last_lines]
        problem = " ".join(str(error).split()) or type(error).__name__
        raise ProcessFailed(f"{what}: {problem}", last_lines=lines) from error


def _show_last_lines(lines: tuple[str, ...]) -> None:
    for line in lines:
        with contextlib.suppress(ValueError):
            fields = json.loads(line)
            if isinstance(fields, dict) and "message" in fields:
                told = [fields.get("program"), fields.get("level"), fields["message"]]
                told += [fields[name] for name in ("error", "hint", "exc_info") if fields.get(name)]
                line = " | ".join(str(part) for part in told if part)
        sys.stderr.write(f"{INDENT}{line}\n")


class _Interrupted(BaseException):
    """Ctrl-C, SIGTERM, or the terminal was closed."""


def _raise_on_signals() -> Callable[[], None]:
    """Raise `_Interrupted` on the first signal that asks us to end, and ignore all that follow.

    Gives a function that ignores them from then on: cleaning up takes seconds at most, and must
    not be cut short by an impatient second Ctrl-C. It stays so until the process ends.
    """
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    is_over = False

    def ignore_more() -> None:
        # SIG_IGN, not a handler of ours: those are gone before the interpreter itself is.
        for number in signals:
            signal.signal(number, signal.SIG_IGN)

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal is_over
        if not is_over:
            is_over = True
            raise _Interrupted

    for number in signals:
        signal.signal(number, interrupt)
    return ignore_more
