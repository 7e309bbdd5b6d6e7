"""Frames of `hybridge.mux`, however the bytes are cut."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridge.protocol import multiplex_frames as frames
from hybridge.protocol.errors import ProtocolViolation
from hybridge.protocol.multiplex_frames import Control, FrameReader, Hello, Kind, Span

Found = tuple[Kind, int, bytes]


def read(reader: FrameReader, data: bytes, cuts: list[int]) -> list[Found]:
    """Feed ``data`` cut at ``cuts``, and join what comes of one DATA frame."""
    found: list[Found] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        for each in reader.feed(memoryview(data), start, end):
            if isinstance(each, Control):
                found.append((each.kind, each.stream, each.payload))
            else:
                found.append((Kind.DATA, each.stream, data[each.start : each.end]))
    return found


def joined(found: list[Found]) -> list[Found]:
    """Join neighbouring data of the same stream: where it was cut does not matter."""
    result: list[Found] = []
    for kind, stream, payload in found:
        if kind is Kind.DATA and result and result[-1][:2] == (kind, stream):
            payload = result.pop()[2] + payload
        result.append((kind, stream, payload))
    return result


streams = st.integers(1, frames.MAX_STREAM)
controls = st.one_of(
    st.builds(lambda s: (Kind.ACCEPT, s, b""), streams),
    st.builds(lambda s: (Kind.END, s, b""), streams),
    st.builds(lambda s: (Kind.ABORT, s, b""), streams),
    st.just((Kind.GOAWAY, 0, b"")),
    st.builds(lambda s, p: (Kind.REFUSE, s, p), streams, st.binary(max_size=1_026)),
    st.builds(lambda s, p: (Kind.OPEN, s, p), streams, st.binary(max_size=256)),
    st.builds(lambda s, p: (Kind.DATA, s, p), streams, st.binary(min_size=1, max_size=3_000)),
)


@given(st.lists(controls, max_size=20), st.lists(st.integers(0, 2**20), max_size=30))
def test_frames_are_found_however_they_are_cut(said: list[Found], cuts: list[int]) -> None:
    data = b"".join(
        frames.data_header(stream, len(payload)) + payload
        if kind is Kind.DATA
        else frames.frame(kind, stream, payload)
        for kind, stream, payload in said
    )
    reader = FrameReader()
    assert joined(read(reader, data, cuts)) == joined(said)
    assert reader.is_between_frames


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_a_violation(data: bytes) -> None:
    with contextlib.suppress(ProtocolViolation):
        FrameReader().feed(memoryview(data), 0, len(data))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x00\x00\x00\x00\x00\x00\x00\x01", "there is no frame 0/0"),
        (b"\x0b\x00\x00\x00\x00\x00\x00\x01", "there is no frame 11/0"),
        (b"\x05\x01\x00\x01\x00\x00\x00\x01", "there is no frame 5/1"),
        (b"\x05\x00\x00\x00\x00\x00\x00\x01", "DATA without data"),
        (b"\x05\x00\x00\x01\x00\x00\x00\x00", "DATA names stream 0"),
        (b"\x01\x00\x00\x09\x00\x00\x00\x01", "HELLO names stream 1"),
        (b"\x09\x00\x00\x00\x00\x00\x00\x01", "GOAWAY names stream 1"),
        (b"\x07\x00\x00\x01\x00\x00\x00\x01", "END has 1 bytes"),
        (b"\x04\x00\x04\x03\x00\x00\x00\x01", "REFUSE has 1027 bytes"),
    ],
)
def test_what_is_no_frame_is_a_violation_as_soon_as_its_header_is_there(
    data: bytes, problem: str
) -> None:
    with pytest.raises(ProtocolViolation, match=problem):
        FrameReader().feed(memoryview(data), 0, len(data))


def test_data_is_told_as_it_comes_and_not_held() -> None:
    data = frames.data_header(7, 5) + b"hello"
    reader = FrameReader()
    assert reader.feed(memoryview(data), 0, 10) == [Span(7, 8, 10)]
    assert not reader.is_between_frames
    assert reader.feed(memoryview(data), 10, 13) == [Span(7, 10, 13)]
    assert reader.is_between_frames


def test_a_hello_of_a_later_version_is_refused_by_name() -> None:
    with pytest.raises(ProtocolViolation, match="version 2, and 1 is known here"):
        Hello.parse(b"\x02" + bytes(24))


def test_a_longer_hello_is_read_and_its_rest_ignored() -> None:
    said = Hello(window=65_536, max_streams=256, secret=bytes(16))
    payload = said.serialize()[frames.HEADER_BYTES :]
    assert Hello.parse(payload + b"later") == said


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x01" + bytes(7)])
def test_a_short_hello_is_a_violation(payload: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="HELLO is too short"):
        Hello.parse(payload)


@pytest.mark.parametrize("payload", [b"", b"\x00\x00\x01", bytes(4), bytes(5)])
def test_a_credit_that_grants_nothing_is_a_violation(payload: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="CREDIT"):
        frames.parse_credit(payload)


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x00\xc8ok", b"\x02\x58", b"\x01\xf6\xff"])
def test_a_refusal_without_an_error_status_or_a_text_is_a_violation(payload: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="REFUSE"):
        frames.parse_refusal(payload)


def test_a_long_reason_is_cut_between_characters() -> None:
    sent = frames.refusal(1, 502, "é" * 2_000)
    status, reason = frames.parse_refusal(sent[frames.HEADER_BYTES :])
    assert (status, reason) == (502, "é" * 512)


@pytest.mark.parametrize("payload", [b"\xff", b"a" * 257])
def test_a_name_that_is_too_long_or_no_text_is_a_violation(payload: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="OPEN"):
        frames.parse_opening(payload)
