"""Services as a company has them: real servers on free ports, for the length of a block."""

from __future__ import annotations

import contextlib
import email
import http.server
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path

import pymysql
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from devstack.processes import Process
from tests.support.debian import require

START_SECONDS = 30.0
"""How long a server may take on a busy machine."""

_MARIADB_OPTIONS = [
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--innodb-buffer-pool-size=8M",
    "--innodb-log-file-size=4M",
    "--innodb-flush-log-at-trx-commit=0",
]


def free_port() -> int:
    """A port of 127.0.0.1 that was free just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def mariadb(folder: Path, *, certificate: tuple[Path, Path], password: str) -> Iterator[int]:
    """MariaDB with TLS, a user ``shop`` who must use it, and a table of orders; gives the port."""
    install, server = require("mariadb-install-db"), require("mariadbd")
    data, port = folder / "mariadb", free_port()
    command = [install, "--no-defaults", f"--datadir={data}", "--skip-test-db", "--user=root"]
    with _process("mariadb-install-db", *command, "--auth-root-authentication-method=normal") as it:
        assert it.wait(timeout_seconds=START_SECONDS) == 0, it.lines_since(0)
    command = [server, "--no-defaults", f"--datadir={data}", f"--port={port}", "--user=root"]
    command += [f"--socket={folder / 'mariadb.sock'}", *_MARIADB_OPTIONS]
    command += [f"--ssl-cert={certificate[0]}", f"--ssl-key={certificate[1]}"]
    with _process("mariadbd", *command) as process:
        _wait_for(process, "ready for connections")
        with (
            pymysql.connect(host="127.0.0.1", port=port, user="root") as root,
            root.cursor() as cursor,
        ):
            cursor.execute("create database shop")
            cursor.execute("create user shop identified by %s require ssl", (password,))
            cursor.execute("grant all on shop.* to shop")
            cursor.execute("create table shop.orders (id int, article text)")
            cursor.execute("insert into shop.orders values (1, 'pallet of bolts')")
            root.commit()
        yield port


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[int]:
    """Redis without a file; gives the port."""
    port = free_port()
    command = [require("redis-server"), "--port", str(port), "--bind", "127.0.0.1"]
    with _process("redis-server", *command, "--save", "", "--dir", str(folder)) as process:
        _wait_for(process, "Ready to accept connections")
        yield port


@contextlib.contextmanager
def mail_server(context: ssl.SSLContext, inbox: list[Message]) -> Iterator[int]:
    """A mail server that wants STARTTLS, and puts what comes into ``inbox``; gives the port."""

    class Handler:
        async def handle_DATA(  # noqa: N802 - aiosmtpd's name
            self, _server: SMTP, _session: Session, envelope: Envelope
        ) -> str:
            content = envelope.content
            assert isinstance(content, bytes)
            inbox.append(email.message_from_bytes(content))
            return "250 taken"

    controller = Controller(
        Handler(),
        hostname="127.0.0.1",
        port=free_port(),
        tls_context=context,
        require_starttls=True,
    )
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


@contextlib.contextmanager
def orders_api(context: ssl.SSLContext | None, hosts: list[str]) -> Iterator[int]:
    """An HTTP API of orders, with TLS where a context is given; gives the port.

    Args:
        context: Its certificate.
        hosts: Gets the ``Host`` header of each request.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hosts.append(self.headers["Host"])
            body = json.dumps({"article": "pallet of bolts", "path": self.path}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        with _in_thread(server.serve_forever, until=server.shutdown):
            yield int(server.server_address[1])


@contextlib.contextmanager
def sql_server_prelogin(asked: list[bytes]) -> Iterator[int]:
    """Answers the first packet of TDS as SQL Server does, and hangs up; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listening.accept()
                    with peer:
                        asked.append(peer.recv(4_096))
                        peer.sendall(PRELOGIN_ANSWER)

        with _in_thread(serve, until=lambda: listening.shutdown(socket.SHUT_RDWR)):
            yield int(listening.getsockname()[1])


# One option, ENCRYPTION, behind its five bytes of place and length, and the terminator.
PRELOGIN = bytes.fromhex("120100 0f0000 0100 0100060001 ff 01".replace(" ", ""))
"""A client's first packet of TDS (MS-TDS 2.2.6.5): type 0x12, wants encryption."""

PRELOGIN_ANSWER = bytes.fromhex("040100 0f0000 0100 0100060001 ff 03".replace(" ", ""))
"""The server's: type 0x04, requires encryption."""


@contextlib.contextmanager
def _in_thread(work: Callable[[], None], *, until: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        until()
        thread.join()


def _process(name: str, *command: str) -> Process:
    return Process(name, command, environment={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})


def _wait_for(process: Process, words: str) -> None:
    process.wait_for(
        words, lambda line: True if words in line else None, timeout_seconds=START_SECONDS
    )
