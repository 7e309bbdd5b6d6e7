from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridge.protocol.user_metadata import parse_target, serialize_target


def test_the_portals_metadata_names_the_target() -> None:
    assert parse_target('[{"key":"endpoint","value":"db1:1433"}]') == ("db1", 1433)


def test_other_entries_are_passed_over() -> None:
    text = '["x", {"key": "owner", "value": "me"}, {"key": "Endpoint", "value": "db1:1433"}]'

    assert parse_target(text) == ("db1", 1433)


def test_a_target_is_written_as_the_portal_does() -> None:
    assert serialize_target("db1", 1433) == '[{"key":"endpoint","value":"db1:1433"}]'


def test_an_ipv6_target_has_brackets_in_the_metadata() -> None:
    text = serialize_target("fd00::1", 5432)

    assert text == '[{"key":"endpoint","value":"[fd00::1]:5432"}]'
    assert parse_target(text) == ("fd00::1", 5432)


@pytest.mark.parametrize(
    "value",
    ["db1", "db1:", ":1433", "db1:0", "db1:65536", "db1:-1", "db1:+1", "fd00::1:5432", "a b:1",
     "user@db:1", "http://db:1", "db1:\uff11", ""],
)  # fmt: skip
def test_an_endpoint_that_is_no_host_and_port_is_no_target(value: str) -> None:
    assert parse_target(f'[{{"key":"endpoint","value":"{value}"}}]') is None


@given(st.text() | st.sampled_from(["[" * 50_000, "{}", "[1]", '[{"key":1}]', "1" * 5_000]))
def test_free_text_is_no_error(text: str) -> None:
    assert parse_target(text) is None
