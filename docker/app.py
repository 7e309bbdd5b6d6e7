"""A cloud application: reads rows from a database that is not on its network.

It knows the database by the name and port that it has on-premises, and nothing of the relay.
Where to connect comes from the environment, as for every PostgreSQL program: PGHOST, PGUSER, ...
"""

from __future__ import annotations

import os
import sys

import psycopg


def main() -> int:
    """Print the rows of ``orders``; the exit code is 0 when there were any."""
    out = sys.stdout
    # Refused by the driver itself unless the server asks for SCRAM-SHA-256.
    with psycopg.connect(
        require_auth="scram-sha-256", client_encoding="UTF8", connect_timeout=20
    ) as connection:
        out.write(f"app: connected to {os.environ['PGHOST']}:{os.environ['PGPORT']}\n")
        rows = connection.execute(
            "select id, customer, article, total from orders order by id"
        ).fetchall()
        server = connection.execute("select inet_server_addr(), version()").fetchone()
    for number, customer, article, total in rows:
        out.write(f"app: {number:>3}  {customer:<12} {article:<20} {total:>10}\n")
    if server is not None:
        address, version = server
        out.write(f"app: {len(rows)} rows from {address}, {version.split(' on ')[0]}\n")
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
