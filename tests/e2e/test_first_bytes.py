"""A real PostgreSQL, by real drivers, through relay, agent and client."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import asyncpg
import psycopg
import pytest

from devstack.postgres import PostgresServer
from tests.support.chain import DEADLINE_SECONDS, events, running_chain, wait_for

COPY_ROWS = 60_000
COPY_ROW = "x" * 80

SLEEP_SECONDS = 60
"""What a cancelled query would take."""

SLEEPERS = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as running:
        yield running


@pytest.fixture(scope="module")
def dsn(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The database by the client's local port; the agent learns where it is from the relay."""
    folder = tmp_path_factory.mktemp("chain")
    with running_chain(folder, endpoint=(server.host, server.port)) as chain:
        yield server.dsn_at(*chain.address)
        wait_for(chain.client, "connection_closed")
        assert events(chain.agent, "connection_opened", target=f"{server.host}:{server.port}")


def test_rows_are_read(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("select n, n * n from generate_series(1, 1000) n").fetchall()

    assert rows == [(n, n * n) for n in range(1, 1_001)]


def test_a_wrong_password_is_refused(dsn: str, server: PostgresServer) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(dsn.replace(server.password, "guess"))


def test_a_transaction_is_seen_when_it_is_committed_and_not_when_it_is_rolled_back(
    dsn: str, server: PostgresServer
) -> None:
    with psycopg.connect(dsn) as relayed, psycopg.connect(server.dsn, autocommit=True) as direct:
        count = "select count(*) from orders"
        relayed.execute("create table orders (id int primary key)")
        relayed.commit()

        relayed.execute("insert into orders values (1)")
        assert direct.execute(count).fetchone() == (0,)
        relayed.commit()
        assert direct.execute(count).fetchone() == (1,)
        relayed.execute("insert into orders values (2)")
        relayed.rollback()
        assert direct.execute(count).fetchone() == (1,)

        with pytest.raises(psycopg.errors.UniqueViolation):
            relayed.execute("insert into orders values (1)")
        relayed.rollback()
        relayed.execute("drop table orders")


def test_some_mib_are_copied_in_and_out(dsn: str) -> None:
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute("create temporary table bulk (id int, text text)")
        written = hashlib.sha256()
        with cursor.copy("copy bulk from stdin") as copy:
            for number in range(COPY_ROWS):
                row = f"{number}\t{COPY_ROW}\n".encode()
                written.update(row)
                copy.write(row)

        read = hashlib.sha256()
        with cursor.copy("copy (select * from bulk order by id) to stdout") as copy:
            for data in copy:
                read.update(data)

    assert read.hexdigest() == written.hexdigest()


def test_two_clients_work_side_by_side(dsn: str) -> None:
    with psycopg.connect(dsn) as one, psycopg.connect(dsn) as other:
        one.execute("select pg_advisory_lock(1)")
        other.execute("select pg_advisory_lock(2)")
        found = [
            connection.execute(
                "select pg_backend_pid(), pg_try_advisory_lock(1), pg_try_advisory_lock(2)"
            ).fetchone()
            for connection in (one, other)
        ]

    assert found[0] is not None
    assert found[1] is not None
    assert found[0][0] != found[1][0]
    assert [row[1:] for row in found if row] == [(True, False), (False, True)]


def test_a_query_is_cancelled(dsn: str, server: PostgresServer) -> None:
    # PostgreSQL is told on a connection of its own, which goes through the relay as well.
    with (
        closing(psycopg.connect(dsn, autocommit=True)) as connection,
        psycopg.connect(server.dsn, autocommit=True) as direct,
        ThreadPoolExecutor(1) as pool,
    ):
        sleeping = pool.submit(connection.execute, f"select pg_sleep({SLEEP_SECONDS})")
        while direct.execute(SLEEPERS).fetchone() != (1,):
            pass

        connection.cancel_safe()

        with pytest.raises(psycopg.errors.QueryCanceled):
            sleeping.result()
        assert connection.execute("select 1").fetchone() == (1,)


async def test_asyncpg_reads_copies_and_cancels(dsn: str) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        connection = await asyncpg.connect(dsn, ssl=False)
        try:
            async with connection.transaction():
                await connection.execute("create temporary table bulk (id int, text text)")
                await connection.copy_records_to_table(
                    "bulk", records=[(number, COPY_ROW) for number in range(COPY_ROWS)]
                )
            assert await connection.fetchval("select count(*) from bulk") == COPY_ROWS
            rows = await connection.fetch("select id from bulk order by id")
            assert [row["id"] for row in rows] == list(range(COPY_ROWS))

            with pytest.raises(TimeoutError):
                await connection.execute(f"select pg_sleep({SLEEP_SECONDS})", timeout=0.1)
            assert await connection.fetchval("select 1") == 1
        finally:
            await connection.close(timeout=DEADLINE_SECONDS)


async def test_ten_clients_at_once_each_get_their_own_rows(dsn: str) -> None:
    async def query(number: int) -> int:
        connection = await asyncpg.connect(dsn, ssl=False)
        try:
            found: int = await connection.fetchval(
                "select sum($1::int) from generate_series(1, 100)", number
            )
            return found
        finally:
            await connection.close(timeout=DEADLINE_SECONDS)

    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
        found = [tasks.create_task(query(number)) for number in range(10)]

    assert [each.result() for each in found] == [100 * number for number in range(10)]
