"""Loopback addresses that follow from namespace and host name."""

from __future__ import annotations

import ipaddress

import pytest

from app_client.placement import NETWORK, Placement, is_name
from tests.support.client_ends import to

DB = ("db.corp.local", 5432)


def alone(name: str, target: tuple[str, int], host: str = "ns1.example.test") -> tuple[str, int]:
    return Placement().place(to(name, listen=None, host=host), target)


def test_the_address_is_the_same_in_every_run_and_the_port_is_the_targets() -> None:
    assert alone("orders", DB) == ("127.100.96.91", 5432)
    assert alone("orders", ("DB.corp.local.", 5432)) == ("127.100.96.91", 5432)


def test_all_addresses_lie_in_the_range_and_do_not_end_with_0_or_255() -> None:
    for number in range(500):
        address = ipaddress.IPv4Address(alone("orders", (f"db{number}.corp.local", 1))[0])

        assert address in NETWORK
        assert address.packed[-1] not in (0, 255)


def test_two_ports_of_one_host_share_its_address() -> None:
    placement = Placement()
    sql = placement.place(to("orders", listen=None), DB)
    pool = placement.place(to("pool", listen=None), ("db.corp.local", 6432))

    assert sql[0] == pool[0]
    assert (sql[1], pool[1]) == (5432, 6432)


def test_two_hosts_with_the_same_port_have_two_addresses() -> None:
    assert alone("orders", DB)[0] != alone("stock", ("db2.corp.local", 5432))[0]


def test_the_same_host_in_another_namespace_has_another_address() -> None:
    assert alone("orders", DB)[0] != alone("orders", DB, host="ns2.example.test")[0]


@pytest.mark.parametrize("host", ["10.0.0.5", "::1", "localhost"])
def test_without_a_name_the_address_follows_from_the_hybrid_connection(host: str) -> None:
    placement = Placement()
    first = placement.place(to("orders", listen=None), (host, 5432))
    second = placement.place(to("stock", listen=None), (host, 5432))

    assert first[0] != second[0]
    assert first == alone("orders", ("192.0.2.1", 5432))
    assert not is_name(host)


def test_two_that_lead_to_the_same_port_of_the_same_host_are_kept_apart() -> None:
    placement = Placement()
    first, second = to("orders", listen=None), to("again", listen=None)

    assert placement.place(first, DB) != placement.place(second, DB)
    assert placement.place(first, DB) == placement.place(first, DB)
    placement.release(first)
    assert placement.place(to("third", listen=None), DB) == alone("orders", DB)


def test_where_a_default_host_is_set_it_is_taken() -> None:
    forward = to("orders", listen=None, default_host="127.0.0.1")

    assert Placement().place(forward, DB) == ("127.0.0.1", 5432)
