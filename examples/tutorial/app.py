"""An application: adds the orders that its command line names, and lists all."""

import os
import sys

import psycopg

with psycopg.connect(os.environ["DATABASE"], connect_timeout=20) as connection:
    for article in sys.argv[1:]:
        connection.execute("insert into orders (article) values (%s)", [article])
    for number, article in connection.execute("select id, article from orders order by id"):
        print(number, article)
