"""A conversation of datagrams, over a stream that does what the test says."""

from __future__ import annotations

import asyncio
import logging

import pytest

from hybridge.program import datagrams
from hybridge.program.datagrams import Conversation, carry_datagrams
from hybridge.transport.ending import Ending
from hybridge.transport.udp import ROOM_BYTES
from tests.support.scripted import ScriptedStream


def conversation(
    stream: ScriptedStream,
    came: list[bytes] | None = None,
    *,
    idle_seconds: float = 240,
    ends_with_stream: bool = True,
    is_delivered: bool = True,
) -> Conversation:
    def deliver(datagram: bytes) -> bool:
        if came is not None:
            came.append(datagram)
        return is_delivered

    return Conversation(
        stream, deliver, idle_seconds=idle_seconds, ends_with_stream=ends_with_stream
    )


def send(to: Conversation, datagram: bytes) -> None:
    room = memoryview(bytearray(ROOM_BYTES + len(datagram)))
    room[ROOM_BYTES:] = datagram
    to.send(room, ROOM_BYTES, len(room))


async def test_while_the_stream_takes_nothing_datagrams_are_lost_and_none_in_part() -> None:
    stream = ScriptedStream(takes=3)
    talk = conversation(stream, ends_with_stream=True)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(talk.run(Ending()))
        await asyncio.sleep(0)
        send(talk, b"one")
        send(talk, b"lost")
        stream.drain()
        send(talk, b"two")
        stream.end()

    assert stream.sent == b"\x00\x03one\x00\x03two"
    assert (talk.to_stream, talk.bytes_to_stream, talk.lost) == (2, 6, 1)
    assert (talk.outcome, stream.is_closed) == ("finished", True)


class Clock:
    """The event loop's clock, which jumps when the test says so."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time()
        patch.setattr(self._loop, "time", lambda: self._now)

    async def jump(self, seconds: float) -> None:
        """Let time pass, and what is due happen."""
        self._now += seconds
        for _ in range(5):
            await asyncio.sleep(0)


async def test_it_is_idle_only_after_silence_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    stream = ScriptedStream()
    came: list[bytes] = []
    talk = conversation(stream, came, idle_seconds=240)
    was_over = []
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(talk.run(Ending()))
        await clock.jump(239)
        send(talk, b"?")
        await clock.jump(239)
        stream.arrive(b"\x00\x01!")
        for seconds in (239, 0.9, 0.2):
            await clock.jump(seconds)
            was_over.append(talk.is_over)

    assert (was_over, came) == ([False, False, True], [b"!"])
    assert (talk.outcome, stream.is_closed) == ("idle", True)


async def test_asked_to_stop_it_waits_for_the_last_words_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    stream, ending = ScriptedStream(), Ending()
    talk = conversation(stream)
    was_over = []
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(talk.run(ending))
        await clock.jump(100)
        send(talk, b"?")
        ending.begin()
        for seconds in (datagrams.LAST_WORDS_SECONDS - 0.1, 0.2):
            await clock.jump(seconds)
            was_over.append(talk.is_over)

    assert was_over == [False, True]
    assert (talk.outcome, stream.is_closed) == ("stopped", True)


async def test_what_is_over_passes_nothing_on() -> None:
    stream = ScriptedStream()
    came: list[bytes] = []
    talk = conversation(stream, came)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(talk.run(Ending()))
        await asyncio.sleep(0)
        stream.end()
        send(talk, b"late")
        stream.arrive(b"\x00\x01x")

    assert talk.is_over
    assert (bytes(stream.sent), came, talk.lost) == (b"", [], 1)


@pytest.mark.parametrize("is_towards_target", [True, False])
async def test_the_log_counts_datagrams_by_where_they_went(
    is_towards_target: bool, caplog: pytest.LogCaptureFixture
) -> None:
    stream = ScriptedStream()
    talk = conversation(stream, is_delivered=False)
    with caplog.at_level(logging.INFO):
        async with asyncio.TaskGroup() as tasks:
            carrying = carry_datagrams(
                talk, Ending(), is_towards_target=is_towards_target, labels={"id": "7"}
            )
            tasks.create_task(carrying)
            await asyncio.sleep(0)
            send(talk, b"12345")
            stream.arrive(b"\x00\x01x")
            stream.break_off()

    opened, closed = (record.__dict__ for record in caplog.records)
    assert opened["event"] == "connection_opened"
    assert closed["event"] == "connection_closed"
    there, back = ("target", "sender") if is_towards_target else ("sender", "target")
    assert (closed[f"datagrams_to_{there}"], closed[f"bytes_to_{there}"]) == (1, 5)
    assert (closed[f"datagrams_to_{back}"], closed[f"bytes_to_{back}"]) == (0, 0)
    assert closed["datagrams_lost"] == 1
    assert closed["outcome"] == "the connection broke"
    assert stream.is_aborted
    assert not stream.is_closed
