from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.responses import response, switching_protocols

NOW = 1_767_225_600
ANY_TEXT = st.text(max_size=60)


def read(data: bytes, *, method: str = "GET") -> tuple[h11.Response, bytes]:
    """Read a response as a client does, with a library that has no part in writing it."""
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method=method, target="/", headers=[("Host", "localhost")]))
    http.receive_data(data)
    http.receive_data(b"")
    head = http.next_event()
    assert isinstance(head, h11.Response)
    body = b""
    while isinstance(event := http.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    return head, body


def test_a_response_is_whole_and_ends_the_connection() -> None:
    data = response(404, "Not here.", [("Content-Type", "text/plain")], b"body", now=NOW)

    assert data == (
        b"HTTP/1.1 404 Not here.\r\n"
        b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
        b"Content-Length: 4\r\n"
        b"Connection: close\r\n"
        b"Content-Type: text/plain\r\n"
        b"\r\n"
        b"body"
    )


def test_an_answer_to_head_says_how_long_the_body_would_be_and_has_none() -> None:
    head, body = read(response(200, "OK", body=b"12345", now=NOW, is_head=True), method="HEAD")

    assert dict(head.headers)[b"content-length"] == b"5"
    assert body == b""


@pytest.mark.parametrize("status", [300, 418, 450, 599, 777, 999])
def test_a_status_need_not_be_registered(status: int) -> None:
    assert response(status, "Own words", now=NOW).startswith(b"HTTP/1.1 %d Own words\r\n" % status)


@pytest.mark.parametrize(
    ("reason", "written"),
    [
        ("caf\xe9", b"caf\xe9"),
        ("\u20ac 5", "\u20ac 5".encode()),
        ("lone \ud800 half", b"lone ? half"),
        ("one\r\nSet-Cookie: a=b", b"one  Set-Cookie: a=b"),
        ("tab\tand\x00null\x7f", b"tab and null "),
        ("", b""),
    ],
)
def test_a_reason_is_safe_in_a_status_line(reason: str, written: bytes) -> None:
    assert response(400, reason, now=NOW).partition(b"\r\n")[0] == b"HTTP/1.1 400 " + written


@given(st.integers(200, 999), ANY_TEXT, ANY_TEXT, st.binary(max_size=50))
def test_whatever_it_is_made_of_a_response_has_one_head_and_its_body(
    status: int, reason: str, value: str, body: bytes
) -> None:
    data = response(status, reason, [("X", value)], body, now=NOW)

    lines, _, rest = data.partition(b"\r\n\r\n")
    assert rest == body
    assert lines.count(b"\r\n") == lines.count(b"\n") == lines.count(b"\r") == 4


@pytest.mark.clause(42)
def test_a_101_has_each_header_once_and_no_extension() -> None:
    accept = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", "x")]

    assert switching_protocols(accept, tracking_id="id_G1") == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: x\r\n"
        b"TrackingId: id_G1\r\n"
        b"\r\n"
    )


def test_a_101_names_a_subprotocol_only_where_there_is_one() -> None:
    name = b"Sec-WebSocket-Protocol: "

    assert name not in switching_protocols([], tracking_id="id", subprotocol=None)
    assert name + b"wamp\r\n" in switching_protocols([], tracking_id="id", subprotocol="wamp")


@given(ANY_TEXT)
def test_whatever_the_subprotocol_a_101_is_one_head(subprotocol: str) -> None:
    data = switching_protocols([], tracking_id="id", subprotocol=subprotocol)

    assert data.endswith(b"\r\n\r\n")
    assert data.count(b"\n") == data.count(b"\r") == data.count(b"\r\n") == 4
