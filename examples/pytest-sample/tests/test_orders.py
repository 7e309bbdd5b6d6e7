"""The application and its database, also while the way between them is broken."""

import threading

import psycopg
import pytest
from orders import total

PATIENCE_SECONDS = 30


@pytest.mark.parametrize(("customer", "cents"), [("anna", 1550), ("ben", 990), ("nobody", 0)])
def test_totals_come_from_on_premises(database, customer, cents):
    assert total(database, customer) == cents


def test_without_an_agent_there_is_no_database_and_with_one_there_is(database, way):
    way.agent.stop()
    with pytest.raises(psycopg.OperationalError):
        total(database, "anna")

    way.agent.start()
    assert total(database, "anna") == 1550


def test_the_application_waits_for_the_agent(database, way):
    way.agent.stop()
    starting = threading.Timer(0.2, way.agent.start)
    starting.start()
    assert total(database, "anna", patience_seconds=PATIENCE_SECONDS) == 1550
    starting.join()


def test_it_survives_a_restart_of_the_relay(database, hybridge_relay):
    hybridge_relay.restart()
    assert total(database, "ben", patience_seconds=PATIENCE_SECONDS) == 990


def test_it_survives_expired_tokens(database, way):
    way.expire_tokens()
    assert total(database, "ben", patience_seconds=PATIENCE_SECONDS) == 990


@pytest.mark.parametrize("close", [True, False])
def test_a_severed_connection_is_an_error_and_the_next_one_works(database, way, close):
    with database.connect() as connection:
        way.sever(close=close)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")

    assert total(database, "anna") == 1550


@pytest.mark.parametrize("status", [404, 429, 503])
def test_refused_it_says_so(database, way, status):
    with way.refuse(status, "Not now."), pytest.raises(psycopg.OperationalError):
        total(database, "anna")

    assert total(database, "anna") == 1550


def test_two_ways_lead_to_one_database(hybrid_connection, database, on_premises):
    other = hybrid_connection((on_premises.host, on_premises.port), name="reports-db")
    assert other.port != database.port
    assert total(database, "anna") == 1550
