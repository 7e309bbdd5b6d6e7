"""What crosses a joined connection, frame by frame."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from tests.support.meeting import joined
from tests.support.raw import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Frame,
    RawPeer,
    RelayPeers,
    close_frame,
    frame,
)
from tests.support.relay import RunningRelay

CONTINUATION = 0
MIB = 1_048_576
BOTH_WAYS = pytest.mark.parametrize(
    "is_turned", [False, True], ids=["from the sender", "from the listener"]
)


@pytest.fixture(params=[False, True], ids=["from the sender", "from the listener"])
async def ends(
    request: pytest.FixtureRequest, relay: RunningRelay, peers: RelayPeers
) -> AsyncIterator[tuple[RawPeer, RawPeer]]:
    """Both ends of a joined connection, once in each order."""
    async with joined(relay, peers, is_turned=request.param) as pair:
        yield pair


def _content(size: int) -> bytes:
    """Bytes that do not repeat at any power of two."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


async def _frames(peer: RawPeer) -> list[Frame]:
    """Read the frames of one message."""
    frames = [await peer.frame()]
    while not frames[-1].fin:
        frames.append(await peer.frame())
    return frames


Ends = tuple[RawPeer, RawPeer]


# --- messages ------------------------------------------------------------------------------------


@pytest.mark.clause(77)
async def test_text_stays_text_and_binary_stays_binary(ends: Ends) -> None:
    near, far = ends

    await near.send(frame(TEXT, "grüß".encode()) + frame(BINARY, b"\xff\x00") + frame(TEXT, b"x"))

    assert await far.frame() == Frame(TEXT, "grüß".encode())
    assert await far.frame() == Frame(BINARY, b"\xff\x00")
    assert await far.frame() == Frame(TEXT, b"x")


async def test_text_is_not_looked_at(ends: Ends) -> None:
    near, far = ends

    await near.send(frame(TEXT, b"\xff\xfe not UTF-8"))

    assert await far.frame() == Frame(TEXT, b"\xff\xfe not UTF-8")


@pytest.mark.clause(78)
async def test_messages_are_never_merged_and_empty_ones_stay(ends: Ends) -> None:
    near, far = ends
    messages = [b"a", b"", b"bc", b"", b"", b"d" * 70_000, b"e"]

    await near.send(b"".join(frame(BINARY, each) for each in messages))

    assert [await far.message() for _ in messages] == [(BINARY, each) for each in messages]


@pytest.mark.clause(78)
async def test_a_message_in_fragments_stays_one_message(ends: Ends) -> None:
    near, far = ends

    await near.send(
        frame(TEXT, b"one ", fin=False)
        + frame(CONTINUATION, b"", fin=False)
        + frame(CONTINUATION, b"message")
        + frame(BINARY, b"another")
    )

    assert await far.message() == (TEXT, b"one message")
    assert await far.message() == (BINARY, b"another")


@pytest.mark.clause(79)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_message_of_1_mib_passes(ends: Ends, opcode: int) -> None:
    near, far = ends
    content = _content(MIB).replace(b"\x80", b"~")

    await near.send(frame(opcode, content))

    assert await far.message() == (opcode, content)


async def test_16_mib_pass_both_ways_at_once(relay: RunningRelay, peers: RelayPeers) -> None:
    piece = frame(BINARY, _content(65_000))
    count = 16 * MIB // 65_000

    async def send(peer: RawPeer) -> None:
        for _ in range(count):
            await peer.send(piece)

    async def digest(peer: RawPeer) -> str:
        found = hashlib.sha256()
        for _ in range(count):
            found.update((await peer.message())[1])
        return found.hexdigest()

    async with joined(relay, peers) as (sender, near), asyncio.TaskGroup() as tasks:
        tasks.create_task(send(sender))
        tasks.create_task(send(near))
        digests = [tasks.create_task(digest(each)) for each in (sender, near)]

    expected = hashlib.sha256(_content(65_000) * count).hexdigest()
    assert [each.result() for each in digests] == [expected, expected]


# --- frames --------------------------------------------------------------------------------------


@pytest.mark.clause(80)
@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 131_072, 131_073, MIB])
async def test_no_forwarded_frame_is_longer_than_64_kib(ends: Ends, size: int) -> None:
    near, far = ends

    await near.send(frame(TEXT, _content(size)))

    frames = await _frames(far)
    assert max(len(each.payload) for each in frames) <= 65_536
    assert len(frames) == -(-size // 65_536)
    assert [each.opcode for each in frames] == [TEXT] + [CONTINUATION] * (len(frames) - 1)
    assert b"".join(each.payload for each in frames) == _content(size)


async def test_forwarded_frames_are_not_masked_and_have_no_reserved_bit(ends: Ends) -> None:
    near, far = ends

    await near.send(frame(BINARY, b"x", mask=b"\xff\xff\xff\xff"))

    assert await far.receive_exactly(3) == b"\x82\x01x"


@pytest.mark.parametrize("mask", [b"\0\0\0\0", b"\0\0\0\1", b"\xff\xfe\xfd\xfc"])
async def test_every_mask_key_is_taken_off(ends: Ends, mask: bytes) -> None:
    near, far = ends

    await near.send(frame(BINARY, _content(1_001), mask=mask))

    assert await far.message() == (BINARY, _content(1_001))


@pytest.mark.clause(81)
async def test_half_a_frame_arrives_before_the_rest_is_sent(ends: Ends) -> None:
    near, far = ends
    whole = frame(BINARY, _content(1_000))

    await near.send(whole[:508])
    assert await far.receive_exactly(504) == b"\x82\x7e\x03\xe8" + _content(500)

    await near.send(whole[508:])
    assert await far.receive_exactly(500) == _content(1_000)[500:]


@pytest.mark.clause(81)
async def test_a_fragment_arrives_before_the_message_is_complete(ends: Ends) -> None:
    near, far = ends

    for number in range(5):
        opcode = CONTINUATION if number else TEXT
        await near.send(frame(opcode, b"part", fin=False))
        assert await far.frame() == Frame(opcode, b"part", fin=False)

    await near.send(frame(CONTINUATION))
    assert await far.frame() == Frame(CONTINUATION, b"")


@pytest.mark.clause(81)
async def test_a_gigabyte_frame_is_not_waited_for(ends: Ends) -> None:
    near, far = ends
    head = b"\x82\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0"

    await near.send(head + b"begin")

    assert await far.receive_exactly(15) == b"\x02\x7f" + (65_536).to_bytes(8, "big") + b"begin"


async def test_66_000_frames_of_one_byte_take_seconds_not_minutes(ends: Ends) -> None:
    near, far = ends
    count = 66_000

    async with asyncio.timeout(20):
        await near.send(frame(BINARY, b"x") * count)
        received = await far.receive_exactly(3 * count)

    assert received == b"\x82\x01x" * count


async def test_frames_may_be_cut_at_every_byte(ends: Ends) -> None:
    near, far = ends
    stream = (
        frame(TEXT, b"one", fin=False, mask=b"abcd")
        + frame(PING, b"hey")
        + frame(CONTINUATION, _content(130), mask=b"efgh")
        + frame(BINARY)
    )
    expected = b"\x01\x03one" + b"\x80\x7e\x00\x82" + _content(130) + b"\x82\x00"

    for cut in range(1, len(stream)):
        # Each write is a TLS record, and the relay reads one record at a time.
        await near.send(stream[:cut])
        await near.send(stream[cut:])
        assert await far.receive_exactly(len(expected)) == expected
        assert await near.frame() == Frame(PONG, b"hey")


async def test_frames_may_come_byte_by_byte(ends: Ends) -> None:
    near, far = ends
    stream = frame(TEXT, _content(300)) + frame(BINARY) + close_frame(1001, "bye")

    for place in range(len(stream)):
        await near.send(stream[place : place + 1])

    assert await far.message() == (TEXT, _content(300))
    assert await far.message() == (BINARY, b"")
    assert await far.close() == (1001, "bye")


# --- pings ---------------------------------------------------------------------------------------


@pytest.mark.clause(87)
async def test_a_ping_is_answered_and_not_forwarded(ends: Ends) -> None:
    near, far = ends

    await near.send(frame(PING, b"are you there?") + frame(PING) + frame(BINARY, b"data"))

    assert await near.frame() == Frame(PONG, b"are you there?")
    assert await near.frame() == Frame(PONG, b"")
    assert await far.frame() == Frame(BINARY, b"data")


@pytest.mark.clause(87)
async def test_a_pong_nobody_asked_for_is_dropped(ends: Ends) -> None:
    near, far = ends

    await near.send(frame(PONG, b"unasked") + frame(BINARY, b"data"))

    assert await far.frame() == Frame(BINARY, b"data")


@pytest.mark.clause(87)
async def test_a_ping_between_fragments_is_answered_at_once(ends: Ends) -> None:
    near, far = ends

    await near.send(frame(TEXT, b"one ", fin=False) + frame(PING, b"now"))
    assert await near.frame() == Frame(PONG, b"now")

    await near.send(frame(CONTINUATION, b"message"))
    assert await far.message() == (TEXT, b"one message")


@pytest.mark.clause(87)
async def test_a_pong_waits_for_the_end_of_a_frame_that_goes_the_same_way(ends: Ends) -> None:
    near, far = ends
    whole = frame(BINARY, b"0123456789")
    await far.send(whole[:-5])
    assert await near.receive_exactly(7) == b"\x82\x0a01234"

    await near.send(frame(PING, b"first") + frame(PING, b"last") + frame(BINARY, b"through"))
    assert await far.frame() == Frame(BINARY, b"through")
    await far.send(whole[-5:])

    # Of several the last is owed (RFC 6455, 5.5.3).
    assert await near.receive_exactly(5) == b"56789"
    assert await near.frame() == Frame(PONG, b"last")


@pytest.mark.clause(87)
async def test_a_flood_of_pings_is_answered_with_a_bounded_number_of_pongs(ends: Ends) -> None:
    near, far = ends

    await near.send(b"".join(frame(PING, b"%d" % number) for number in range(1_000)))
    await near.send(frame(PING, b"end") + frame(BINARY, b"data"))

    assert await far.frame() == Frame(BINARY, b"data")
    pongs = [await near.frame()]
    while pongs[-1].payload != b"end":
        pongs.append(await near.frame())
    assert {each.opcode for each in pongs} == {PONG}


# --- violations ----------------------------------------------------------------------------------

_MALFORMED = {
    "not masked": frame(BINARY, b"plain", mask=None),
    "a reserved bit": b"\xc2\x80\0\0\0\0",
    "a reserved opcode": frame(3, b"x"),
    "a reserved control opcode": frame(11, b"x"),
    "a fragmented ping": frame(PING, b"x", fin=False),
    "a ping of 126 bytes": frame(PING, bytes(126)),
    "a continuation of nothing": frame(CONTINUATION, b"x"),
    "a message in a message": frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"),
    "a Close of one byte": frame(CLOSE, b"\x03"),
    "a Close with 1005": frame(CLOSE, b"\x03\xed"),
    "a Close with 999": frame(CLOSE, b"\x03\xe7"),
    "a reason that is not UTF-8": frame(CLOSE, b"\x03\xe8\xff"),
    "a length of 2 ** 63": b"\x82\xff\x80" + bytes(11),
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("data", _MALFORMED.values(), ids=_MALFORMED.keys())
async def test_who_breaks_the_protocol_is_told_1002_and_the_other_side_is_aborted(
    ends: Ends, data: bytes
) -> None:
    near, far = ends

    await near.send(frame(BINARY, b"good") + data)

    assert (await near.close())[0] == 1002
    assert await near.ended()
    assert not await far.ended()


@BOTH_WAYS
async def test_after_a_violation_nothing_more_is_taken(
    relay: RunningRelay, peers: RelayPeers, is_turned: bool
) -> None:
    async with joined(relay, peers, is_turned=is_turned) as (near, far):
        near.writer.write(b"\xff\xff")
        near.writer.write(b"\xff\xff" + frame(BINARY, b"late"))

        assert (await near.close())[0] == 1002
        assert await near.reader.read() == b""
        assert not await far.ended()
