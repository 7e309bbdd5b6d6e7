"""Reads orders with psycopg, from the name and port that the server has on-premises."""

import psycopg

# PGPASSWORD comes from the environment, as for every PostgreSQL program.
SERVER = "host=db.corp.local port=5432 dbname=shop user=shop connect_timeout=20"

with psycopg.connect(SERVER) as connection:
    for number, article in connection.execute("select id, article from orders order by id"):
        print(number, article)
