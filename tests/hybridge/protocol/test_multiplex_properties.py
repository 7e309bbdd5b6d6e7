"""Whatever two ends of a multiplexed rendezvous do, each stream is an exact, ordered prefix."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hybridge.protocol.multiplex import (
    MAX_WINDOW_BYTES,
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
from hybridge.protocol.multiplex_frames import MAX_DATA_BYTES

WINDOW = 100
MAX_STREAMS = 3


@dataclass
class Ledger:
    """What one side sent and received on one stream."""

    sent: bytearray = field(default_factory=bytearray)
    got: bytearray = field(default_factory=bytearray)
    held: int = 0
    has_sent_end: bool = False
    has_got_end: bool = False
    is_broken: bool = False


@dataclass
class Side:
    """One end, what is on its way from it, and what it knows."""

    end: Multiplexer
    on_the_way: bytearray = field(default_factory=bytearray)
    streams: dict[int, Ledger] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)

    def learn(self, events: list[Event], data: bytes) -> None:
        for event in events:
            match event:
                case Asked(stream):
                    self.asked.add(stream)
                case Accepted(stream):
                    self.asked.discard(stream)
                    self.streams[stream] = Ledger()
                case Refused(stream):
                    self.asked.remove(stream)
                    assert stream not in self.streams
                case Arrived(stream, start, end):
                    ledger = self.streams[stream]
                    assert not ledger.has_got_end
                    ledger.got += data[start:end]
                    ledger.held += end - start
                case Ended(stream) | Moved(stream):
                    self.streams[stream].has_got_end = True
                case Aborted(stream):
                    self.asked.discard(stream)
                    if stream in self.streams:
                        self.streams[stream].is_broken = True
                case Granted(stream):
                    assert self.end.sendable(stream) > 0
                case Ready() | GoingAway():
                    pass


class TwoEnds(RuleBasedStateMachine):
    """Random calls at both ends, and bytes that arrive in random pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.opener = Side(Multiplexer(is_opener=True, window=WINDOW))
        self.taker = Side(Multiplexer(is_opener=False, max_streams=MAX_STREAMS, window=WINDOW))
        self.count = 0
        for side in (self.opener, self.taker):
            side.on_the_way += side.end.hello()

    def sides(self, is_opener: bool) -> tuple[Side, Side]:
        return (self.opener, self.taker) if is_opener else (self.taker, self.opener)

    def deliver(self, side: Side, peer: Side, size: int) -> None:
        piece = bytes(side.on_the_way[:size])
        del side.on_the_way[:size]
        peer.learn(peer.end.receive(memoryview(piece), 0, len(piece)), piece)

    @rule(is_opener=st.booleans(), size=st.integers(1, 120))
    def some_bytes_arrive(self, is_opener: bool, size: int) -> None:
        self.deliver(*self.sides(is_opener), size)

    @precondition(lambda self: self.opener.end.can_open)
    @rule()
    def opens(self) -> None:
        stream, said = self.opener.end.open("stream")
        self.opener.asked.add(stream)
        self.opener.on_the_way += said

    @precondition(lambda self: self.opener.asked)
    @rule(which=st.integers(0, 9))
    def gives_up(self, which: int) -> None:
        stream = sorted(self.opener.asked)[which % len(self.opener.asked)]
        self.opener.asked.discard(stream)
        self.opener.on_the_way += self.opener.end.abort(stream)

    @precondition(lambda self: self.taker.asked)
    @rule(which=st.integers(0, 9), is_welcome=st.booleans())
    def answers(self, which: int, is_welcome: bool) -> None:
        stream = sorted(self.taker.asked)[which % len(self.taker.asked)]
        self.taker.asked.discard(stream)
        if is_welcome:
            self.taker.streams[stream] = Ledger()
            self.taker.on_the_way += self.taker.end.accept(stream)
        else:
            self.taker.on_the_way += self.taker.end.refuse(stream, 502, "no")

    def pick(self, side: Side, which: int) -> tuple[int, Ledger] | None:
        live = [(number, each) for number, each in side.streams.items() if not each.is_broken]
        return live[which % len(live)] if live else None

    @rule(is_opener=st.booleans(), which=st.integers(0, 9), size=st.integers(1, 150))
    def sends(self, is_opener: bool, which: int, size: int) -> None:
        side, _ = self.sides(is_opener)
        if (picked := self.pick(side, which)) is None:
            return
        stream, ledger = picked
        size = min(size, side.end.sendable(stream), MAX_DATA_BYTES)
        if not size:
            return
        payload = bytes((self.count + i) % 251 for i in range(size))
        self.count += size
        ledger.sent += payload
        side.on_the_way += side.end.data(stream, size) + payload

    @rule(is_opener=st.booleans(), which=st.integers(0, 9), size=st.integers(1, 150))
    def consumes(self, is_opener: bool, which: int, size: int) -> None:
        side, _ = self.sides(is_opener)
        if (picked := self.pick(side, which)) is None or not picked[1].held:
            return
        stream, ledger = picked
        size = min(size, ledger.held)
        ledger.held -= size
        side.on_the_way += side.end.consumed(stream, size)

    @rule(is_opener=st.booleans(), which=st.integers(0, 9))
    def ends(self, is_opener: bool, which: int) -> None:
        side, _ = self.sides(is_opener)
        if (picked := self.pick(side, which)) is not None:
            picked[1].has_sent_end = True
            side.on_the_way += side.end.end(picked[0])

    @rule(is_opener=st.booleans(), which=st.integers(0, 9))
    def moves(self, is_opener: bool, which: int) -> None:
        side, _ = self.sides(is_opener)
        if (picked := self.pick(side, which)) is not None:
            picked[1].has_sent_end = True
            side.on_the_way += side.end.move(picked[0])

    @rule(is_opener=st.booleans(), which=st.integers(0, 9))
    def aborts(self, is_opener: bool, which: int) -> None:
        side, _ = self.sides(is_opener)
        if (picked := self.pick(side, which)) is not None:
            picked[1].is_broken = True
            side.on_the_way += side.end.abort(picked[0])

    @rule()
    def everything_arrives_and_is_consumed(self) -> None:
        """Then both ends know the same, and whoever may send can."""
        sides = [self.opener, self.taker]
        while any(side.on_the_way for side in sides):
            for side, peer in (sides, sides[::-1]):
                self.deliver(side, peer, len(side.on_the_way))
            for side in sides:
                for stream, ledger in side.streams.items():
                    if ledger.held and not ledger.is_broken:
                        side.on_the_way += side.end.consumed(stream, ledger.held)
                        ledger.held = 0
        assert self.opener.end.streams == self.taker.end.streams
        for stream, ours in self.opener.streams.items():
            theirs = self.taker.streams[stream]
            if ours.is_broken or theirs.is_broken:
                assert stream not in self.opener.end.streams
                assert stream not in self.taker.end.streams
                continue
            for near, far in ((ours, theirs), (theirs, ours)):
                assert near.sent == far.got
                assert near.has_sent_end == far.has_got_end
            for side, ledger in ((self.opener, ours), (self.taker, theirs)):
                if not ledger.has_sent_end:
                    assert side.end.sendable(stream) > 0, "a stream must not starve"

    @invariant()
    def what_arrived_is_a_prefix_of_what_was_sent(self) -> None:
        for side, peer in ((self.opener, self.taker), (self.taker, self.opener)):
            for stream, ledger in side.streams.items():
                if stream in peer.streams:
                    sent = peer.streams[stream].sent
                    assert sent.startswith(ledger.got)
                    if ledger.has_got_end:
                        assert sent == ledger.got, "a clean end means complete"

    @invariant()
    def nobody_holds_more_than_a_window(self) -> None:
        for side in (self.opener, self.taker):
            for ledger in side.streams.values():
                assert ledger.held <= MAX_WINDOW_BYTES
            assert len(side.end.streams) <= MAX_STREAMS


TwoEnds.TestCase.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)
TestTwoEnds = TwoEnds.TestCase
