"""azbridge's preamble, port names and datagrams, without a network (section 10)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridge.protocol.azbridge import (
    MAX_DATAGRAM_BYTES,
    MAX_PORT_NAME_BYTES,
    DatagramReader,
    ListenerPreamble,
    Mode,
    PortRefused,
    SenderPreamble,
    check_port_name,
    choose_port,
    datagram_header,
    default_port_name,
    is_number,
)
from hybridge.protocol.errors import InvalidSetting

PORTS = {"test": Mode.STREAM, "161U": Mode.DATAGRAM}
names = st.text(min_size=1, max_size=20)
modes = st.sampled_from(Mode)


@st.composite
def cut(draw: st.DrawFn, content: bytes) -> list[bytes]:
    """The same bytes in pieces, empty ones among them."""
    at = sorted(draw(st.lists(st.integers(0, len(content)), max_size=6)))
    return [content[a:b] for a, b in zip([0, *at], [*at, len(content)], strict=True)]


def feed(preamble: ListenerPreamble | SenderPreamble, pieces: list[bytes]) -> bytes:
    """Feed as a stream does; give what was left over."""
    rest = b""
    for piece in pieces:
        rest += piece if preamble.is_complete else piece[preamble.feed(piece) :]
    return rest


# --- the preamble --------------------------------------------------------------------------------


@pytest.mark.clause(129)
def test_the_example_of_the_protocol_byte_for_byte() -> None:
    sender, listener = SenderPreamble("test", Mode.STREAM), ListenerPreamble(PORTS)

    assert sender.messages == (b"\x01\x00\x00\x04", b"test")
    assert feed(listener, list(sender.messages)) == b""
    assert (listener.port_name, listener.reply) == ("test", b"\x01\x00\x00")
    assert feed(sender, [listener.reply]) == b""
    sender.check()


@given(names, modes, st.binary(max_size=20), st.data())
@settings(max_examples=50)
def test_both_roles_agree_however_the_bytes_were_cut(
    name: str, mode: Mode, payload: bytes, data: st.DataObject
) -> None:
    sender, listener = SenderPreamble(name, mode), ListenerPreamble({name: mode})

    left = feed(listener, data.draw(cut(b"".join(sender.messages) + payload)))
    back = feed(sender, data.draw(cut(listener.reply + payload)))

    assert (left, back) == (payload, payload)
    assert listener.port_name == name
    sender.check()


@given(st.binary(max_size=300), st.data())
def test_whatever_comes_is_answered_with_one_of_six_answers_and_nothing_is_lost(
    content: bytes, data: st.DataObject
) -> None:
    whole, pieces = ListenerPreamble(PORTS), ListenerPreamble(PORTS)

    rest = feed(whole, [content])

    assert feed(pieces, data.draw(cut(content))) == rest
    assert content.endswith(rest)
    assert len(content) - len(rest) <= 4 + MAX_PORT_NAME_BYTES
    assert (whole.reply, whole.port_name) == (pieces.reply, pieces.port_name)
    assert whole.reply in (
        *(b"", b"\x00\x00\x00", b"\x00\x00\x01", b"\x00\x00\xff"),
        *(b"\x01\x00\x00", b"\x01\x00\x01"),
    )
    assert (whole.reply[:1] == b"\x01") == (whole.port_name is not None)


@given(st.binary(max_size=3), modes)
def test_only_the_right_answer_opens_the_port(answer: bytes, mode: Mode) -> None:
    sender = SenderPreamble("test", mode)
    feed(sender, [answer])

    if answer == bytes((1, 0, mode)):
        sender.check()
    else:
        with pytest.raises(PortRefused) as caught:
            sender.check()
        assert caught.value.hint


def test_a_version_that_is_not_understood_is_known_after_three_bytes() -> None:
    listener = ListenerPreamble(PORTS)

    assert listener.feed(b"GET / HTTP/1.1") == 3
    assert (listener.is_complete, listener.reply) == (True, b"\x00\x00\x00")


def test_a_name_that_is_no_utf_8_is_an_unknown_one() -> None:
    listener = ListenerPreamble(PORTS)

    feed(listener, [b"\x01\x00\x00\x02\xff\xfe"])

    assert listener.is_complete
    assert (listener.reply, listener.port_name) == (b"", None)


# --- port names ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, MAX_PORT_NAME_BYTES])
def test_a_port_name_fills_at_most_one_byte_of_length(size: int) -> None:
    name = "ü" * (size // 2) + "x" * (size % 2)

    assert check_port_name(name, setting="--port-name") == name
    assert SenderPreamble(name, Mode.STREAM).messages == (bytes((1, 0, 0, size)), name.encode())


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is empty"),
        ("ü" * 128, "has 256 bytes, and at most 255"),
        ("a b", "has blanks"),
        ("a/b", "slashes"),
        ("a\n", "unprintable"),
    ],
)
def test_a_port_name_that_cannot_be_is_said_with_a_hint(name: str, problem: str) -> None:
    with pytest.raises(InvalidSetting, match=problem) as caught:
        check_port_name(name, setting="--port-name")

    assert str(caught.value).startswith("--port-name: ")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[(text, True) for text in ("0", "5432", "-1", "+7", " 12 ", "2147483647", "-2147483648")],
        *[(text, True) for text in ("0" * 200 + "1",)],
        *[
            (text, False)
            for text in ("", "161U", "1.0", "0x10", "- 1", "2147483648", "-2147483649")
        ],
        *[(text, False) for text in ("٣", "9" * 200, "+", "1-")],
    ],
)
def test_a_number_is_what_dotnet_takes_for_one(text: str, expected: bool) -> None:
    assert is_number(text) is expected


def test_the_only_port_is_chosen_by_any_number_and_else_names_must_be_the_same() -> None:
    one = {"test": Mode.STREAM}

    assert [choose_port(one, asked) for asked in ("9", "test", "Test", "9U", "")] == [
        *("test", "test"),
        *(None, None, None),
    ]
    assert [choose_port(PORTS, asked) for asked in ("9", "161U")] == [None, "161U"]


def test_ports_have_default_names() -> None:
    assert default_port_name(5432, Mode.STREAM) == "5432"
    assert default_port_name(161, Mode.DATAGRAM) == "161U"


# --- datagrams -----------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=40), max_size=10), st.data())
def test_datagrams_come_out_as_they_went_in_however_they_were_cut(
    datagrams: list[bytes], data: st.DataObject
) -> None:
    content = b"".join(datagram_header(len(each)) + each for each in datagrams)
    reader = DatagramReader()

    came = []
    for piece in data.draw(cut(content)):
        room = memoryview(bytearray(b"..." + piece))
        came += reader.feed(room, 3, len(room))

    assert came == datagrams
    assert reader.is_between_datagrams


@pytest.mark.clause(131)
def test_the_length_is_big_endian_and_has_an_end() -> None:
    assert datagram_header(258) == b"\x01\x02"
    assert datagram_header(MAX_DATAGRAM_BYTES) == b"\xff\xff"
    with pytest.raises(ValueError, match="at most 65535"):
        datagram_header(MAX_DATAGRAM_BYTES + 1)

    reader = DatagramReader()
    longest = memoryview(b"\xff\xff" + bytes(MAX_DATAGRAM_BYTES))
    assert reader.feed(longest, 0, 40_000) == []
    assert not reader.is_between_datagrams
    assert reader.feed(longest, 40_000, len(longest)) == [bytes(MAX_DATAGRAM_BYTES)]
