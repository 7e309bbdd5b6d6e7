"""Which hybrid connection gets which line of a hosts file, and which gets none."""

from __future__ import annotations

import pytest

from app_client.hosts import Found, HostsEntry, entries, lines
from tests.support.client_ends import to

DB = ("db.corp.local", 5432)


def found(
    name: str, target: tuple[str, int] = DB, address: tuple[str, int] = ("127.64.0.1", 5432)
) -> Found:
    return Found(forward=to(name), target=target, address=address)


def only(each: Found) -> HostsEntry:
    (entry,) = entries([each])
    return entry


def test_a_line_has_address_name_and_what_it_is_for() -> None:
    assert lines(entries([found("orders")])) == [
        "127.64.0.1  db.corp.local  # hybrid connection orders in ns1.example.test"
    ]


def test_two_ports_of_one_host_have_one_line() -> None:
    pool = found("pool", ("db.corp.local", 6432), ("127.64.0.1", 6432))

    assert lines(entries([found("orders"), pool])) == [
        "127.64.0.1  db.corp.local  # hybrid connection orders in ns1.example.test, "
        "hybrid connection pool in ns1.example.test"
    ]


def test_another_port_than_the_targets_is_said() -> None:
    moved = entries([found("orders", address=("127.0.0.9", 15432))])
    free = entries([found("orders", address=("127.0.0.9", 0))])

    assert lines(moved)[0].endswith(", at port 15432 instead of 5432")
    assert lines(free)[0].endswith(", at a free port")


@pytest.mark.parametrize(
    ("listens_on", "address"),
    [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("localhost", "127.0.0.1")],  # noqa: S104
)
def test_what_listens_everywhere_is_reached_on_loopback(listens_on: str, address: str) -> None:
    assert lines(entries([found("orders", address=(listens_on, 5432))]))[0].startswith(
        f"{address}  db.corp.local  "
    )


@pytest.mark.parametrize(
    ("each", "problem", "next_step"),
    [
        (found("a", ("10.0.0.5", 1)), "IP address, which no hosts file can", "127.64.0.1:5432"),
        (found("a", ("fe80::1", 1)), "App Service would bypass", "host name"),
        (found("a", ("localhost", 1)), "App Service on Linux refuses it", "host name"),
        (found("a", ("db\u00fc.corp.local", 1)), "is no host name", "correct"),
        (found("a", ("db#1", 1)), "is no host name", "correct"),
        (found("a", ("-db", 1)), "is no host name", "correct"),
        (found("a", ("x" * 64, 1)), "is no host name", "correct"),
        (found("a", ("NS1.example.test.", 1)), "is the relay itself", "correct"),
        (found("a", DB, ("/run/db/.s.PGSQL.5432", 0)), "the Unix socket", "that path"),
        (found("a", DB, ("intranet", 5432)), "which is no IP address", "Listen"),
    ],
)
def test_what_gets_no_line_says_why_and_what_to_do(
    each: Found, problem: str, next_step: str
) -> None:
    entry = only(each)

    assert problem in entry.problem
    assert next_step in entry.next_step
    assert lines([entry]) == []


def test_a_name_leads_to_one_address_only() -> None:
    first, second = entries([found("orders"), found("stock", address=("127.64.0.2", 5432))])

    assert first.problem == ""
    assert "db.corp.local leads to 127.64.0.1 already" in second.problem
    assert "orders" in second.problem


def test_programs_are_told_all_of_it() -> None:
    assert only(found("orders")).to_fields() == {
        "hybrid_connection": "orders",
        "namespace": "ns1.example.test",
        "endpoint": "db.corp.local:5432",
        "name": "db.corp.local",
        "address": "127.64.0.1",
        "port": 5432,
        "problem": None,
        "next_step": None,
    }
    without = only(found("orders", ("10.0.0.5", 5432))).to_fields()
    assert without["name"] is None
    assert without["problem"]
