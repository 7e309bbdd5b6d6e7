"""Slow, stalled and silent peers: a slow one slows the other, and only a silent one is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

import pytest

from hybridge.protocol.forwarder import MAX_JOINED_BYTES
from hybridge.transport.socket_stream import READ_BYTES
from relay.settings import RelaySettings
from tests.support.meeting import CONNECT, is_silent, joined, listening, rest
from tests.support.raw import (
    BINARY,
    DEADLINE_SECONDS,
    PING,
    PONG,
    Frame,
    RawPeer,
    RelayPeers,
    close_frame,
    frame,
)
from tests.support.relay import RunningRelay, running_relay
from tests.support.until import until

Ends = tuple[RawPeer, RawPeer]
SETTINGS = RelaySettings(drain_seconds=0)
QUICK_PINGS = replace(SETTINGS, ping_interval_seconds=0.1, pong_timeout_seconds=0.3)
"""Five pings take longer than a silent peer may live."""

MIB = 1_048_576

PIECE = bytes(range(256)) * 255
MOST_PIECES = 1_000
STUCK_SECONDS = 0.25

MAX_KERNEL_BYTES = 32 * MIB
"""More than Linux holds in the four socket buffers of one direction."""


@pytest.fixture
def settings() -> RelaySettings:
    return SETTINGS


@pytest.fixture
async def relay(settings: RelaySettings) -> AsyncIterator[RunningRelay]:
    async with running_relay(settings=settings) as running:
        yield running


@pytest.fixture(params=[False, True], ids=["from the sender", "from the listener"])
async def ends(
    request: pytest.FixtureRequest, relay: RunningRelay, peers: RelayPeers
) -> AsyncIterator[Ends]:
    """Both ends of a joined connection, once in each order."""
    async with joined(relay, peers, is_turned=request.param) as pair:
        yield pair


def with_settings(changed: RelaySettings) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("settings", [changed], ids=[""])


async def _push(peer: RawPeer) -> int:
    """Send messages until nothing moves any more; give how many."""
    piece = frame(BINARY, PIECE)
    for count in range(1, MOST_PIECES):
        try:
            async with asyncio.timeout(STUCK_SECONDS):
                await peer.send(piece)
        except TimeoutError:
            return count
    raise AssertionError("nothing held the writer back")


async def _send_for_ever(peer: RawPeer) -> None:
    while True:
        await peer.send(frame(BINARY, PIECE))


def _stop_reading(peer: RawPeer) -> None:
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined] # a read transport too


def _read_again(peer: RawPeer) -> None:
    peer.writer.transport.resume_reading()  # type: ignore[attr-defined]


async def _next_pings(peer: RawPeer, count: int) -> None:
    for _ in range(count):
        assert (await peer.frame()).opcode == PING


@asynccontextmanager
async def _answering(peer: RawPeer, answer: bytes) -> AsyncIterator[asyncio.Event]:
    """Answer the relay's pings in the background; the event is set after five of them."""
    five = asyncio.Event()

    async def run() -> None:
        count = 0
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                if (await peer.frame()).opcode == PING:
                    count += 1
                    await peer.send(answer)
                    if count == 5:
                        five.set()

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run())
        yield five
        running.cancel()


# --- a slow reader -------------------------------------------------------------------------------


@pytest.mark.clause(88)
async def test_a_reader_that_stops_stops_the_writer_and_the_relay_holds_little(
    relay: RunningRelay, ends: Ends
) -> None:
    near, far = ends
    _stop_reading(far)

    count = await _push(near)

    assert count * len(PIECE) < MAX_KERNEL_BYTES
    held = relay.service.gateway.websockets.pairs.held_bytes
    assert 0 < held <= READ_BYTES + MAX_JOINED_BYTES

    _read_again(far)
    assert {await far.message() for _ in range(count)} == {(BINARY, PIECE)}


@pytest.mark.clause(88)
async def test_the_other_direction_goes_on_and_pings_are_answered_while_one_is_stuck(
    ends: Ends,
) -> None:
    near, far = ends
    _stop_reading(far)
    count = await _push(near)

    await far.send(frame(PING, b"still there?") + frame(BINARY, b"hello"))
    assert await near.message() == (BINARY, b"hello")

    _read_again(far)
    frames = [await far.frame() for _ in range(count + 1)]
    assert [each for each in frames if each.opcode != BINARY] == [Frame(PONG, b"still there?")]
    assert {each.payload for each in frames if each.opcode == BINARY} == {PIECE}


async def test_another_connection_does_not_notice(relay: RunningRelay, peers: RelayPeers) -> None:
    token = ("ServiceBusAuthorization", relay.token())
    async with listening(relay, peers) as control, AsyncExitStack() as opened:
        first, second = [await peers.pair(control, CONNECT, token) for _ in range(2)]
        for each in (*first, *second):
            await opened.enter_async_context(each)
        _stop_reading(first[1])
        await _push(first[0])

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(second[0].send(frame(BINARY, PIECE * 100)))
            assert await second[1].message() == (BINARY, PIECE * 100)


@pytest.mark.clause(88)
# A second of silence would be death, and is more than it takes to get stuck.
@with_settings(replace(SETTINGS, ping_interval_seconds=0.25, pong_timeout_seconds=0.75))
async def test_neither_a_stuck_reader_nor_the_writer_it_holds_up_is_taken_for_dead(
    ends: Ends,
) -> None:
    near, far = ends
    _stop_reading(far)
    count = await _push(near)

    # Neither side answers a ping meanwhile: one does not read, the other is not read.
    await _next_pings(near, 6)

    _read_again(far)
    for _ in range(count):
        assert await far.message() == (BINARY, PIECE)


@with_settings(replace(QUICK_PINGS, stalled_peer_timeout_seconds=0.4))
async def test_a_reader_that_is_stuck_and_silent_for_too_long_is_dropped(
    relay: RunningRelay, ends: Ends
) -> None:
    near, far = ends
    _stop_reading(far)

    with pytest.raises(ConnectionError):
        await _send_for_ever(near)

    _read_again(far)
    assert not (await rest(far))[1]
    assert relay.service.gateway.websockets.pairs.held_bytes == 0


# --- a silent peer -------------------------------------------------------------------------------


@with_settings(QUICK_PINGS)
async def test_a_peer_that_answers_no_ping_is_dropped_and_the_other_side_sees_an_abort(
    ends: Ends,
) -> None:
    near, far = ends
    began = asyncio.get_running_loop().time()

    async with _answering(near, frame(PONG)):
        _, is_orderly = await rest(far)

    assert not is_orderly
    assert not await near.ended()
    assert asyncio.get_running_loop().time() - began < DEADLINE_SECONDS


@with_settings(QUICK_PINGS)
async def test_a_peer_that_answers_no_ping_is_seen_under_traffic_to_it(ends: Ends) -> None:
    near, far = ends

    async def send() -> None:
        with suppress(ConnectionError):
            while True:
                await near.send(frame(BINARY, b"tick") + frame(PONG))
                await asyncio.sleep(0.01)

    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(send())
        assert not (await rest(far))[1]


@with_settings(QUICK_PINGS)
@pytest.mark.parametrize("answer", [frame(PONG), frame(PONG, b"other"), frame(BINARY, b"data")])
async def test_a_peer_from_which_anything_comes_is_alive(ends: Ends, answer: bytes) -> None:
    near, far = ends

    async with _answering(near, frame(PONG)) as near_five, _answering(far, answer) as far_five:
        await near_five.wait()
        await far_five.wait()

    await far.send(frame(BINARY, b"still here"))
    while await near.message() != (BINARY, b"still here"):
        pass


@with_settings(QUICK_PINGS)
async def test_after_a_close_nobody_owes_an_answer(ends: Ends) -> None:
    near, far = ends

    await near.send(close_frame(1000))
    await far.close()

    # Pinged it still is, since the other side has not closed; five pings are long enough.
    await _next_pings(near, 5)
    await far.send(frame(BINARY, b"late") + close_frame(1000))
    assert await near.message() == (BINARY, b"late")


@pytest.mark.clause(87)
@with_settings(QUICK_PINGS)
async def test_a_ping_waits_for_the_end_of_a_frame_that_is_half_written(ends: Ends) -> None:
    near, far = ends
    whole = frame(BINARY, b"0123456789")

    await near.send(whole[:7])
    assert await far.receive_exactly(3) == b"\x82\x0a0"
    for place in range(7, 15):
        await near.send(whole[place : place + 1])
        assert await far.receive_exactly(1) == b"%d" % (place - 6)
        assert await is_silent(far, seconds=0.05)
    await near.send(whole[15:])

    assert await far.receive_exactly(1) == b"9"
    assert (await far.frame()).opcode == PING


# --- leftovers -----------------------------------------------------------------------------------


Ending = Callable[[RawPeer, RawPeer], Awaitable[object]]


async def _both_close(near: RawPeer, far: RawPeer) -> None:
    await near.send(close_frame())
    await far.send(close_frame())
    await near.ended()


async def _one_resets(near: RawPeer, far: RawPeer) -> None:
    near.reset()
    await far.ended()


async def _one_breaks_the_rules(near: RawPeer, far: RawPeer) -> None:
    await near.send(b"\xff\xff")
    await far.ended()


async def _one_closes_and_resets(near: RawPeer, far: RawPeer) -> None:
    await near.send(close_frame())
    near.reset()
    await far.close()
    await far.send(close_frame())
    await far.ended()


async def _one_is_stuck_when_the_other_resets(near: RawPeer, far: RawPeer) -> None:
    _stop_reading(far)
    await _push(near)
    near.reset()
    # Only now: all that had arrived is delivered first, however slow the reader is.
    _read_again(far)
    await far.ended()


@pytest.mark.parametrize(
    "end",
    [
        _both_close,
        _one_resets,
        _one_breaks_the_rules,
        _one_closes_and_resets,
        _one_is_stuck_when_the_other_resets,
    ],
)
async def test_however_a_connection_ends_the_relay_forgets_it(
    relay: RunningRelay, ends: Ends, end: Ending
) -> None:
    websockets = relay.service.gateway.websockets
    await until(lambda: len(websockets.pairs) == 1)
    tasks_of_a_pair = 2
    before = len(asyncio.all_tasks())

    await end(*ends)

    await until(lambda: len(websockets.pairs) == 0)
    await until(lambda: len(asyncio.all_tasks()) == before - tasks_of_a_pair)
