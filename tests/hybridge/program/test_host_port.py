from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridge.program.host_port import (
    HOST_PORT,
    PORT,
    TARGET,
    format_host_port,
    parse_host,
    parse_host_port,
)
from hybridge.protocol.errors import InvalidSetting


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("db.corp.local:5432", "db.corp.local", 5432),
        ("DB_1:1", "DB_1", 1),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("[::1]:65535", "::1", 65535),
        ("[0:0:0:0:0:0:0:1]:80", "::1", 80),
    ],
)
def test_a_host_and_a_port_are_read(text: str, host: str, port: int) -> None:
    assert parse_host_port(text, setting="--listen") == (host, port)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no port"),
        ("db", "has no port"),
        ("db:", "does not end with a port number"),
        (":80", "the host is missing"),
        ("db:+80", "does not end with a port number"),
        ("db:\uff18\uff10", "does not end with a port number"),
        ("db:65536", "not between 0 and 65535"),
        ("db:999999999", "does not end with a port number"),
        ("::1:80", "put the IPv6 address in brackets"),
        ("[::g]:80", "not an IPv6 address"),
        ("tcp://db:80", "address with a scheme"),
        ("d b:80", "is not a host name"),
        ("db/x:80", "is not a host name"),
        ("user@db:80", "is not a host name"),
    ],
)
def test_anything_else_is_refused_with_the_flag_and_a_hint(text: str, problem: str) -> None:
    with pytest.raises(InvalidSetting, match=problem) as caught:
        parse_host_port(text, setting="--listen")

    assert str(caught.value).startswith("--listen: ")
    assert caught.value.hint


def test_port_0_can_be_listened_on_and_not_dialled() -> None:
    assert HOST_PORT.convert("db:0", None, None) == ("db", 0)
    with pytest.raises(InvalidSetting, match="not between 1 and 65535"):
        TARGET.convert("db:0", None, None)


def test_a_value_that_is_converted_already_stays_as_it_is() -> None:
    assert HOST_PORT.convert(("db", 1), None, None) == ("db", 1)


def test_a_port_is_a_number_of_ascii_digits() -> None:
    option = click.Option(["--port"])

    assert PORT.convert("0", option, None) == 0
    assert PORT.convert(8443, option, None) == 8443
    for wrong in ("-1", "65536", "8_443", "٣", "", "http"):
        with pytest.raises(InvalidSetting, match=r"--port: .* is not a port"):
            PORT.convert(wrong, option, None)


def test_a_lone_host_may_be_an_ipv6_address_with_or_without_brackets() -> None:
    assert parse_host("::1", setting="Hosts") == "::1"
    assert parse_host("[::1]", setting="Hosts") == "::1"
    with pytest.raises(InvalidSetting, match="the host is missing"):
        parse_host("", setting="Hosts")
    with pytest.raises(InvalidSetting, match="is not a host name: it has a port"):
        parse_host("localhost:8443", setting="Hosts")
    with pytest.raises(InvalidSetting, match="not a host name"):
        parse_host("*.example.test", setting="Hosts")


@given(st.ip_addresses(), st.integers(0, 65_535))
def test_what_is_written_is_read_back(address: object, port: int) -> None:
    text = format_host_port(str(address), port)

    assert (
        format_host_port(*parse_host_port(text, setting="x")) == text
        or "%" in text
        or (parse_host_port(text, setting="x")[1] == port)
    )


@given(st.text())
def test_no_text_raises_anything_but_the_error_for_it(text: str) -> None:
    try:
        _, port = parse_host_port(text, setting="x")
    except InvalidSetting:
        return
    assert 0 <= port <= 65_535


@pytest.mark.parametrize(
    ("lowest_port", "example"), [(0, "127.0.0.1:9009"), (1, "db.corp.local:9009")]
)
def test_a_port_alone_is_completed_in_the_hint(lowest_port: int, example: str) -> None:
    with pytest.raises(InvalidSetting, match="'9009' has no host") as caught:
        parse_host_port("9009", setting="--listen", lowest_port=lowest_port)

    assert caught.value.hint == f"write HOST:PORT, such as {example}"
