"""Several connections over one rendezvous."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from hybridge.protocol import multiplex_frames as frames
from hybridge.protocol.errors import ConnectionLost, HandshakeRefused
from hybridge.protocol.multiplex import MAX_WINDOW_BYTES
from hybridge.transport.multiplex import Multiplex
from hybridge.transport.multiplexed_stream import MultiplexedStream
from hybridge.transport.pump import pump
from hybridge.transport.stream import HEADROOM_BYTES, with_headroom
from hybridge.transport.timing import Timing
from tests.support.carrier import Carrier, joined
from tests.support.scripted import ScriptedStream
from tests.support.until import until

QUICK = Timing(close_timeout_seconds=0.05, stalled_peer_timeout_seconds=0.05)


@dataclass
class Ends:
    """Both ends of a rendezvous, and what the taker was asked for."""

    opener: Multiplex
    taker: Multiplex
    near: Carrier
    far: Carrier
    asked: asyncio.Queue[tuple[MultiplexedStream, str]] = field(default_factory=asyncio.Queue)

    async def open(self) -> tuple[MultiplexedStream, MultiplexedStream]:
        async with asyncio.TaskGroup() as tasks:
            opening = tasks.create_task(self.opener.open("c1"))
            stream, name = await self.asked.get()
            assert name == "c1"
            stream.accept()
        return opening.result(), stream


@contextlib.asynccontextmanager
async def ends(*, room: int = 262_144) -> AsyncIterator[Ends]:
    near, far = joined(room=room)
    opener = Multiplex(near, is_opener=True, timing=QUICK)
    both = Ends(opener, opener, near, far)
    both.taker = Multiplex(
        far,
        is_opener=False,
        timing=QUICK,
        on_asked=lambda stream, name: both.asked.put_nowait((stream, name)),
    )
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(both.opener.run()), tasks.create_task(both.taker.run())]
        await both.opener.wait_ready()
        await both.taker.wait_ready()
        yield both
        for task in running:
            task.cancel()


async def receive_all(stream: MultiplexedStream) -> bytes:
    whole = bytearray()
    while data := await stream.receive():
        whole += data
    return bytes(whole)


async def test_bytes_go_both_ways_and_each_way_ends_on_its_own() -> None:
    async with ends() as both:
        near, far = await both.open()
        await near.send(b"question")
        await near.send_eof()
        assert await receive_all(far) == b"question"
        await far.send(b"answer")
        await far.send_eof()
        assert await receive_all(near) == b"answer"
        assert both.opener.open_streams == both.taker.open_streams == 0


@pytest.mark.parametrize("room", [0, 1_000, 262_144])
async def test_megabytes_arrive_whole_and_in_order_both_ways_on_many_streams(room: int) -> None:
    async def converse(near: MultiplexedStream, far: MultiplexedStream, seed: int) -> None:
        there, back = (bytes([seed + i]) * 300_000 + bytes(range(256)) * 600 for i in (0, 1))
        async with asyncio.TaskGroup() as tasks:
            got_there = tasks.create_task(receive_all(far))
            got_back = tasks.create_task(receive_all(near))
            for stream, data in ((near, there), (far, back)):
                tasks.create_task(send_all(stream, data))
        assert got_there.result() == there
        assert got_back.result() == back

    async def send_all(stream: MultiplexedStream, data: bytes) -> None:
        await stream.send(data)
        await stream.send_eof()

    async with ends(room=room) as both:
        pairs = [await both.open() for _ in range(5)]
        async with asyncio.TaskGroup() as tasks:
            for seed, (near, far) in enumerate(pairs):
                tasks.create_task(converse(near, far, seed))


async def test_short_pieces_of_several_connections_leave_together_in_one_message() -> None:
    async with ends() as both:
        pairs = [await both.open() for _ in range(8)]
        before = both.near.messages

        async with asyncio.TaskGroup() as tasks:
            for number, (near, _) in enumerate(pairs):
                tasks.create_task(near.send(b"question %d" % number))
        received = [await far.receive() for _, far in pairs]

    assert received == [b"question %d" % number for number in range(8)]
    assert both.near.messages == before + 1


async def test_a_long_piece_does_not_overtake_a_short_one_that_waits_to_leave() -> None:
    async with ends() as both:
        near, far = await both.open()
        await both.open()
        long = bytes(range(256)) * 200
        before = both.near.messages

        for piece in (b"short", long, b"short again"):
            await near.send(piece)
        await near.send_eof()

        assert await receive_all(far) == b"short" + long + b"short again"
        assert both.near.messages == before + 3


async def test_the_only_connection_of_a_rendezvous_does_not_wait_for_others() -> None:
    async with ends() as both:
        near, _ = await both.open()
        before = both.near.messages

        room = with_headroom(b"question")
        near.write(room, HEADROOM_BYTES, len(room))

        assert both.near.messages == before + 1


async def test_what_waits_to_leave_is_sent_before_an_orderly_close() -> None:
    async with ends() as both:
        near, far = await both.open()
        await both.open()
        room = with_headroom(b"last words")
        near.write(room, HEADROOM_BYTES, len(room))

        both.opener.close()

        assert await far.receive() == b"last words"
        with pytest.raises(ConnectionLost):
            await far.receive()


async def test_a_refusal_carries_status_and_reason() -> None:
    async with ends() as both, asyncio.TaskGroup() as tasks:
        opening = tasks.create_task(refused_open(both.opener))
        stream, _ = await both.asked.get()
        stream.refuse(502, "The target db:5432 refused the connection.")
        error = await opening
        assert (error.status, error.reason) == (502, "The target db:5432 refused the connection.")
        assert both.opener.open_streams == both.taker.open_streams == 0


async def refused_open(multiplex: Multiplex) -> HandshakeRefused:
    with pytest.raises(HandshakeRefused) as refused:
        await multiplex.open("c1")
    return refused.value


async def test_an_opening_that_is_given_up_is_told_to_the_taker() -> None:
    async with ends() as both:
        opening = asyncio.timeout(0.01)
        with pytest.raises(TimeoutError):
            async with opening:
                await both.opener.open("c1")
        stream, _ = await both.asked.get()
        await both.taker.wait_idle()
        with pytest.raises(ConnectionLost, match="the sender has gone"):
            stream.accept()


async def test_a_stream_that_is_not_read_holds_a_window_and_holds_up_no_other() -> None:
    async with ends() as both:
        stalled_near, stalled_far = await both.open()
        near, far = await both.open()
        stalled_far.attach(Notes())
        stalled_far.pause()
        async with asyncio.TaskGroup() as tasks:
            stuck = tasks.create_task(stalled_near.send(bytes(8 * MAX_WINDOW_BYTES)))
            for _ in range(50):
                await near.send(b"lively")
                assert await far.receive() == b"lively"
            assert not stuck.done()
            assert len(stalled_far._arrived) <= MAX_WINDOW_BYTES
            stuck.cancel()


class Notes:
    """Notes what a stream tells."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.told: list[str] = []

    def data(self, buffer: memoryview, start: int, end: int) -> None:
        self.got += buffer[start:end]

    def ended(self) -> None:
        self.told.append("ended")

    def broken(self, error: Exception) -> None:
        self.told.append("broken")

    def drained(self) -> None:
        self.told.append("drained")


async def test_what_waited_for_a_paused_reader_comes_first_and_then_the_end() -> None:
    async with ends() as both:
        near, far = await both.open()
        receiver = Notes()
        far.attach(receiver)
        far.pause()
        await near.send(b"one")
        await near.send(b"two")
        await near.send_eof()
        await until(lambda: far._has_peer_ended)
        assert not receiver.got
        assert not receiver.told
        far.resume()
        await until(lambda: "ended" in receiver.told)
        assert receiver.got == b"onetwo"


async def test_an_abort_breaks_the_stream_at_the_other_end_and_no_other() -> None:
    async with ends() as both:
        near, far = await both.open()
        other_near, other_far = await both.open()
        near.abort()
        with pytest.raises(ConnectionLost, match="broke the connection"):
            await far.receive()
        await other_near.send(b"alive")
        assert await other_far.receive() == b"alive"


async def test_a_lost_rendezvous_breaks_exactly_its_streams() -> None:
    async with ends() as both, ends() as others:
        near, far = await both.open()
        other_near, other_far = await others.open()
        both.near.abort()
        both.far.abort()
        for stream in (near, far):
            with pytest.raises(ConnectionLost):
                await stream.receive()
        assert both.opener.is_gone
        assert not both.opener.can_open
        await other_near.send(b"alive")
        assert await other_far.receive() == b"alive"


async def test_what_was_complete_before_the_rendezvous_broke_is_given_whole() -> None:
    async with ends() as both:
        near, far = await both.open()
        receiver = Notes()
        far.attach(receiver)
        far.pause()
        await near.send(b"complete")
        await near.send_eof()
        await until(lambda: far._has_peer_ended)
        both.near.abort()
        await until(lambda: both.taker.is_gone)
        far.resume()
        await until(lambda: "broken" in receiver.told)
        assert receiver.got == b"complete"
        assert receiver.told == ["ended", "broken"], "what this side sends goes nowhere now"


async def test_a_peer_that_breaks_the_rules_loses_the_rendezvous_with_a_log_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ends() as both:
        _, far = await both.open()
        both.near.write_bytes(frames.data_header(77, 1) + b"x")
        with pytest.raises(ConnectionLost, match="DATA for stream 77, never opened"):
            await far.receive()
        assert both.taker.is_gone
    assert "DATA for stream 77, never opened" in caplog.text


async def test_a_rendezvous_that_ends_inside_a_header_is_a_violation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ends() as both:
        _, far = await both.open()
        both.near.write_bytes(b"\x05\x00\x00")
        both.near.write_eof()
        with pytest.raises(ConnectionLost, match="inside a frame"):
            await far.receive()
    assert "inside a frame" in caplog.text


async def test_an_opener_that_reads_no_answers_cannot_make_the_taker_hold_more_and_more() -> None:
    near, far = joined(room=0)
    taker = Multiplex(
        far, is_opener=False, on_asked=lambda stream, _: stream.refuse(502, "no" * 500)
    )
    far.is_stuck = True
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(taker.run())
        near.write_bytes(frames.Hello(window=1, max_streams=0, secret=bytes(16)).serialize())
        await taker.wait_ready()
        for number in range(1, 3_000):
            near.write_bytes(frames.opening(number, ""))
        await until(lambda: taker.is_gone)


async def test_a_side_that_leaves_takes_no_more_and_ends_when_idle() -> None:
    async with ends() as both:
        near, far = await both.open()
        both.taker.leave()
        await near.send(b"still")
        assert await far.receive() == b"still"
        assert not both.opener.can_open
        await near.send_eof()
        await far.send_eof()
        assert await receive_all(far) == b""
        assert await receive_all(near) == b""
        await both.taker.wait_idle()
        both.taker.close()
        await until(lambda: both.opener.is_gone)
        assert both.far.is_closed


async def test_closing_gives_the_peer_a_clean_end_and_waits_for_its_own() -> None:
    async with ends() as both:
        near, far = await both.open()
        async with asyncio.TaskGroup() as tasks:
            closing = tasks.create_task(near.close())
            assert await far.receive() == b""
            assert not closing.done()
            await far.send(b"dropped")
            await far.send_eof()
        assert both.opener.open_streams == 0


async def test_closing_gives_up_a_peer_that_never_ends() -> None:
    async with ends() as both:
        near, far = await both.open()
        await near.close()
        receiver = Notes()
        far.attach(receiver)
        await until(lambda: "broken" in receiver.told)


async def test_a_pump_between_a_stream_and_a_target_carries_both_ways() -> None:
    async with ends() as both, asyncio.TaskGroup() as tasks:
        near, far = await both.open()
        target = ScriptedStream()
        pumping = tasks.create_task(pump(far, target))
        await near.send(b"query")
        await until(lambda: target.sent == b"query")
        target.arrive(b"rows")
        assert await near.receive() == b"rows"
        target.end()
        assert await near.receive() == b""
        await near.send_eof()
        traffic = await pumping
        assert (traffic.forward, traffic.backward) == (5, 4)


async def test_what_takes_no_connections_any_more_says_so_at_once() -> None:
    async with ends() as both:
        both.taker.leave()
        await until(lambda: both.opener.is_left)
        with pytest.raises(ConnectionLost, match="takes no more"):
            await both.opener.open("c1")
        both.near.abort()
        both.far.abort()
        await until(lambda: both.opener.is_gone)
        with pytest.raises(ConnectionLost, match="takes no more"):
            await both.opener.open("c1")


async def test_a_connection_that_goes_while_news_of_it_is_read_harms_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ends() as both:
        near, far = await both.open()
        other_near, other_far = await both.open()
        moved = frames.frame(frames.Kind.MOVE, 1) + frames.credit(1, 1)
        both.near.write_bytes(moved)  # To nowhere: the taker aborts it.
        with pytest.raises(ConnectionLost, match="to nowhere"):
            await far.receive()
        await other_near.send(b"alive")
        assert await other_far.receive() == b"alive"
        near.abort()
    assert not caplog.records


async def test_a_side_that_closes_breaks_what_it_carries_and_no_rule(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ends() as both:
        near, far = await both.open()
        both.taker.close()
        for stream in (near, far):
            with pytest.raises(ConnectionLost):
                await stream.receive()
        await until(lambda: both.opener.is_gone)
    assert not caplog.records


async def test_an_opening_that_crosses_the_end_is_no_violation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ends() as both, asyncio.TaskGroup() as tasks:

        async def lost() -> None:
            with pytest.raises(ConnectionLost, match="closed the rendezvous"):
                await both.opener.open("c1")

        both.taker.close()
        tasks.create_task(lost())
    assert not caplog.records
