from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol

from hybridge.protocol.errors import ProtocolViolation
from hybridge.protocol.forwarder import MAX_FORWARDED_FRAME_BYTES, Forwarder
from hybridge.protocol.frame_parser import MAX_PENDING_PINGS
from hybridge.protocol.frames import (
    MAX_CONTROL_PAYLOAD_BYTES,
    MAX_HEADER_BYTES,
    Close,
    Opcode,
    close_payload,
    control_frame,
    header,
    mask_frame,
    parse_close,
)
from hybridge.protocol.payload_reader import MessageReader, PayloadReader
from tests.support.raw import frame

Message = tuple[Opcode, tuple[bytes, ...]]
"""A data message as the payloads of its frames, or a ping or pong of one."""

_messages = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from([Opcode.TEXT, Opcode.BINARY]),
            st.lists(st.binary(max_size=300), min_size=1, max_size=4).map(tuple),
        ),
        st.tuples(
            st.sampled_from([Opcode.PING, Opcode.PONG]),
            st.binary(max_size=125).map(lambda payload: (payload,)),
        ),
    ),
    max_size=8,
)
_keys = st.lists(st.binary(min_size=4, max_size=4), min_size=1, max_size=5)
_cuts = st.lists(st.integers(0, 4_000), max_size=30)


def _wire(messages: list[Message], keys: list[bytes] | None) -> bytes:
    """Write messages as frames; ``keys`` are used in turn, None is unmasked."""
    turn = itertools.cycle(keys or [b""])
    stream = b""
    for opcode, payloads in messages:
        for index, payload in enumerate(payloads):
            stream += frame(
                opcode if index == 0 else Opcode.CONTINUATION,
                payload,
                fin=index == len(payloads) - 1,
                mask=next(turn) or None,
            )
    return stream


def _pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    return [stream[start:end] for start, end in itertools.pairwise(places)]


def _room(data: bytes) -> tuple[memoryview, int, int]:
    """Put data behind the room that a parser may overwrite."""
    return (
        memoryview(bytearray(bytes(MAX_HEADER_BYTES) + data)),
        MAX_HEADER_BYTES,
        MAX_HEADER_BYTES + len(data),
    )


def _forward(pieces: list[bytes]) -> tuple[bytes, list[bytes], Close | None]:
    forwarder = Forwarder()
    out, pings = b"", []
    for piece in pieces:
        out += b"".join(forwarder.feed(*_room(piece)))
        pings += forwarder.pings
    return out, pings, forwarder.close


def _read(pieces: list[bytes]) -> tuple[bytes, list[bytes], Close | None]:
    reader = PayloadReader()
    out, pings = b"", []
    for piece in pieces:
        buffer, start, end = _room(piece)
        out += b"".join(bytes(buffer[a:b]) for a, b in reader.feed(buffer, start, end))
        pings += reader.pings
    return out, pings, reader.close


def _decoded(stream: bytes) -> list[tuple[int, bytes]]:
    """Decode server frames with somebody else's parser; give whole data messages."""
    protocol = FrameProtocol(client=True, extensions=[])
    protocol.receive_bytes(stream)
    messages: list[tuple[int, bytes]] = []
    opcode, content = 0, b""
    for each in protocol.received_frames():
        assert not isinstance(each.payload, str | tuple)
        payload = bytes(each.payload)
        opcode, content = opcode or int(each.opcode), content + payload
        if each.message_finished:
            messages.append((opcode, content))
            opcode, content = 0, b""
    assert not opcode
    return messages


def _headers(stream: bytes) -> list[tuple[int, int]]:
    """List first byte and length of every unmasked frame."""
    found, at = [], 0
    while at < len(stream):
        length, size = stream[at + 1], 2
        assert length < 128
        if length >= 126:
            size = 4 if length == 126 else 10
            length = int.from_bytes(stream[at + 2 : at + size], "big")
        found.append((stream[at], length))
        at += size + length
    assert at == len(stream)
    return found


# --- any cut -------------------------------------------------------------------------------------


@given(_messages, _keys, _cuts)
def test_wherever_masked_frames_are_cut_the_same_messages_and_pings_come_out(
    messages: list[Message], keys: list[bytes], cuts: list[int]
) -> None:
    stream = _wire(messages, keys)

    out, pings, _ = _forward(_pieces(stream, cuts))

    data = [(op, b"".join(parts)) for op, parts in messages if op < Opcode.CLOSE]
    # wsproto wants text to be text, the relay does not look: compared as binary.
    assert _decoded(_as_binary(out)) == [(Opcode.BINARY, content) for _, content in data]
    kinds = [first & 0x0F for first, _ in _headers(out) if first & 0x0F]
    assert kinds == [op for op, _ in data]
    assert pings == [parts[0] for op, parts in messages if op is Opcode.PING]


def _as_binary(stream: bytes) -> bytes:
    changed, at = bytearray(stream), 0
    for first, length in _headers(stream):
        if first & 0x0F == Opcode.TEXT:
            changed[at] = first & 0xF0 | Opcode.BINARY
        at += (2 if length < 126 else 4 if length < 65_536 else 10) + length
    return bytes(changed)


@given(_messages, _cuts)
def test_wherever_unmasked_frames_are_cut_the_same_payload_comes_out(
    messages: list[Message], cuts: list[int]
) -> None:
    stream = _wire(messages, None)

    out, pings, _ = _read(_pieces(stream, cuts))

    assert out == b"".join(b"".join(parts) for op, parts in messages if op < Opcode.CLOSE)
    assert pings == [parts[0] for op, parts in messages if op is Opcode.PING]


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536])
def test_a_stream_of_each_header_form_can_be_cut_at_every_byte_of_its_headers(length: int) -> None:
    stream = frame(Opcode.BINARY, bytes(length)) * 2 + frame(Opcode.CLOSE, b"\x03\xe8bye")
    whole = _forward([stream])
    near_headers = [*range(1, 40), *range(length, min(length + 60, len(stream)))]

    for cut in near_headers:
        assert _forward([stream[:cut], stream[cut:]]) == whole, cut

    assert whole[2] == Close(1000, "bye", b"\x03\xe8bye")


def test_single_bytes_are_enough() -> None:
    stream = _wire([(Opcode.BINARY, (b"a" * 200, b"b")), (Opcode.BINARY, (b"",))], [b"wxyz"])

    out, _, _ = _forward([bytes((byte,)) for byte in stream])

    assert _decoded(out) == [(Opcode.BINARY, b"a" * 200 + b"b"), (Opcode.BINARY, b"")]


# --- forwarding ----------------------------------------------------------------------------------


@pytest.mark.clause(80)
@pytest.mark.parametrize("length", [65_535, 65_536, 65_537, 131_072, 131_073, 1_048_576])
@pytest.mark.parametrize("step", [1_000, 65_528, 262_112])
def test_a_longer_frame_becomes_several_of_at_most_64_kib(length: int, step: int) -> None:
    content = bytes(range(251)) * (length // 251 + 1)
    stream = frame(Opcode.TEXT, content[:length])

    out, _, _ = _forward([stream[at : at + step] for at in range(0, len(stream), step)])

    shapes = _headers(out)
    assert max(size for _, size in shapes) <= MAX_FORWARDED_FRAME_BYTES
    assert shapes[0][0] & 0x0F == Opcode.TEXT
    assert {first & 0x0F for first, _ in shapes[1:]} <= {Opcode.CONTINUATION}
    assert [bool(first & 0x80) for first, _ in shapes] == [False] * (len(shapes) - 1) + [True]
    assert len(shapes) == -(-length // MAX_FORWARDED_FRAME_BYTES)
    assert b"".join(_payloads(out)) == content[:length]


def _payloads(stream: bytes) -> list[bytes]:
    payloads, at = [], 0
    for _, length in _headers(stream):
        at += 2 if length < 126 else 4 if length < 65_536 else 10
        payloads.append(stream[at : at + length])
        at += length
    return payloads


@pytest.mark.clause(81)
def test_the_beginning_of_a_frame_is_forwarded_before_its_end_has_come() -> None:
    stream = frame(Opcode.BINARY, b"0123456789")
    forwarder = Forwarder()

    first = forwarder.feed(*_room(stream[:9]))
    is_between = forwarder.is_between_frames
    second = forwarder.feed(*_room(stream[9:]))

    assert b"".join(first) == b"\x82\x0a012"
    assert not is_between
    assert b"".join(second) == b"3456789"
    assert forwarder.is_between_frames


def test_between_the_frames_of_a_message_a_control_frame_may_go() -> None:
    forwarder = Forwarder()

    forwarder.feed(*_room(frame(Opcode.BINARY, b"first", fin=False)))

    assert forwarder.is_between_frames


@pytest.mark.clause(78)
def test_empty_messages_and_empty_fragments_stay() -> None:
    stream = (
        frame(Opcode.TEXT)
        + frame(Opcode.BINARY, b"", fin=False)
        + frame(Opcode.CONTINUATION, b"x", fin=False)
        + frame(Opcode.CONTINUATION, b"")
    )

    assert _forward([stream])[0] == b"\x81\x00" + b"\x02\x00" + b"\x00\x01x" + b"\x80\x00"


def test_payload_bytes_are_counted_without_headers_and_control_frames() -> None:
    forwarder = Forwarder()

    forwarder.feed(*_room(frame(Opcode.BINARY, b"12345") + frame(Opcode.PING, b"678")))

    assert forwarder.payload_bytes == 5


def test_what_follows_a_close_is_ignored() -> None:
    stream = frame(Opcode.CLOSE, b"\x03\xe9") + frame(Opcode.BINARY, b"late") + b"\xff\xff"

    out, _, close = _forward([stream, b"\xff\xff"])

    assert out == b""
    assert close == Close(1001, "", b"\x03\xe9")


def test_of_a_flood_of_pings_the_first_ones_and_the_last_are_kept() -> None:
    flood = [str(number).encode() for number in range(MAX_PENDING_PINGS + 5)]

    _, pings, _ = _forward([b"".join(frame(Opcode.PING, each) for each in flood)])

    assert pings == [*flood[: MAX_PENDING_PINGS - 1], flood[-1]]


# --- our own frames ------------------------------------------------------------------------------


@given(st.binary(max_size=1_000), st.binary(min_size=4, max_size=4), st.booleans())
def test_a_masked_frame_is_read_by_somebody_else_as_it_was_meant(
    payload: bytes, key: bytes, fin: bool
) -> None:
    buffer, start, end = _room(payload)

    wire = mask_frame(buffer, start, end, mask_key=key, fin=fin)

    assert wire == frame(Opcode.BINARY, payload, fin=fin, mask=key)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_528, 65_535, 65_536, 200_000])
def test_masking_and_forwarding_give_the_payload_back(size: int) -> None:
    payload = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    buffer, start, end = _room(payload)

    wire = mask_frame(buffer, start, end, mask_key=b"\xde\xad\xbe\xef")

    assert b"".join(_payloads(_forward([wire])[0])) == payload


@pytest.mark.parametrize(
    ("length", "size"), [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10), (2**40, 10)]
)
def test_a_length_is_written_in_its_shortest_form(length: int, size: int) -> None:
    assert len(header(Opcode.BINARY, length)) == size
    assert len(header(Opcode.BINARY, length, mask_key=b"abcd")) == size + 4 <= MAX_HEADER_BYTES


def test_a_control_frame_has_a_limit() -> None:
    longest = bytes(MAX_CONTROL_PAYLOAD_BYTES)

    assert control_frame(Opcode.PING, longest) == frame(Opcode.PING, longest, mask=None)
    assert control_frame(Opcode.PING, b"abc", mask_key=b"1234") == frame(
        Opcode.PING, b"abc", mask=b"1234"
    )
    with pytest.raises(ValueError, match="at most 125 bytes"):
        control_frame(Opcode.PING, longest + b"x")


@given(st.text(max_size=200))
def test_the_reason_of_a_close_always_fits_and_stays_utf_8(reason: str) -> None:
    close = parse_close(close_payload(1000, reason.encode("utf-8", "replace").decode()))

    assert len(close.payload) <= MAX_CONTROL_PAYLOAD_BYTES
    assert close.code == 1000


# --- hostile input -------------------------------------------------------------------------------


@given(st.binary(max_size=200), _cuts, st.booleans())
def test_hostile_bytes_raise_nothing_but_a_protocol_violation(
    data: bytes, cuts: list[int], masked: bool
) -> None:
    parser: Forwarder | PayloadReader = Forwarder() if masked else PayloadReader()
    try:
        for piece in _pieces(data, cuts):
            parser.feed(*_room(piece))
    except ProtocolViolation as error:
        assert str(error)  # noqa: PT017 - it may be raised, and need not


_BAD_FRAMES = {
    "a reserved bit": b"\xc2\x80\0\0\0\0",
    "another reserved bit": b"\x92\x80\0\0\0\0",
    "no mask": frame(2, b"plain", mask=None),
    "reserved data opcode": frame(3, b""),
    "reserved control opcode": frame(11, b""),
    "a fragmented ping": frame(9, b"", fin=False),
    "a long ping": frame(9, bytes(126)),
    "a long Close": frame(8, b"\x03\xe8" + bytes(124)),
    "a continuation of nothing": frame(0, b"x"),
    "a message within a message": frame(1, b"x", fin=False) + frame(1, b"y"),
    "half a close code": frame(8, b"\x03"),
    "a close code that is never sent": frame(8, b"\x03\xed"),
    "a close code out of range": frame(8, b"\x03\xe7"),
    "a reason that is not UTF-8": frame(8, b"\x03\xe8\xff"),
    "a length of 2 ** 63": b"\x82\xff" + b"\x80" + bytes(7) + bytes(4),
}


@pytest.mark.parametrize("data", _BAD_FRAMES.values(), ids=_BAD_FRAMES.keys())
def test_a_frame_against_the_rules_is_a_violation_wherever_it_is_cut(data: bytes) -> None:
    for cut in range(len(data)):
        with pytest.raises(ProtocolViolation):
            _forward([data[:cut], data[cut:]])


def test_a_masked_frame_from_a_relay_is_a_violation() -> None:
    with pytest.raises(ProtocolViolation, match="masked"):
        _read([frame(2, b"x")])


def test_a_violation_is_seen_in_the_first_two_bytes() -> None:
    with pytest.raises(ProtocolViolation):
        _forward([b"\x82\x05"])


@settings(max_examples=50)
@given(
    messages=st.lists(
        st.tuples(st.booleans(), st.lists(st.binary(max_size=300), min_size=1, max_size=4)),
        max_size=5,
    ),
    cuts=st.lists(st.integers(min_value=1, max_value=50), min_size=1),
)
def test_messages_are_found_wherever_the_stream_was_cut(
    messages: list[tuple[bool, list[bytes]]], cuts: list[int]
) -> None:
    stream = b""
    for is_text, fragments in messages:
        for number, payload in enumerate(fragments):
            opcode = (Opcode.TEXT if is_text else Opcode.BINARY) if not number else 0
            is_last = number == len(fragments) - 1
            stream += header(opcode, len(payload), fin=is_last) + payload
    reader = MessageReader()
    found: list[tuple[bool, bytes]] = []
    open_message = b""
    for size in itertools.cycle(cuts):
        piece, stream = stream[:size], stream[size:]
        if not piece:
            break
        room, start, end = _room(piece)
        reader.feed(room, start, end)
        for each in reader.pieces:
            open_message += bytes(room[each.start : each.end])
            if each.is_last:
                found.append((each.is_text, open_message))
                open_message = b""

    assert found == [(is_text, b"".join(fragments)) for is_text, fragments in messages]
