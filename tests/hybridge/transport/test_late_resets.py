"""Resets behind bytes are found on each loop by itself, though loops of a thread take turns."""

from __future__ import annotations

import asyncio

import uvloop

from hybridge.transport.late_resets import LOOK_SECONDS
from hybridge.transport.tcp import open_tcp
from tests.support.agent_ends import sockets_pair
from tests.support.tcp_ends import Ear, reset


async def _hear_the_bytes() -> Ear:
    sock, far = sockets_pair()
    near = await open_tcp(sock)
    ear = Ear(near)
    far.send(b"the last words")
    reset(far)
    near.attach(ear)
    await ear.until(lambda: bool(ear.heard))
    return ear


async def _hear_the_end(ear: Ear) -> None:
    async with asyncio.timeout(20 * LOOK_SECONDS):
        await ear.until(lambda: bool(ear.events))


def test_a_reset_is_found_though_another_loop_of_the_thread_had_its_turn_meanwhile() -> None:
    loops = [uvloop.new_event_loop() for _ in range(2)]
    try:
        ears = [loop.run_until_complete(_hear_the_bytes()) for loop in loops]
        for loop, ear in zip(loops, ears, strict=True):
            loop.run_until_complete(_hear_the_end(ear))
    finally:
        for loop in loops:
            loop.close()

    assert [ear.events for ear in ears] == [["broken"], ["broken"]]
