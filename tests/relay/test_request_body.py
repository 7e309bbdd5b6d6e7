from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridge.protocol.errors import MalformedRequest
from relay.request_body import MAX_CHUNK_LINE_BYTES, MAX_TRAILER_BYTES, BodyReader
from relay.request_head import parse_head
from tests.support.wire import http_request

CHUNKED = http_request("/hc1", "localhost", ("Transfer-Encoding", "chunked"), method="POST")
NEXT = b"GET /canary HTTP/1.1\r\n"

chunks = st.lists(st.binary(min_size=1, max_size=40), max_size=8)
# Pieces of which hostile bodies are made, and noise between them.
fragments = st.one_of(
    st.sampled_from(
        [
            b"\r\n",
            b"\r",
            b"\n",
            b"0",
            b"5",
            b"a",
            b"hello",
            b";",
            b";a=b",
            b'"',
            b" ",
            b"X: y",
            b"+",
        ]
    ),
    st.binary(max_size=3),
)


def with_length(length: int) -> BodyReader:
    raw = http_request("/hc1", "localhost", ("Content-Length", str(length)), method="POST")
    return BodyReader(parse_head(raw))


def chunked() -> BodyReader:
    return BodyReader(parse_head(CHUNKED))


def framed(*payloads: bytes, trailers: bytes = b"") -> bytes:
    whole = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in payloads)
    return whole + b"0\r\n" + trailers + b"\r\n"


def read(reader: BodyReader, *pieces: bytes) -> bytes:
    return b"".join(b"".join(reader.feed(memoryview(piece))) for piece in pieces)


def verdict(reader: BodyReader, *pieces: bytes) -> tuple[object, ...]:
    """What comes of it: the payload, whether it is complete, and what is left; or the refusal."""
    try:
        payload = read(reader, *pieces)
    except MalformedRequest as error:
        return (error.status, str(error))
    return payload, reader.is_done, reader.rest


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(at)]


# --- No body, and a body with a length -----------------------------------------------------------


@pytest.mark.parametrize("headers", [(), (("Content-Length", "0"),)])
def test_a_request_without_a_body_is_done_at_once(headers: tuple[tuple[str, str], ...]) -> None:
    reader = BodyReader(parse_head(http_request("/hc1", "localhost", *headers)))

    assert (reader.length, reader.is_done, reader.rest) == (0, True, b"")
    assert reader.feed(NEXT) == []
    assert reader.rest == NEXT


def test_a_body_with_a_length_ends_there_and_the_next_request_is_left() -> None:
    reader = with_length(5)

    assert (reader.length, reader.is_done) == (5, False)
    assert read(reader, b"he", b"", b"llo" + NEXT) == b"hello"
    assert (reader.is_done, reader.rest) == (True, NEXT)


def test_a_large_body_is_handed_on_as_it_comes_and_nothing_is_held() -> None:
    reader = with_length(10**17)

    for _ in range(3):
        assert reader.feed(bytes(262_144)) == [bytes(262_144)]
    assert not reader.is_done


# --- Chunks --------------------------------------------------------------------------------------


def test_a_chunked_body_is_read_chunk_by_chunk() -> None:
    reader = chunked()

    assert reader.length is None
    assert reader.feed(framed(b"one", b"two") + NEXT) == [b"one", b"two"]
    assert (reader.is_done, reader.rest) == (True, NEXT)


def test_a_chunked_body_may_be_empty_and_is_no_missing_body() -> None:
    reader = chunked()

    assert reader.feed(framed()) == []
    assert reader.is_done
    assert reader.length is None


@given(
    st.one_of(chunks.map(lambda each: framed(*each) + NEXT), st.lists(fragments).map(b"".join)),
    st.lists(st.integers(0, 10_000), max_size=12),
)
def test_however_the_bytes_are_split_the_verdict_is_the_same(data: bytes, cuts: list[int]) -> None:
    assert verdict(chunked(), *split(data, cuts)) == verdict(chunked(), data)


@given(st.binary(max_size=60), st.integers(0, 50), st.lists(st.integers(0, 60), max_size=5))
def test_however_a_body_with_a_length_is_split_it_is_the_same(
    data: bytes, length: int, cuts: list[int]
) -> None:
    result = verdict(with_length(length), *split(data, cuts))

    assert result == (data[:length], len(data) >= length, data[length:])


@given(chunks, st.lists(st.integers(0, 1_000), max_size=8))
def test_what_is_chunked_comes_back(payloads: list[bytes], cuts: list[int]) -> None:
    result = verdict(chunked(), *split(framed(*payloads) + NEXT, cuts))

    assert result == (b"".join(payloads), True, NEXT)


@pytest.mark.parametrize(
    ("data", "payload"),
    [
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"00005\r\nhello\r\n000\r\n\r\n", b"hello"),
        (b"5;a\r\nhello\r\n0;b=c\r\n\r\n", b"hello"),
        (b'5;a="b;\\"c\t";d=e\r\nhello\r\n0\r\n\r\n', b"hello"),
        (b"5\r\nhello\r\n0\r\nX-Sum: abc\r\nY:\r\n\r\n", b"hello"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
    ],
    ids=["upper case", "zeros", "extension", "quoted extension", "trailers", "CR LF as payload"],
)
def test_what_is_exact_is_read_whatever_its_form(data: bytes, payload: bytes) -> None:
    assert verdict(chunked(), data) == (payload, True, b"")
    assert verdict(chunked(), *(data[at : at + 1] for at in range(len(data)))) == (
        payload,
        True,
        b"",
    )


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\n",
        b"5_0\r\n",
        b" 5\r\nhello",
        b"5 \r\nhello",
        b"5\t\r\nhello",
        b"5\nhello\r\n",
        b"5\rhello\r\n",
        b"5\r\r\nhello",
        b"g\r\n",
        b"\xef\xbc\x95\r\n",
        b"1" * 16,
        b"5 ;a\r\nhello",
        b"5;\r\nhello",
        b"5; a\r\nhello",
        b"5;a =b\r\nhello",
        b"5;a=\r\nhello",
        b'5;a="b\r\nhello',
        b"5;a\nhello",
        b"5;a\r5\r\nhello",
        b"5;a\x00\r\nhello",
        b"5;\xe4\r\nhello",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"0\r\nX y\r\n\r\n",
        b"0\r\nX : y\r\n\r\n",
        b"0\r\nX: y\n\r\n",
        b"0\r\nX: a\rb\r\n\r\n",
        b"0\r\nX: a\x00b\r\n\r\n",
        b"0\r\n X: folded\r\n\r\n",
        b"0\r\n: y\r\n\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"0\r\nTRANSFER-ENCODING: chunked\r\n\r\n",
        b"0\r\nHost: other\r\n\r\n",
        b"0\r\n\n",
        b"0\r\n\rX",
    ],
)
def test_what_is_not_exact_is_refused_before_another_byte_is_waited_for(data: bytes) -> None:
    with pytest.raises(MalformedRequest) as refused:
        read(chunked(), data)
    assert refused.value.status == 400
    with pytest.raises(MalformedRequest):
        read(chunked(), *(data[at : at + 1] for at in range(len(data))))


@pytest.mark.parametrize(
    "data", [b"", b"5", b"5\r", b"5\r\nhell", b"5\r\nhello", b"0\r\n", b"5;a="]
)
def test_a_body_that_stops_early_is_not_complete(data: bytes) -> None:
    reader = chunked()
    read(reader, data)

    assert not reader.is_done


# --- Limits --------------------------------------------------------------------------------------


def test_a_chunk_is_as_large_as_15_digits_say() -> None:
    read(chunked(), b"f" * 15 + b"\r\n" + bytes(1_000))

    with pytest.raises(MalformedRequest):
        read(chunked(), b"f" * 16 + b"\r\n")


@pytest.mark.parametrize("step", [1, 100, 10_000])
def test_a_chunk_line_has_a_limit(step: int) -> None:
    longest = b"5;" + b"a" * (MAX_CHUNK_LINE_BYTES - 4) + b"\r\n"
    assert len(longest) == MAX_CHUNK_LINE_BYTES == 256
    body = longest + b"hello\r\n" + framed()
    assert verdict(chunked(), *split(body, list(range(0, len(body), step))))[0] == b"hello"

    body = longest.replace(b";", b";a")
    with pytest.raises(MalformedRequest, match="longer than 256 bytes"):
        read(chunked(), *split(body, list(range(0, len(body), step))))


@pytest.mark.parametrize("step", [1, 1_000, 100_000])
def test_trailers_have_a_limit(step: int) -> None:
    most = b"X: y\r\n" + b"Y: " + b"z" * (MAX_TRAILER_BYTES - 11) + b"\r\n"
    assert len(most) == MAX_TRAILER_BYTES == 8_192
    body = framed(b"hello", trailers=most)
    assert verdict(chunked(), *split(body, list(range(0, len(body), step))))[0] == b"hello"

    body = framed(b"hello", trailers=most.replace(b"Y:", b"YY:"))
    with pytest.raises(MalformedRequest, match="longer than 8192 bytes"):
        read(chunked(), *split(body, list(range(0, len(body), step))))


def test_a_trailer_line_without_an_end_is_not_held() -> None:
    reader = chunked()
    with pytest.raises(MalformedRequest, match="longer than 8192 bytes"):
        read(reader, b"0\r\n", *[b"x" * 1_000] * 9)


# --- Another reader ------------------------------------------------------------------------------


def h11_verdict(data: bytes) -> tuple[bytes, bool, bytes] | None:
    http = h11.Connection(h11.SERVER)
    http.receive_data(CHUNKED + data)
    assert isinstance(http.next_event(), h11.Request)
    payload = b""
    try:
        while isinstance(event := http.next_event(), h11.Data):
            payload += event.data
    except h11.RemoteProtocolError:
        return None
    return payload, isinstance(event, h11.EndOfMessage), http.trailing_data[0]


@given(st.lists(st.one_of(fragments, chunks.map(lambda each: framed(*each)))).map(b"".join))
def test_what_is_read_here_h11_reads_no_other_way(data: bytes) -> None:
    # It takes more than we do. What we take, it takes, with the same payload, end and remainder.
    ours = verdict(chunked(), data)

    if ours[0] != 400 and ours[1]:
        assert h11_verdict(data) == ours
