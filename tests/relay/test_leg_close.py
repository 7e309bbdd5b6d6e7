"""How a joined connection ends: each direction on its own, and never by accident in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial

import pytest

from hybridge.transport.socket_stream import SocketStream
from relay.leg import Pair
from relay.settings import RelaySettings
from tests.support.meeting import is_silent, joined, rest
from tests.support.raw import (
    BINARY,
    CLOSE,
    DEADLINE_SECONDS,
    PING,
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
MIB = 1_048_576
PIECE = bytes(range(256)) * 256


@pytest.fixture
def settings() -> RelaySettings:
    return SETTINGS


@pytest.fixture
async def relay(settings: RelaySettings) -> AsyncIterator[RunningRelay]:
    async with running_relay(settings=settings) as running:
        yield running


@pytest.fixture(params=[False, True], ids=["the sender first", "the listener first"])
async def ends(
    request: pytest.FixtureRequest, relay: RunningRelay, peers: RelayPeers
) -> AsyncIterator[Ends]:
    """Both ends of a joined connection, once in each order."""
    async with joined(relay, peers, is_turned=request.param) as pair:
        yield pair


def with_settings(changed: RelaySettings) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("settings", [changed], ids=[""])


async def _never_closed(peer: RawPeer) -> bytes:
    """Read to a broken end; give the payload that came before. There must be no Close."""
    came, is_orderly = await rest(peer)
    assert not is_orderly
    payload, at = b"", 0
    while at + 2 <= len(came):
        assert came[at] & 0x0F != CLOSE
        size, head = came[at + 1], 2
        if size >= 126:
            head = 4 if size == 126 else 10
            size = int.from_bytes(came[at + 2 : at + head], "big")
        payload += came[at + head : at + head + size]
        at += head + size
    return payload


# --- Close ---------------------------------------------------------------------------------------


@pytest.mark.clause(82)
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1000, ""),
        (1000, "Shutdown"),
        (1001, "Grüße"),
        (1008, "policy"),
        (1011, "x" * 123),
        (3000, "registered"),
        (4999, "own"),
        (None, ""),
    ],
)
async def test_a_close_is_forwarded_with_its_code_and_reason(
    ends: Ends, code: int | None, reason: str
) -> None:
    near, far = ends

    await near.send(close_frame(code, reason))

    close = await far.frame()
    assert (close.opcode, close.close) == (CLOSE, (code, reason))
    assert len(close.payload) == (0 if code is None else 2 + len(reason.encode()))


@pytest.mark.clause(83)
async def test_after_a_close_the_other_direction_goes_on(ends: Ends) -> None:
    near, far = ends
    late = bytes(range(256)) * 16 * 1_024

    await near.send(frame(BINARY, b"question") + close_frame(1000, "Shutdown"))
    assert await far.message() == (BINARY, b"question")
    assert await far.close() == (1000, "Shutdown")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(far.send(frame(BINARY, late) + close_frame(1000, "CloseAsync")))
        assert await near.message() == (BINARY, late)
    assert await near.close() == (1000, "CloseAsync")
    assert await rest(near) == (b"", True)
    assert await rest(far) == (b"", True)


@pytest.mark.clause(84)
async def test_a_close_is_not_answered_before_the_other_side_closes(ends: Ends) -> None:
    near, far = ends

    await near.send(close_frame(1000))
    await far.close()
    assert await is_silent(near)

    await far.send(close_frame(1001, "bye"))
    assert await near.frame() == Frame(CLOSE, b"\x03\xe9bye")


async def test_both_sides_may_close_at_once(ends: Ends) -> None:
    near, far = ends

    near.writer.write(close_frame(1000, "one"))
    far.writer.write(close_frame(1001, "other"))

    assert await near.close() == (1001, "other")
    assert await far.close() == (1000, "one")
    assert await rest(near) == (b"", True)
    assert await rest(far) == (b"", True)


async def test_what_a_side_sends_after_its_close_is_dropped(ends: Ends) -> None:
    near, far = ends

    await near.send(close_frame(1000) + frame(BINARY, b"late"))
    await near.send(frame(BINARY, b"later") + close_frame(1001) + b"\xff\xff\xff")
    await far.close()
    await far.send(frame(BINARY, b"answer") + close_frame(1000))

    assert await near.message() == (BINARY, b"answer")
    assert await rest(far) == (b"", True)


async def test_after_a_close_was_passed_on_nothing_follows_it(ends: Ends) -> None:
    near, far = ends
    await far.send(close_frame(1000))
    await near.close()

    await near.send(b"\xff\xff not a frame")

    assert (await rest(near))[0] == b""
    assert await _never_closed(far) == b""


# --- the wait for the other side's Close ---------------------------------------------------------


@pytest.mark.clause(84)
@with_settings(replace(SETTINGS, half_close_idle_seconds=0.15))
async def test_a_side_that_neither_sends_nor_closes_is_not_waited_for(ends: Ends) -> None:
    near, far = ends

    await near.send(close_frame(1000))

    assert await far.close() == (1000, "")
    assert await _never_closed(near) == b""
    assert await _never_closed(far) == b""


@pytest.mark.clause(83, 84)
@with_settings(replace(SETTINGS, half_close_idle_seconds=1.0))
async def test_a_side_that_goes_on_sending_is_waited_for(ends: Ends) -> None:
    near, far = ends
    await near.send(close_frame(1000))
    await far.close()

    for _ in range(3):
        assert await is_silent(near, seconds=0.5)
        await far.send(frame(BINARY, b"late"))
        assert await near.message() == (BINARY, b"late")

    await far.send(close_frame(1000))
    assert await near.close() == (1000, "")


@pytest.mark.clause(84, 88)
@with_settings(replace(SETTINGS, half_close_idle_seconds=0.6, ping_interval_seconds=0.1))
async def test_a_side_whose_data_is_held_back_is_waited_for(
    relay: RunningRelay, ends: Ends
) -> None:
    near, far = ends
    content = bytes(range(256)) * (16 * MIB // 256)
    stream = frame(BINARY, content) + close_frame(1000)
    await near.send(close_frame(1000))
    await far.close()
    near.writer.transport.pause_reading()  # type: ignore[attr-defined] # a read transport too

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(far.send(stream))
        await until(lambda: relay.service.gateway.websockets.pairs.held_bytes)
        assert await is_silent(far, seconds=0.9)
        near.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert await near.message() == (BINARY, content)

    assert await near.close() == (1000, "")


@pytest.mark.clause(84, 88)
@with_settings(replace(SETTINGS, half_close_idle_seconds=0.1, ping_interval_seconds=60.0))
async def test_a_side_whose_machine_has_not_taken_all_yet_is_waited_for(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = ends
    with monkeypatch.context() as slow:
        # How much a kernel holds, and for how long, is different on every machine.
        slow.setattr(SocketStream, "unreceived_bytes", 1)
        await near.send(close_frame(1000))
        assert await far.close() == (1000, "")
        assert await is_silent(far, seconds=0.4)

    assert await _never_closed(far) == b""


@pytest.mark.clause(84, 88)
@with_settings(replace(SETTINGS, half_close_idle_seconds=0.4, ping_interval_seconds=60.0))
async def test_a_side_that_pings_is_waited_for_as_its_application_may_be_slow(ends: Ends) -> None:
    near, far = ends
    await near.send(close_frame(1000))
    assert await far.close() == (1000, "")

    for _ in range(10):
        await far.send(frame(PING, b""))
        assert await is_silent(near, seconds=0.1)

    await far.send(frame(BINARY, b"late") + close_frame(1000))
    assert await near.message() == (BINARY, b"late")
    assert await near.close() == (1000, "")


def test_the_wait_is_60_seconds_by_default() -> None:
    assert RelaySettings().half_close_idle_seconds == 60


# --- an abort is not a Close ---------------------------------------------------------------------


def _reset(peer: RawPeer) -> None:
    peer.reset()


def _end_tls(peer: RawPeer) -> None:
    peer.writer.close()


WAYS_TO_VANISH = pytest.mark.parametrize("vanish", [_reset, _end_tls])


@pytest.mark.clause(85)
@WAYS_TO_VANISH
async def test_tcp_lost_without_a_close_is_an_abort_on_the_other_side(
    ends: Ends, vanish: Callable[[RawPeer], None]
) -> None:
    near, far = ends
    await near.send(frame(BINARY, b"sent"))
    assert await far.message() == (BINARY, b"sent")

    vanish(near)

    assert await _never_closed(far) == b""


@pytest.mark.clause(85)
@pytest.mark.parametrize("count", [0, 1, 5, 1_000, 16_384, 70_000, 262_144, 1_000_000])
async def test_an_abort_after_some_bytes_leaves_a_prefix_and_no_clean_end(
    ends: Ends, count: int
) -> None:
    near, far = ends
    content = bytes(range(251)) * 5_000
    stream = frame(BINARY, content)

    await near.send(stream[:count])
    near.reset()

    assert content.startswith(await _never_closed(far))


@pytest.mark.clause(85)
async def test_an_abort_reaches_a_side_that_is_sending(ends: Ends) -> None:
    near, far = ends

    async def send_on() -> None:
        while True:
            await far.send(frame(BINARY, bytes(60_000)))

    async def send() -> None:
        with pytest.raises(ConnectionError):
            await send_on()

    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(send())
        await near.message()
        near.reset()


@pytest.mark.clause(85)
async def test_an_abort_after_the_other_sides_close_is_an_abort(ends: Ends) -> None:
    near, far = ends
    await far.send(close_frame(1000))
    await near.close()

    near.reset()

    assert await _never_closed(far) == b""


# --- TCP dropped right after the Close -----------------------------------------------------------


@pytest.mark.clause(86)
@WAYS_TO_VANISH
async def test_who_drops_tcp_right_after_its_close_is_heard_to_the_end(
    ends: Ends, vanish: Callable[[RawPeer], None]
) -> None:
    near, far = ends

    await near.send(frame(BINARY, b"all of it") + close_frame(1000, "NormalClosure"))
    vanish(near)

    assert await far.message() == (BINARY, b"all of it")
    assert await far.close() == (1000, "NormalClosure")
    await far.send(close_frame(1000))
    assert await rest(far) == (b"", True)


def _has_carried(pair: Pair, size: int) -> bool:
    return pair.payload_bytes == size


@pytest.mark.clause(86)
@WAYS_TO_VANISH
async def test_who_talks_while_it_reads_still_gets_all_that_one_who_vanished_had_sent(
    relay: RunningRelay,
    ends: Ends,
    vanish: Callable[[RawPeer], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("relay.leg.UNREAD_SECONDS", 0.3)
    near, far = ends
    far.writer.transport.pause_reading()  # type: ignore[attr-defined] # a read transport too
    [pair] = relay.service.gateway.websockets.pairs
    legs = (pair.sender, pair.listener)
    # Until the reader's kernel takes no more, and the relay's has much that it could lose.
    sent = 0
    while max(leg.wire.unreceived_bytes for leg in legs) < MIB // 2:
        await near.send(frame(BINARY, PIECE))
        sent += len(PIECE)
        await until(partial(_has_carried, pair, sent))
    assert pair.listener.wire.held_bytes + pair.sender.wire.held_bytes == 0

    await near.send(close_frame(1000))
    await until(lambda: any(leg.has_closed for leg in legs))
    vanish(near)
    # The relay hears of it when it writes, at the latest; what comes after that has no reader.
    while not any(leg.is_gone for leg in legs):
        await far.send(frame(BINARY, b"progress"))
        await is_silent(far, seconds=0.01)
    await far.send(frame(BINARY, b"more progress"))
    await asyncio.sleep(0.5)  # the time itself is what is tested: more than UNREAD_SECONDS
    far.writer.transport.resume_reading()  # type: ignore[attr-defined]

    for _ in range(sent // len(PIECE)):
        assert await far.message() == (BINARY, PIECE)
    assert await far.close() == (1000, "")


@pytest.mark.clause(85)
@WAYS_TO_VANISH
async def test_what_nobody_reads_any_more_does_not_end_in_order(
    ends: Ends, vanish: Callable[[RawPeer], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.leg.UNREAD_SECONDS", 0.05)
    near, far = ends
    await near.send(frame(BINARY, b"all of it") + close_frame(1000))
    vanish(near)

    assert await far.message() == (BINARY, b"all of it")
    assert await far.close() == (1000, "")
    with contextlib.suppress(ConnectionError):
        for _ in range(64):
            await far.send(frame(BINARY, b"nobody reads this" * 1_000))
        await far.send(close_frame(1000))

    assert await _never_closed(far) == b""


@pytest.mark.clause(86, 88)
async def test_all_data_and_the_close_arrive_at_a_slow_reader_after_tcp_was_dropped(
    relay: RunningRelay, ends: Ends
) -> None:
    near, far = ends
    content = bytes(range(256)) * (16 * MIB // 256)
    far.writer.transport.pause_reading()  # type: ignore[attr-defined] # a read transport too

    async with asyncio.TaskGroup() as tasks:

        async def send() -> None:
            await near.send(frame(BINARY, content) + close_frame(1000, "NormalClosure"))
            near.writer.close()

        tasks.create_task(send())
        await until(lambda: relay.service.gateway.websockets.pairs.held_bytes)
        far.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert await far.message() == (BINARY, content)

    assert await far.close() == (1000, "NormalClosure")


@pytest.mark.clause(86)
@with_settings(replace(SETTINGS, half_close_idle_seconds=0.1))
async def test_who_has_gone_after_its_close_is_not_waited_for_by_the_other_for_ever(
    ends: Ends,
) -> None:
    near, far = ends
    await near.send(close_frame(1000))
    near.reset()

    assert await far.close() == (1000, "")
    assert await _never_closed(far) == b""


# --- the delay for Microsoft's Java client -------------------------------------------------------


@with_settings(replace(SETTINGS, close_forward_delay_seconds=0.5))
async def test_an_early_close_can_be_delayed_and_data_is_not(
    relay: RunningRelay, ends: Ends
) -> None:
    near, far = ends
    [pair] = relay.service.gateway.websockets.pairs

    await near.send(frame(BINARY, b"data") + close_frame(1000, "early"))
    assert await far.message() == (BINARY, b"data")
    assert not any(leg.has_passed_close for leg in (pair.sender, pair.listener))
    assert await far.close() == (1000, "early")
    assert asyncio.get_running_loop().time() >= pair.joined_at + 0.49

    await far.send(close_frame(1000, "late"))
    assert await near.close() == (1000, "late")


@with_settings(replace(SETTINGS, close_forward_delay_seconds=0.1))
async def test_two_early_closes_are_both_passed_on(ends: Ends) -> None:
    near, far = ends

    await near.send(close_frame(1000, "one"))
    assert await is_silent(far, seconds=0.03)
    await far.send(close_frame(1001, "other"))

    assert await near.close() == (1001, "other")
    assert await far.close() == (1000, "one")
    assert await rest(near) == (b"", True)
    assert await rest(far) == (b"", True)
