"""The application: orders from a database on-premises, by whatever host and port leads there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

RETRY_SECONDS = 0.05


@dataclass(frozen=True)
class Database:
    """Where the database is, as the application is told."""

    host: str
    port: int
    user: str
    password: str
    name: str

    @contextmanager
    def connect(self, *, patience_seconds: float = 0.0) -> Iterator[psycopg.Connection]:
        """Connect; where that fails, try again for a while."""
        until = time.monotonic() + patience_seconds
        while True:
            try:
                connection = psycopg.connect(
                    host=self.host,
                    port=self.port,
                    user=self.user,
                    password=self.password,
                    dbname=self.name,
                    connect_timeout=10,
                )
                break
            except psycopg.OperationalError:
                if time.monotonic() >= until:
                    raise
                time.sleep(RETRY_SECONDS)
        with connection:
            yield connection


def total(database: Database, customer: str, *, patience_seconds: float = 0.0) -> int:
    """Sum up what a customer has ordered, in cents."""
    with database.connect(patience_seconds=patience_seconds) as connection:
        row = connection.execute(
            "select coalesce(sum(cents), 0) from orders where customer = %s", (customer,)
        ).fetchone()
    return int(row[0]) if row else 0
