"""Tests an application's way to its database, also while that way is broken."""

import os

import psycopg
import pytest

ON_PREMISES = os.environ["ON_PREMISES"]


def test_the_database_answers(hybrid_connection):
    orders = hybrid_connection(ON_PREMISES)

    with psycopg.connect(host=orders.host, port=orders.port) as connection:
        assert connection.execute("select 1 + 1").fetchone() == (2,)


def test_the_application_notices_that_the_agent_is_gone(hybrid_connection):
    orders = hybrid_connection(ON_PREMISES)
    orders.agent.stop()

    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(host=orders.host, port=orders.port)

    orders.agent.start()
    psycopg.connect(host=orders.host, port=orders.port).close()
