"""The application has given up, or only finished sending: the two must not be confused."""

from __future__ import annotations

import asyncio
import socket
import struct

from app_client.reset_watch import ResetWatch
from tests.support.agent_ends import sockets_pair
from tests.support.loops import run_on


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def test_a_reset_is_heard_once_also_behind_bytes_that_nobody_read() -> None:
    near, far = sockets_pair()
    heard = asyncio.Event()
    calls = []

    def on_reset() -> None:
        calls.append(1)
        heard.set()

    with near, ResetWatch(near, on_reset) as watch:
        far.send(b"x" * 1000)
        reset(far)
        await heard.wait()
        await asyncio.sleep(0)

        assert watch.was_reset
    assert calls == [1]


async def test_bytes_and_a_half_close_are_no_reset_and_are_left_alone() -> None:
    near, far = sockets_pair()
    arrived = asyncio.Event()
    with near, far:
        with ResetWatch(near, lambda: None) as watch:
            far.send(b"select 1")
            far.shutdown(socket.SHUT_WR)
            asyncio.get_running_loop().add_reader(near.fileno(), arrived.set)
            await arrived.wait()
            asyncio.get_running_loop().remove_reader(near.fileno())
            await asyncio.sleep(0)

        assert not watch.was_reset
        assert near.recv(100) == b"select 1"
        assert near.recv(100) == b""


async def test_after_the_watch_a_reset_is_not_reported() -> None:
    near, far = sockets_pair()
    with near:
        with ResetWatch(near, lambda: None) as watch:
            pass
        reset(far)
        await asyncio.sleep(0)

        assert not watch.was_reset


def test_where_the_loop_cannot_watch_nothing_is_heard_and_nothing_fails() -> None:
    async def test() -> None:
        near, far = sockets_pair()
        with near, ResetWatch(near, lambda: None) as watch:
            reset(far)
            await asyncio.sleep(0)
        assert not watch.was_reset

    run_on("unwatching", test)
