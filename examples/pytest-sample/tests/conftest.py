"""A PostgreSQL "on-premises", and an echo service beside it; one of each for the session."""

import asyncio
import contextlib
import socketserver
import threading

import psycopg
import pytest
from orders import Database

from devstack.postgres import PostgresServer

ROWS = [("anna", 1200), ("anna", 350), ("ben", 990)]


@pytest.fixture(scope="session")
def on_premises():
    with PostgresServer() as server:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("create table orders (customer text, cents integer)")
            with connection.cursor() as cursor:
                cursor.executemany("insert into orders values (%s, %s)", ROWS)
        yield server


@pytest.fixture
def way(hybrid_connection, on_premises):
    """The way to the database: through relay, agent and client."""
    return hybrid_connection((on_premises.host, on_premises.port), name="orders-db")


@pytest.fixture
def database(way, on_premises):
    """The database as the application reaches it."""
    return Database(
        way.host, way.port, on_premises.user, on_premises.password, on_premises.database
    )


class Echo(socketserver.BaseRequestHandler):
    """Sends back what it gets."""

    def handle(self):
        with contextlib.suppress(ConnectionError):
            while data := self.request.recv(65_536):
                self.request.sendall(data)


@pytest.fixture(scope="session")
def echo_service():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address
        server.shutdown()
        thread.join()


@pytest.fixture
def connect():
    """Open asyncio streams; at the end of the test they are closed."""

    @contextlib.asynccontextmanager
    async def connecting(way):
        reader, writer = await asyncio.open_connection(way.host, way.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    return connecting
