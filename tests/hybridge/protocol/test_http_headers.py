from __future__ import annotations

import pytest

from hybridge.protocol.http_headers import (
    connect_headers,
    request_headers_to_listener,
    response_headers_to_sender,
    token_of_http,
    token_of_websocket,
)

HANDSHAKE = [
    ("Host", "ns1.example.test"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "c2FtcGxlLWtleS0xMjM0NQ=="),
    ("Sec-WebSocket-Version", "13"),
    ("ServiceBusAuthorization", "SharedAccessSignature sr=x"),
    ("X-Mine", "a"),
    ("x-mine", "b"),
    ("0", "Sec-WebSocket-Extensions: permessage-deflate"),
]


# --- WebSocket -----------------------------------------------------------------------------------


@pytest.mark.clause(63)
def test_connect_headers_have_what_the_sdks_need() -> None:
    headers = connect_headers(HANDSHAKE)

    assert headers["Host"] == "ns1.example.test"
    assert headers["Sec-WebSocket-Key"] == "c2FtcGxlLWtleS0xMjM0NQ=="
    assert headers["Sec-WebSocket-Version"] == "13"
    assert all(isinstance(value, str) for value in headers.values())


@pytest.mark.clause(64)
def test_custom_headers_are_kept_and_joined_under_the_first_spelling() -> None:
    headers = connect_headers(HANDSHAKE)

    assert headers["X-Mine"] == "a, b"
    assert "x-mine" not in headers
    assert headers["0"] == "Sec-WebSocket-Extensions: permessage-deflate"


@pytest.mark.clause(39)
@pytest.mark.parametrize("name", ["ServiceBusAuthorization", "servicebusauthorization"])
def test_the_token_never_reaches_the_listener(name: str) -> None:
    sent = [("Host", "h"), (name, "SharedAccessSignature sr=x")]

    assert connect_headers(sent) == {"Host": "h"}
    assert request_headers_to_listener(sent, via_host="h", authorization_consumed=False) == {
        "Host": "h",
        "Via": "1.1 h",
    }


def test_authorization_is_the_listeners_own() -> None:
    sent = [("Authorization", "Bearer mine")]

    assert connect_headers(sent) == {"Authorization": "Bearer mine"}
    assert token_of_websocket(sent, {}) is None


@pytest.mark.clause(36)
def test_the_token_comes_in_the_header_or_the_parameter() -> None:
    assert token_of_websocket([("servicebusAUTHORIZATION", " t1 ")], {}) == "t1"
    assert token_of_websocket([], {"sb-hc-token": "t2"}) == "t2"


def test_for_a_websocket_the_header_wins() -> None:
    sent = [("ServiceBusAuthorization", "t1")]

    assert token_of_websocket(sent, {"sb-hc-token": "t2"}) == "t1"


def test_an_empty_token_is_none() -> None:
    assert token_of_websocket([("ServiceBusAuthorization", "")], {"sb-hc-token": ""}) is None
    assert token_of_http([("Authorization", " ")], {}, requires_auth=True) == (None, False)


def test_of_two_different_tokens_neither_is_picked() -> None:
    sent = [("ServiceBusAuthorization", "t1"), ("ServiceBusAuthorization", "t2")]

    assert token_of_websocket(sent, {}) == "t1, t2"


# --- HTTP ----------------------------------------------------------------------------------------

TOKEN = "SharedAccessSignature sr=x"


@pytest.mark.clause(37)
def test_authorization_alone_is_the_token_and_is_not_passed_on() -> None:
    sent = [("Authorization", TOKEN), ("X", "y")]

    token, consumed = token_of_http(sent, {}, requires_auth=True)
    passed = request_headers_to_listener(sent, via_host="h", authorization_consumed=consumed)

    assert token == TOKEN
    assert passed == {"X": "y", "Via": "1.1 h"}


@pytest.mark.clause(38)
@pytest.mark.parametrize(
    ("relay_header", "parameters"),
    [([("ServiceBusAuthorization", TOKEN)], {}), ([], {"sb-hc-token": TOKEN})],
)
def test_authorization_passes_if_another_token_is_present(
    relay_header: list[tuple[str, str]], parameters: dict[str, str]
) -> None:
    sent = [("Authorization", "Bearer mine"), *relay_header]

    token, consumed = token_of_http(sent, parameters, requires_auth=True)
    passed = request_headers_to_listener(sent, via_host="h", authorization_consumed=consumed)

    assert token == TOKEN
    assert passed == {"Authorization": "Bearer mine", "Via": "1.1 h"}


def test_for_http_the_parameter_wins() -> None:
    sent = [("ServiceBusAuthorization", "t1")]

    assert token_of_http(sent, {"sb-hc-token": "t2"}, requires_auth=True) == ("t2", False)


def test_without_a_need_for_a_token_authorization_is_left_alone() -> None:
    assert token_of_http([("Authorization", TOKEN)], {}, requires_auth=False) == (None, False)


@pytest.mark.clause(96)
def test_a_request_keeps_host_gets_via_and_loses_what_concerns_the_hop() -> None:
    sent = [
        ("Host", "ns1.example.test"),
        ("Connection", "keep-alive"),
        ("content-length", "3"),
        ("TE", "trailers"),
        ("Trailer", "X"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "h2c"),
        ("Close", "x"),
        ("Accept", "*/*"),
    ]

    assert request_headers_to_listener(
        sent, via_host="ns1.example.test", authorization_consumed=False
    ) == {"Host": "ns1.example.test", "Accept": "*/*", "Via": "1.1 ns1.example.test"}


@pytest.mark.clause(97)
def test_repeated_request_headers_are_joined() -> None:
    sent = [("Accept", "a"), ("X", "1"), ("accept", "b"), ("ACCEPT", "c")]

    assert request_headers_to_listener(sent, via_host="h", authorization_consumed=False) == {
        "Accept": "a, b, c",
        "X": "1",
        "Via": "1.1 h",
    }


def test_via_is_appended_to_one_that_is_there() -> None:
    sent = [("via", "1.0 proxy")]

    assert request_headers_to_listener(sent, via_host="h", authorization_consumed=False) == {
        "via": "1.0 proxy, 1.1 h"
    }


def test_header_names_and_values_survive_as_they_are() -> None:
    name = "!#$%&'*+-.^_`|~09AZaz"
    value = "".join(map(chr, range(0x20, 0x7F))).strip()

    to_listener = request_headers_to_listener(
        [(name, value)], via_host="h", authorization_consumed=False
    )
    to_sender = dict(response_headers_to_sender({name: value}, via_host="h"))

    assert to_listener[name] == value
    assert to_sender[name] == value


def test_a_response_gets_via_and_loses_its_framing() -> None:
    headers = {
        "Content-Type": "text/plain",
        "content-length": "3",
        "Transfer-Encoding": "chunked",
        "Connection": "close",
        "Set-Cookie": "a=1, b=2",
    }

    assert response_headers_to_sender(headers, via_host="h") == [
        ("Content-Type", "text/plain"),
        ("Set-Cookie", "a=1, b=2"),
        ("Via", "1.1 h"),
    ]
