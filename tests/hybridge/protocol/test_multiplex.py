"""One end of a rendezvous that carries several connections."""

import pytest

from hybridge.protocol import multiplex_frames as frames
from hybridge.protocol.errors import ProtocolViolation
from hybridge.protocol.multiplex import (
    INITIAL_WINDOW_BYTES,
    MAX_WINDOW_BYTES,
    WINDOW_BUDGET_BYTES,
    Multiplexer,
)
from hybridge.protocol.multiplex_events import (
    Aborted,
    Accepted,
    Arrived,
    Asked,
    Ended,
    Event,
    GoingAway,
    Granted,
    Moved,
    Ready,
    Refused,
)
from hybridge.protocol.multiplex_frames import Hello, Kind


def tell(end: Multiplexer, data: bytes) -> list[Event]:
    return end.receive(memoryview(data), 0, len(data))


def data(end: Multiplexer, stream: int, payload: bytes) -> bytes:
    return end.data(stream, len(payload)) + payload


def pair(max_streams: int = 4) -> tuple[Multiplexer, Multiplexer]:
    """An opener and a taker that have said hello."""
    opener = Multiplexer(is_opener=True)
    taker = Multiplexer(is_opener=False, max_streams=max_streams)
    assert tell(taker, opener.hello()) == [Ready()]
    assert tell(opener, taker.hello()) == [Ready()]
    return opener, taker


def joined(opener: Multiplexer, taker: Multiplexer) -> int:
    stream, asking = opener.open("c1")
    assert tell(taker, asking) == [Asked(stream, "c1")]
    assert tell(opener, taker.accept(stream)) == [Accepted(stream)]
    return stream


def test_no_stream_opens_before_the_other_side_said_hello() -> None:
    opener = Multiplexer(is_opener=True)
    assert not opener.can_open
    tell(opener, Multiplexer(is_opener=False).hello())
    assert opener.can_open


def test_a_side_that_takes_streams_opens_none() -> None:
    _, taker = pair()
    assert not taker.can_open


def test_data_flows_both_ways_and_each_way_ends_on_its_own() -> None:
    opener, taker = pair()
    stream = joined(opener, taker)
    assert tell(taker, data(opener, stream, b"abc")) == [Arrived(stream, 8, 11)]
    assert tell(taker, opener.end(stream)) == [Ended(stream)]
    assert opener.sendable(stream) == 0
    assert tell(opener, data(taker, stream, b"answer")) == [Arrived(stream, 8, 14)]
    assert tell(opener, taker.end(stream)) == [Ended(stream)]
    assert not opener.streams
    assert not taker.streams
    assert opener.end(stream) == b""


def test_a_stream_that_moved_both_ways_is_gone_here() -> None:
    opener, taker = pair()
    stream = joined(opener, taker)
    assert tell(taker, opener.move(stream)) == [Moved(stream)]
    assert opener.sendable(stream) == 0
    assert opener.move(stream) == b""
    assert tell(opener, data(taker, stream, b"still here")) == [Arrived(stream, 8, 18)]
    assert tell(opener, taker.move(stream)) == [Moved(stream)]
    assert not opener.streams
    assert not taker.streams


def test_both_sides_give_a_stream_the_same_token_and_no_other_has_it() -> None:
    opener, taker = pair()
    stream = joined(opener, taker)
    assert opener.token(stream) == taker.token(stream)
    assert opener.token(stream) != opener.token(joined(opener, taker))
    others, _ = pair()
    assert opener.token(stream) != others.token(stream)
    assert opener.secret.hex() not in repr(opener) + repr(taker)
    assert Multiplexer(is_opener=False).token(1) == ""


def test_a_stream_that_is_refused_says_why() -> None:
    opener, taker = pair()
    stream, asking = opener.open("c1")
    tell(taker, asking)
    refusal = taker.refuse(stream, 502, "The target refused the connection.")
    assert tell(opener, refusal) == [Refused(stream, 502, "The target refused the connection.")]
    assert not opener.streams
    assert not taker.streams


def test_nothing_can_be_sent_before_the_stream_is_accepted() -> None:
    opener, _ = pair()
    stream, _ = opener.open("c1")
    assert opener.sendable(stream) == 0


def test_what_crosses_an_abort_on_its_way_is_dropped() -> None:
    opener, taker = pair()
    stream = joined(opener, taker)
    crossing = data(taker, stream, b"late") + taker.end(stream)
    abort = opener.abort(stream)
    assert tell(opener, crossing) == []
    assert tell(taker, abort) == [Aborted(stream)]
    assert opener.abort(stream) == b""
    assert taker.consumed(stream, 4) == b""


def test_an_opener_that_gives_up_crosses_its_acceptance() -> None:
    opener, taker = pair()
    stream, asking = opener.open("c1")
    tell(taker, asking)
    acceptance = taker.accept(stream)
    abort = opener.abort(stream)
    assert tell(opener, acceptance) == []
    assert tell(taker, abort) == [Aborted(stream)]
    assert taker.accept(stream) == b""
    assert taker.refuse(stream, 502, "late") == b""


def test_a_sender_stops_at_its_window_and_goes_on_when_granted() -> None:
    opener, taker = pair()
    stream = joined(opener, taker)
    assert opener.sendable(stream) == INITIAL_WINDOW_BYTES
    for _ in range(4):
        tell(taker, data(opener, stream, bytes(INITIAL_WINDOW_BYTES // 4)))
    assert opener.sendable(stream) == 0
    assert taker.consumed(stream, INITIAL_WINDOW_BYTES // 4) == b"", "too little to tell"
    grant = taker.consumed(stream, INITIAL_WINDOW_BYTES // 4)
    assert tell(opener, grant) == [Granted(stream)]
    assert opener.sendable(stream) == INITIAL_WINDOW_BYTES // 2, "it does not keep up: no growth"


def test_a_stalled_stream_holds_up_no_other() -> None:
    opener, taker = pair()
    stalled, lively = joined(opener, taker), joined(opener, taker)
    while size := min(opener.sendable(stalled), frames.MAX_DATA_BYTES):
        tell(taker, data(opener, stalled, bytes(size)))
    for _ in range(100):
        tell(taker, data(opener, lively, bytes(60_000)))
        tell(opener, taker.consumed(lively, 60_000))
    assert opener.sendable(stalled) == 0
    assert opener.sendable(lively) > INITIAL_WINDOW_BYTES


def test_the_window_grows_for_a_reader_that_keeps_up_and_no_further_than_its_bound() -> None:
    opener, taker = pair()
    stream = joined(opener, taker)
    for _ in range(1_000):
        size = min(opener.sendable(stream), 60_000)
        tell(taker, data(opener, stream, bytes(size)))
        tell(opener, taker.consumed(stream, size))
    assert opener.sendable(stream) <= MAX_WINDOW_BYTES
    assert opener.sendable(stream) > MAX_WINDOW_BYTES // 2


def keep_up(opener: Multiplexer, taker: Multiplexer, stream: int) -> None:
    for _ in range(100):
        size = min(opener.sendable(stream), 60_000)
        tell(taker, data(opener, stream, bytes(size)))
        tell(opener, taker.consumed(stream, size))


def test_all_windows_together_stay_within_their_budget() -> None:
    opener, taker = pair(max_streams=40)
    streams = [joined(opener, taker) for _ in range(40)]
    for stream in streams:
        keep_up(opener, taker, stream)
    granted = sum(opener.sendable(stream) for stream in streams)
    assert granted <= WINDOW_BUDGET_BYTES + 40 * INITIAL_WINDOW_BYTES
    assert opener.sendable(streams[-1]) <= INITIAL_WINDOW_BYTES


def test_the_budget_is_free_again_when_a_stream_ends() -> None:
    opener, taker = pair(max_streams=40)
    for _ in range(100):
        stream = joined(opener, taker)
        keep_up(opener, taker, stream)
        assert opener.sendable(stream) > MAX_WINDOW_BYTES // 2
        tell(taker, opener.abort(stream))


def test_an_opener_opens_no_more_than_the_other_side_takes() -> None:
    opener, taker = pair(max_streams=2)
    first = joined(opener, taker)
    joined(opener, taker)
    assert not opener.can_open
    tell(taker, opener.abort(first))
    joined(opener, taker)


def test_a_side_that_leaves_takes_no_new_streams_and_keeps_those_that_are_open() -> None:
    opener, taker = pair()
    stream = joined(opener, taker)
    assert tell(opener, taker.go_away()) == [GoingAway()]
    assert taker.go_away() == b""
    assert not opener.can_open
    assert tell(taker, data(opener, stream, b"still")) == [Arrived(stream, 8, 13)]


def test_an_end_in_order_leaves_nothing_open() -> None:
    opener, taker = pair()
    taker.check_end()
    stream = joined(opener, taker)
    with pytest.raises(ProtocolViolation, match="1 streams open"):
        taker.check_end()
    tell(taker, opener.abort(stream))
    taker.check_end()
    tell(taker, b"\x05")
    with pytest.raises(ProtocolViolation, match="inside a frame"):
        taker.check_end()


# --- a peer that breaks the rules ----------------------------------------------------------------

OPEN_1 = frames.opening(1, "c1")


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (OPEN_1 + OPEN_1, "stream 1 was used before"),
        (frames.opening(3, "") + frames.opening(2, ""), "stream 2 was used before"),
        (b"".join(frames.opening(n, "") for n in range(1, 6)), "more than 4 streams"),
        (frames.data_header(1, 1) + b"x", "DATA for stream 1, never opened"),
        (OPEN_1 + frames.data_header(1, 1) + b"x", "DATA before stream 1 is open"),
        (OPEN_1 + frames.frame(Kind.END, 1), "END before stream 1 is open"),
        (frames.frame(Kind.END, 9), "END for stream 9, never opened"),
        (frames.frame(Kind.ABORT, 9), "ABORT for stream 9, never opened"),
        (frames.credit(9, 1), "CREDIT for stream 9, never opened"),
        (frames.frame(Kind.ACCEPT, 1), "ACCEPT came from the opening side"),
        (frames.refusal(1, 502, ""), "REFUSE came from the opening side"),
        (Hello(window=1, max_streams=1, secret=bytes(16)).serialize(), "HELLO came twice"),
    ],
)
def test_an_opener_that_breaks_the_rules_ends_the_rendezvous(said: bytes, problem: str) -> None:
    _, taker = pair()
    with pytest.raises(ProtocolViolation, match=problem):
        tell(taker, said)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (OPEN_1, "OPEN came from the side that takes streams"),
        (frames.frame(Kind.ACCEPT, 2), "ACCEPT for stream 2, never opened"),
        (frames.frame(Kind.ACCEPT, 1) * 2, "stream 1 was answered twice"),
        (frames.frame(Kind.ACCEPT, 1) + frames.frame(Kind.END, 1) * 2, "stream 1 ended twice"),
        (
            frames.frame(Kind.ACCEPT, 1) + frames.frame(Kind.END, 1) + frames.data_header(1, 1),
            None,
        ),
        (
            frames.frame(Kind.ACCEPT, 1)
            + frames.frame(Kind.END, 1)
            + frames.data_header(1, 1)
            + b"x",
            "stream 1 went on after its end",
        ),
        (
            frames.frame(Kind.ACCEPT, 1)
            + frames.frame(Kind.MOVE, 1)
            + frames.data_header(1, 1)
            + b"x",
            "stream 1 went on after its end",
        ),
        (frames.frame(Kind.MOVE, 1), "MOVE before stream 1 is open"),
        (
            frames.frame(Kind.ACCEPT, 1)
            + frames.data_header(1, 60_000)
            + bytes(60_000)
            + frames.data_header(1, 60_000)
            + bytes(5_537),
            "stream 1 sent beyond its window",
        ),
        (
            frames.frame(Kind.ACCEPT, 1) + frames.credit(1, 2**31 - 1),
            "stream 1 was granted too much",
        ),
        (frames.refusal(1, 502, "no") + frames.frame(Kind.ACCEPT, 1), None),
    ],
)
def test_a_taker_that_breaks_the_rules_ends_the_rendezvous(
    said: bytes, problem: str | None
) -> None:
    opener, _ = pair()
    opener.open("c1")
    if problem is None:
        tell(opener, said)
        return
    with pytest.raises(ProtocolViolation, match=problem):
        tell(opener, said)


@pytest.mark.parametrize("is_opener", [True, False])
@pytest.mark.parametrize("said", [OPEN_1, frames.data_header(1, 1) + b"x"])
def test_whoever_does_not_say_hello_first_is_refused(is_opener: bool, said: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="came before HELLO"):
        tell(Multiplexer(is_opener=is_opener), said)
