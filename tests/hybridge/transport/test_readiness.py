from __future__ import annotations

import asyncio
import contextlib
import select
import socket

import pytest

from hybridge.transport.readiness import has_readiness, wait_readable, wait_writable
from hybridge.transport.sockets import has_input, has_room
from tests.support.agent_ends import sockets_pair
from tests.support.loops import UnwatchingLoop, on_every_loop
from tests.support.until import until


def fill(sock: socket.socket) -> None:
    """Send until the kernel takes no more."""
    with contextlib.suppress(BlockingIOError):
        while sock.send(b"x" * 65_536):
            pass


def empty(sock: socket.socket) -> None:
    """Receive until there is nothing more."""
    with contextlib.suppress(BlockingIOError):
        while sock.recv(262_144):
            pass


@on_every_loop
async def test_only_the_loop_that_refuses_to_watch_has_no_readiness() -> None:
    loop = asyncio.get_running_loop()

    assert has_readiness(loop) is not isinstance(loop, UnwatchingLoop)


@on_every_loop
async def test_waiting_ends_when_the_socket_is_ready() -> None:
    near, far = sockets_pair()
    with near, far:
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(wait_readable(near.fileno()))
            await asyncio.sleep(0)
            assert not waiting.done()
            far.send(b"x")
        assert near.recv(1) == b"x"

        fill(near)
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(wait_writable(near.fileno()))
            await asyncio.sleep(0)
            assert not waiting.done()

            def is_over() -> bool:
                empty(far)
                return waiting.done()

            await until(is_over)


@pytest.mark.parametrize("has_poll", [True, False])
def test_a_socket_can_be_looked_at_without_waiting(
    has_poll: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_poll:
        monkeypatch.delattr(select, "poll")
    near, far = sockets_pair()
    with near, far:
        assert not has_input(near.fileno())
        assert has_room(near.fileno())

        far.send(b"x")

        assert has_input(near.fileno())
        fill(near)
        assert not has_room(near.fileno())
