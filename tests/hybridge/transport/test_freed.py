"""A connection that broke is freed at once: the error that it keeps holds nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import weakref
from collections.abc import Iterator
from functools import partial

import pytest

from hybridge.protocol.errors import ConnectionLost
from hybridge.transport.pump import Carrier
from hybridge.transport.stream import Wire
from hybridge.transport.tls import open_tls, server_context
from tests.support.agent_ends import sockets_pair
from tests.support.loops import on_every_loop
from tests.support.relay import certificate
from tests.support.tcp_ends import Ear, reset, stream_and_socket, write_meets_reset
from tests.support.until import until


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def tls_objects() -> weakref.WeakSet[ssl.SSLObject]:
    """All that are alive: errors that other tests met may still hold some."""
    return weakref.WeakSet(each for each in gc.get_objects() if isinstance(each, ssl.SSLObject))


async def until_freed(*references: weakref.ref[Wire]) -> None:
    await until(lambda: not any(each() for each in references), within=5.0)


@on_every_loop
async def test_a_stream_whose_peer_resets_it_is_freed() -> None:
    near, far = await stream_and_socket()
    freed = weakref.ref(near)
    ear = Ear(near)
    near.attach(ear)

    reset(far)
    await ear.until(partial(ear.events.__contains__, "broken"))
    del near, ear

    await until_freed(freed)


@on_every_loop
async def test_a_stream_whose_write_meets_a_reset_is_freed() -> None:
    near, far = await stream_and_socket()
    freed = weakref.ref(near)
    ear = Ear(near)
    near.attach(ear)

    await write_meets_reset(near, lambda: reset(far))
    await ear.until(partial(ear.events.__contains__, "broken"))
    del near, ear

    await until_freed(freed)


async def _fails_to_shake_hands(sock: socket.socket) -> None:
    cert, key, _ = certificate()
    with contextlib.suppress(OSError):
        await open_tls(sock, server_context(cert, key), is_server=True)
        raise AssertionError("hands were shaken")


@on_every_loop
async def test_a_connection_whose_tls_handshake_fails_is_freed() -> None:
    before = tls_objects()
    for hello in (b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", b"\x16\x03"):
        near, far = sockets_pair()
        near.setblocking(False)
        far.sendall(hello)
        far.shutdown(socket.SHUT_WR)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_fails_to_shake_hands(near))
            del near
        del tasks

        far.close()
    await until(lambda: not set(tls_objects()) - set(before), within=5.0)


async def _carried_until_it_breaks(first: Wire, second: Wire) -> None:
    with contextlib.suppress(ConnectionLost):
        await Carrier(first, second).run()
        raise AssertionError("it ended in order")
    first.abort()
    second.abort()


@on_every_loop
async def test_what_a_pump_has_carried_is_freed_when_it_breaks() -> None:
    first, far = await stream_and_socket()
    second, other = await stream_and_socket()
    freed = [weakref.ref(first), weakref.ref(second)]

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_carried_until_it_breaks(first, second))
        del first, second
        await asyncio.sleep(0.01)
        reset(far)
    del tasks

    await until_freed(*freed)
    other.close()
