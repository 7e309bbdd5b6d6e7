"""A connection that moves from a shared rendezvous to its own loses, doubles and turns nothing."""

from __future__ import annotations

import asyncio
import random

import pytest

from hybridge.protocol.errors import ConnectionLost
from hybridge.protocol.multiplex import HEAVY_BYTES
from hybridge.transport.multiplexed_stream import MultiplexedStream
from tests.hybridge.transport.test_multiplex import Notes, ends, receive_all
from tests.support.carrier import Carrier, joined
from tests.support.until import until


async def move(near: MultiplexedStream, far: MultiplexedStream) -> tuple[Carrier, Carrier]:
    own = joined(is_shared=False)
    near.begin_move()
    far.begin_move()
    near.move_to(own[0])
    far.move_to(own[1])
    return own


async def test_what_is_sent_before_and_after_the_move_comes_in_order() -> None:
    async with ends() as both:
        near, far = await both.open()
        await near.send(b"before ")
        await far.send(b"BEFORE ")
        await move(near, far)
        await near.send(b"after")
        await far.send(b"AFTER")
        await near.send_eof()
        await far.send_eof()
        assert await receive_all(far) == b"before after"
        assert await receive_all(near) == b"BEFORE AFTER"
        assert both.opener.open_streams == both.taker.open_streams == 0


async def test_what_comes_by_the_new_way_waits_for_what_is_on_the_old_one() -> None:
    async with ends() as both:
        near, far = await both.open()
        await near.send(b"one ")
        assert await far.receive() == b"one "
        both.near.is_stuck = True
        await near.send(b"two ")
        await move(near, far)
        await near.send(b"three")
        await near.send_eof()
        waiting = asyncio.ensure_future(far.receive())  # noqa: TID251 - it shall not end yet
        await asyncio.sleep(0.01)
        assert not waiting.done()
        both.near.unstick()
        assert await waiting + await receive_all(far) == b"two three"


@pytest.mark.parametrize("ended", ["near", "far"])
async def test_a_direction_that_had_ended_stays_ended_and_the_other_moves(ended: str) -> None:
    async with ends() as both:
        near, far = await both.open()
        first, second = (near, far) if ended == "near" else (far, near)
        await first.send(b"all of it")
        await first.send_eof()
        assert await receive_all(second) == b"all of it"
        await move(near, far)
        await second.send(bytes(300_000))
        await second.send_eof()
        assert len(await receive_all(first)) == 300_000
        async with asyncio.TaskGroup() as closing:
            closing.create_task(near.close())
            closing.create_task(far.close())
        assert both.opener.open_streams == both.taker.open_streams == 0


async def test_what_the_window_held_back_goes_by_the_new_way() -> None:
    async with ends() as both:
        near, far = await both.open()
        receiver = Notes()
        far.attach(receiver)
        far.pause()
        data = bytes(range(250)) * 8_000
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(near.send(data))
            await until(lambda: near.is_blocked)
            await move(near, far)
            far.resume()
            await sending
            await near.send_eof()
            await until(lambda: "ended" in receiver.told)
        assert receiver.got == data


async def test_a_break_of_the_new_way_breaks_the_connection_and_not_the_shared_rendezvous() -> None:
    async with ends() as both:
        near, far = await both.open()
        other_near, other_far = await both.open()
        own = await move(near, far)
        own[0].abort()
        own[1].abort()
        for stream in (near, far):
            with pytest.raises(ConnectionLost):
                await stream.receive()
        await other_near.send(b"alive")
        assert await other_far.receive() == b"alive"


async def test_what_was_complete_before_the_new_way_broke_is_given_whole() -> None:
    async with ends() as both:
        near, far = await both.open()
        receiver = Notes()
        far.attach(receiver)
        far.pause()
        await near.send(b"old way, ")
        _, own = await move(near, far)
        await near.send_eof()
        await until(lambda: far._waiting is not None and far._waiting.has_ended)
        far._waiting.broken(ConnectionLost("the connection broke"))  # type: ignore[union-attr]
        far.resume()
        await until(lambda: "broken" in receiver.told)
        assert receiver.got == b"old way, "
        assert receiver.told[-2:] == ["ended", "broken"], "what this side sends goes nowhere now"
        own.abort()


async def test_a_break_of_the_new_way_is_told_where_only_writing_had_moved_there() -> None:
    async with ends() as both:
        near, far = await both.open()
        receiver = Notes()
        near.attach(receiver)
        await far.send_eof()
        await until(lambda: "ended" in receiver.told)
        own, _ = await move(near, far)
        await until(lambda: not both.opener.open_streams)
        assert near._waiting is not None
        near._waiting.ended()
        near._waiting.broken(ConnectionLost("the connection broke"))
        assert receiver.told[-1] == "broken"
        own.abort()


async def test_a_break_of_the_old_way_leaves_alone_what_has_moved() -> None:
    async with ends() as both:
        near, far = await both.open()
        await move(near, far)
        await until(lambda: not both.opener.open_streams and not both.taker.open_streams)
        both.near.abort()
        both.far.abort()
        await near.send(b"alive")
        assert await far.receive() == b"alive"
        await far.send(b"both ways")
        assert await near.receive() == b"both ways"


async def test_an_abort_breaks_it_wherever_the_other_end_reads() -> None:
    for has_settled in (False, True):
        async with ends() as both:
            near, far = await both.open()
            await move(near, far)
            if has_settled:
                await until(lambda both=both: not both.opener.open_streams)  # type: ignore[misc]
            near.abort()
            with pytest.raises(ConnectionLost):
                await far.receive()


@pytest.mark.parametrize("seed", range(60))
async def test_moved_at_any_time_every_byte_arrives_once_and_in_order(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - for a test
    async with ends(room=chance.choice([0, 5_000, 262_144])) as both:
        near, far = await both.open()
        own = joined(room=chance.choice([0, 5_000, 262_144]), is_shared=False)
        sent = [chance.randbytes(chance.choice([0, 10, 40_000, 900_000])) for _ in range(2)]

        async def send(stream: MultiplexedStream, data: bytes) -> None:
            while data:
                size = chance.choice([1, 100, 70_000, 300_000])
                await stream.send(data[:size])
                data = data[size:]
                await turns(chance)
            await stream.send_eof()

        async def receive(stream: MultiplexedStream) -> bytes:
            whole = bytearray()
            while data := await stream.receive():
                whole += data
                if chance.random() < 0.3:
                    stream.pause()
                    await turns(chance)
                    stream.resume()
            return bytes(whole)

        async def moving() -> None:
            """Do what a handshake would: the taker first, and the opener if the taker did."""
            await turns(chance, at_most=30)
            if not far.can_move:
                return
            near.begin_move()
            far.begin_move()
            far.move_to(own[1])
            await turns(chance, at_most=30)
            if near.can_move:
                near.move_to(own[0])
            else:
                own[0].abort()

        async with asyncio.TaskGroup() as tasks:
            for stream, data in ((near, sent[0]), (far, sent[1])):
                tasks.create_task(send(stream, data))
            got = [tasks.create_task(receive(stream)) for stream in (far, near)]
            tasks.create_task(moving())
        assert [each.result() for each in got] == sent


async def turns(chance: random.Random, *, at_most: int = 5) -> None:
    for _ in range(chance.randrange(at_most)):
        await asyncio.sleep(0)


async def test_what_stays_here_because_it_had_finished_is_sent_before_the_close() -> None:
    async with ends() as both:
        near, far = await both.open()
        receiver = Notes()
        far.attach(receiver)
        far.pause()
        data = bytes(range(250)) * 2_000
        room = memoryview(bytearray(24 + len(data)))
        room[24:] = data
        near.write(room, 24, len(room))  # More than the window: some is held.
        near.write_eof()
        await move(near, far)
        far.write_eof()
        assert await near.receive() == b""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(near.close())
            await asyncio.sleep(0)
            far.resume()
            await until(lambda: "ended" in receiver.told)
            tasks.create_task(far.close())
        assert receiver.got == data
        assert "broken" not in receiver.told


async def test_bulk_among_many_lively_conversations_moves_all_the_same() -> None:
    async with ends() as both:
        told: list[MultiplexedStream] = []
        both.opener.on_heavy = told.append
        bulk, bulk_far = await both.open()
        pairs = [await both.open() for _ in range(8)]

        for _ in range(2 * HEAVY_BYTES // 16_000):
            await bulk.send(bytes(16_000))
            await bulk_far.receive()
            for near, far in pairs:
                await near.send(b"lively")
                await far.receive()

        assert told == [bulk]
