from __future__ import annotations

import http.client
import io

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.request_head import parse_head
from relay.response_writer import ResponseWriter
from tests.support.wire import http_request

NOW = 1_767_225_600
DATE = b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
TOKEN = "!#$%&'*+-.^_`|~09azAZ"

payloads = st.lists(st.binary(max_size=40), max_size=8)
statuses = st.integers(200, 999)
any_text = st.text(max_size=40)


def writer(
    *headers: tuple[str, str], method: str = "GET", version: str = "HTTP/1.1"
) -> ResponseWriter:
    raw = http_request("/hc1", "localhost", *headers, method=method)
    return ResponseWriter(parse_head(raw.replace(b"HTTP/1.1", version.encode(), 1)))


def write(
    to: ResponseWriter,
    status: int = 200,
    *pieces: bytes | memoryview,
    length: int | None = None,
    reason: str | None = None,
    headers: list[tuple[str, str]] | None = None,
) -> bytes:
    whole = to.start(status, reason, headers or [], body_length=length, now=NOW)
    return whole + b"".join(map(to.data, pieces)) + to.end()


def read_by_h11(data: bytes, *, method: str = "GET") -> tuple[h11.Response, bytes, bytes]:
    """Give the head, the body, and what comes behind it."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "localhost")]))
    client.receive_data(data)
    head = client.next_event()
    assert isinstance(head, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    if event is h11.NEED_DATA:
        client.receive_data(b"")
        event = client.next_event()
    assert isinstance(event, h11.EndOfMessage)
    return head, body, client.trailing_data[0]


class _Socket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def read_by_http_client(data: bytes, *, method: str = "GET") -> tuple[int, str, bytes]:
    answer = http.client.HTTPResponse(_Socket(data), method=method)  # type: ignore[arg-type]  # all of a socket that it uses
    answer.begin()
    return answer.status, answer.reason, answer.read()


# --- Framing -------------------------------------------------------------------------------------


def test_a_body_of_a_known_length_is_written_as_it_is() -> None:
    to = writer()

    assert write(to, 200, b"he", b"", memoryview(b"llo"), length=5) == (
        b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 5\r\n\r\nhello"
    )
    assert to.keeps_alive


def test_a_body_of_an_unknown_length_is_chunked_and_an_empty_piece_is_not_its_end() -> None:
    to = writer()

    assert write(to, 200, b"hello", b"", b"0123456789", length=None) == (
        b"HTTP/1.1 200 OK\r\n"
        + DATE
        + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\na\r\n0123456789\r\n0\r\n\r\n"
    )
    assert to.keeps_alive


def test_a_sender_of_http_1_0_gets_no_chunks_but_the_end_of_the_connection() -> None:
    to = writer(version="HTTP/1.0")

    assert write(to, 200, b"hello", b"there", length=None) == (
        b"HTTP/1.1 200 OK\r\n" + DATE + b"Connection: close\r\n\r\nhellothere"
    )
    assert not to.keeps_alive


def test_a_sender_of_http_1_0_gets_a_length_where_it_is_known() -> None:
    written = write(writer(version="HTTP/1.0"), 200, b"hello", length=5)

    assert b"Content-Length: 5\r\nConnection: close\r\n\r\nhello" in written


@pytest.mark.parametrize(
    ("method", "status", "length", "framing"),
    [
        ("HEAD", 200, 5, b"Content-Length: 5\r\n"),
        ("HEAD", 200, 0, b""),
        ("HEAD", 200, None, b""),
        ("HEAD", 304, 5, b""),
        ("GET", 204, 5, b""),
        ("GET", 204, None, b""),
        ("GET", 304, 5, b""),
        ("GET", 304, 0, b""),
    ],
)
def test_head_204_and_304_have_no_body(
    method: str, status: int, length: int | None, framing: bytes
) -> None:
    to = writer(method=method)

    written = write(to, status, b"hello" if length != 0 else b"", length=length, reason="x")

    assert written == b"HTTP/1.1 %d x\r\n" % status + DATE + framing + b"\r\n"
    assert to.keeps_alive


@pytest.mark.parametrize("status", [200, 205, 300, 305, 418, 450, 504, 999])
def test_other_statuses_without_a_body_say_that_it_is_empty(status: int) -> None:
    assert b"\r\nContent-Length: 0\r\n" in write(writer(), status, length=0)


def test_what_the_listener_says_of_framing_is_left_out() -> None:
    headers = [
        ("content-length", "7"),
        ("Transfer-Encoding", "gzip"),
        ("CONNECTION", "x"),
        ("X", "y"),
    ]

    assert write(writer(), 200, b"hello", length=5, headers=headers) == (
        b"HTTP/1.1 200 OK\r\n" + DATE + b"X: y\r\nContent-Length: 5\r\n\r\nhello"
    )


# --- The connection ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "version", "keeps_alive"),
    [
        ([], "HTTP/1.1", True),
        ([("Connection", "keep-alive")], "HTTP/1.1", True),
        ([("Connection", "Close")], "HTTP/1.1", False),
        ([("Connection", "x, close ,y")], "HTTP/1.1", False),
        ([("Connection", "x"), ("Connection", "close")], "HTTP/1.1", False),
        ([("Connection", "closed")], "HTTP/1.1", True),
        ([], "HTTP/1.0", False),
        ([("Connection", "keep-alive")], "HTTP/1.0", False),
    ],
)
def test_the_connection_is_kept_unless_the_sender_wants_otherwise(
    headers: list[tuple[str, str]], version: str, keeps_alive: bool
) -> None:
    to = writer(*headers, version=version)
    written = write(to, 200, length=0)

    assert to.keeps_alive is keeps_alive
    assert (b"\r\nConnection: close\r\n" in written) is not keeps_alive


def test_the_relay_may_decide_that_the_connection_ends() -> None:
    to = writer()
    to.keeps_alive = False

    assert b"\r\nConnection: close\r\n" in write(to, 400, length=0)
    assert not to.keeps_alive


def test_a_sender_that_waits_for_it_is_told_to_continue_once() -> None:
    to = writer(("Expect", "100-Continue"), ("Content-Length", "5"), method="POST")

    assert to.continue_() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert to.continue_() == b""


def test_no_other_sender_is_told_to_continue() -> None:
    late = writer(("Expect", "100-continue"), method="POST")
    late.start(200, None, [], body_length=0, now=NOW)

    assert late.continue_() == b""
    assert writer().continue_() == b""
    assert writer(("Expect", "100-continue"), version="HTTP/1.0").continue_() == b""


# --- What stands in the head ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "phrase"), [(200, "OK"), (201, "Created"), (404, "Not Found"), (450, ""), (999, "")]
)
def test_without_a_reason_the_standard_phrase_stands(status: int, phrase: str) -> None:
    written = write(writer(), status, length=0)

    assert written.startswith(b"HTTP/1.1 %d %b\r\n" % (status, phrase.encode()))


@pytest.mark.parametrize("reason", ["", "Own words", VISIBLE, "caf\xe9"])
def test_a_reason_is_passed_verbatim(reason: str) -> None:
    written = write(writer(), 201, length=0, reason=reason)

    assert written.startswith(b"HTTP/1.1 201 " + reason.encode("latin-1") + b"\r\n")


def test_names_and_values_are_passed_verbatim() -> None:
    written = write(writer(), 200, length=0, headers=[(TOKEN, VISIBLE), ("0", ""), ("date", "x")])

    assert written == (
        b"HTTP/1.1 200 OK\r\n"
        + f"{TOKEN}: {VISIBLE}\r\n".encode()
        + b"0: \r\ndate: x\r\nContent-Length: 0\r\n\r\n"
    )


@given(statuses, any_text, any_text, st.one_of(st.none(), st.just(0)))
def test_whatever_the_texts_there_is_one_head(
    status: int, reason: str, value: str, length: int | None
) -> None:
    to = writer()
    data = to.start(status, reason, [("X", value), ("Y", "")], body_length=length, now=NOW)

    assert data.endswith(b"\r\n\r\n")
    assert b"\r\n\r\n" not in data[:-4]
    has_body = status not in (204, 304)
    assert data.count(b"\r\n") == data.count(b"\n") == data.count(b"\r") == 5 + has_body
    assert b"\x00" not in data


@pytest.mark.parametrize("name", ["", "X Y", "X:", "X\r\nY", "X\n", "\xe4", "X\x00"])
def test_a_name_that_http_does_not_know_is_not_written(name: str) -> None:
    to = writer()
    with pytest.raises(ValueError, match="not the name of a header"):
        to.start(200, None, [(name, "x")], body_length=0, now=NOW)

    assert write(to, 502, length=0).startswith(b"HTTP/1.1 502 "), "an error may still be written"


# --- Misuse --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [-1, 0, 99, 100, 101, 199, 1_000])
def test_only_final_statuses_are_written(status: int) -> None:
    with pytest.raises(ValueError, match="final response"):
        writer().start(status, None, [], body_length=0, now=NOW)


def test_a_body_is_neither_longer_nor_shorter_than_it_said() -> None:
    to = writer()
    to.start(200, None, [], body_length=5, now=NOW)

    with pytest.raises(ValueError, match="longer"):
        to.data(b"123456")
    to.data(b"1234")
    with pytest.raises(ValueError, match="shorter"):
        to.end()


def test_a_response_begins_once_and_ends_once() -> None:
    to = writer()
    with pytest.raises(RuntimeError):
        to.data(b"x")
    with pytest.raises(RuntimeError):
        to.end()
    to.start(200, None, [], body_length=None, now=NOW)
    with pytest.raises(RuntimeError):
        to.start(200, None, [], body_length=None, now=NOW)
    to.end()
    with pytest.raises(RuntimeError):
        to.data(b"x")


# --- Other readers -------------------------------------------------------------------------------


@given(
    statuses,
    payloads,
    st.booleans(),
    st.sampled_from(["GET", "POST", "HEAD"]),
    st.sampled_from(["HTTP/1.1", "HTTP/1.0"]),
)
def test_h11_and_http_client_read_what_was_written(
    status: int, pieces: list[bytes], knows_length: bool, method: str, version: str
) -> None:
    whole = b"".join(pieces)
    to = writer(method=method, version=version)
    data = write(to, status, *pieces, length=len(whole) if knows_length else None, reason="why")
    if to.keeps_alive:
        data += b"HTTP/1.1 200 canary\r\n\r\n"

    expected = b"" if method == "HEAD" or status in (204, 304) else whole
    head, body, rest = read_by_h11(data, method=method)

    assert (head.status_code, body) == (status, expected)
    assert rest == (b"HTTP/1.1 200 canary\r\n\r\n" if to.keeps_alive else b"")
    assert read_by_http_client(data, method=method) == (status, "why", expected)
