"""The URLs that our own ends make and dial, and which hosts they follow."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridge.protocol import address
from hybridge.protocol.address import Action, parse_target
from hybridge.protocol.errors import MalformedAddress

visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"))


# --- URLs of our own ends ------------------------------------------------------------------------


def test_the_listen_url_leaves_out_port_443() -> None:
    assert address.listen_url("ns1.example.test", 443, "team/hc1", listener_id="7") == (
        "wss://ns1.example.test/$hc/team/hc1?sb-hc-action=listen&sb-hc-id=7"
    )
    assert address.listen_url("::1", 8443, "hc1", listener_id="7") == (
        "wss://[::1]:8443/$hc/hc1?sb-hc-action=listen&sb-hc-id=7"
    )


def test_the_connect_url_has_the_own_query_first() -> None:
    url = address.connect_url(
        "localhost", 8443, "hc1", connection_id="7", suffix="/my file", query="a=1&a=%20"
    )

    assert url == (
        "wss://localhost:8443/$hc/hc1/my%20file?a=1&a=%20&sb-hc-action=connect&sb-hc-id=7"
    )


@given(suffix=st.text(st.characters(codec="utf-8"), min_size=1), query=visible)
def test_a_connect_url_is_read_back_by_the_relay(suffix: str, query: str) -> None:
    url = address.connect_url("h", 443, "hc1", connection_id="7", suffix=suffix, query=query)

    with contextlib.suppress(MalformedAddress):
        target = parse_target(address.parse_url(url).target)
        assert target.segments[0] == "hc1"
        assert target.action is Action.CONNECT


def test_a_url_says_where_to_dial() -> None:
    dial = address.parse_url("wss://G12-Prod.servicebus.windows.net/$hc/hc1?x=1")

    assert (dial.host, dial.port, dial.target) == (
        "g12-prod.servicebus.windows.net",
        443,
        "/$hc/hc1?x=1",
    )
    assert "x=1" not in repr(dial)
    assert address.parse_url("https://[::1]:8443").target == "/"
    assert address.parse_url("https://h?x=1").target == "/?x=1"


@pytest.mark.parametrize(
    "url",
    [
        "", "ws://h/", "http://h/", "h/", "wss://", "wss:///$hc/hc1", "wss://user@h/", "wss://h:x/",
        "wss://h:65536/", "wss://h/#x", "wss://h/ x", "wss://h/\r\nX: y", "wss://ø/", "wss://[::1/",
        "wss://[1.2]/", "wss://h\\@evil/",
    ],
)  # fmt: skip
def test_a_url_that_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(MalformedAddress):
        address.parse_url(url)


@given(st.text() | visible.map("wss://".__add__))
def test_hostile_urls_are_read_or_refused(url: str) -> None:
    with contextlib.suppress(MalformedAddress):
        dial = address.parse_url(url)
        assert dial.host
        assert 0 <= dial.port <= 65_535
        assert dial.target.startswith("/")


# --- Hosts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("Localhost", "localhost", None),
        ("ns1.example.test:8443", "ns1.example.test", 8443),
        ("127.0.0.1:443", "127.0.0.1", 443),
        ("[::1]", "::1", None),
        ("[FD00::1]:8443", "fd00::1", 8443),
        ("h:", "h", None),
    ],
)
def test_a_host_header_is_read(text: str, host: str, port: int | None) -> None:
    assert address.split_authority(text) == (host, port)


@pytest.mark.parametrize("text", ["", ":443", "a b", "h:1:2", "::1", "[]", "[x]", "h:-1", "h/x"])
def test_what_is_no_host_header_is_refused(text: str) -> None:
    with pytest.raises(MalformedAddress):
        address.split_authority(text)


@pytest.mark.parametrize(
    ("address_host", "namespace_host"),
    [
        ("ns1.example.test", "NS1.example.test"),
        ("g12-prod-xx-010-sb.servicebus.windows.net", "ns1.servicebus.windows.net"),
        ("a.b.servicebus.windows.net", "ns1.servicebus.windows.net"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_an_address_of_the_namespace_or_beside_it_is_followed(
    address_host: str, namespace_host: str
) -> None:
    assert address.may_follow(address_host, namespace_host)


@pytest.mark.parametrize(
    ("address_host", "namespace_host"),
    [
        ("evil.test", "ns1.servicebus.windows.net"),
        ("servicebus.windows.net", "ns1.servicebus.windows.net"),
        ("evilservicebus.windows.net", "ns1.servicebus.windows.net"),
        ("ns1.servicebus.windows.net.evil.test", "ns1.servicebus.windows.net"),
        ("other.test", "ns1.test"),
        ("db.localhost", "localhost"),
        ("10.0.0.5", "10.0.0.4"),
        ("169.254.169.254", "ns1.servicebus.windows.net"),
        ("::1", "fd00::1"),
        ("", "ns1.servicebus.windows.net"),
    ],
)
def test_an_address_elsewhere_is_not_followed(address_host: str, namespace_host: str) -> None:
    assert not address.may_follow(address_host, namespace_host)
