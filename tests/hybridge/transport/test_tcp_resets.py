"""A TCP connection as a byte stream: resets, aborts and writes that fail."""

from __future__ import annotations

import asyncio
import socket

import pytest

from hybridge.protocol.errors import ConnectionLost
from hybridge.transport.pump import pump
from hybridge.transport.socket_stream import READ_BYTES
from hybridge.transport.tcp import open_tcp
from tests.support.agent_ends import sockets_pair
from tests.support.loops import on_every_loop
from tests.support.tcp_ends import (
    Ear,
    broken,
    read_to_end,
    reset,
    stream_and_socket,
    streams,
    write_meets_reset,
)
from tests.support.until import until


@on_every_loop
async def test_a_reset_that_comes_with_the_data_stays_a_reset_for_who_resumes() -> None:
    near, far = await stream_and_socket()
    first, second = Ear(near), Ear(near)
    first.on_data = near.pause
    far.send(b"x" * 20_000)
    await asyncio.sleep(0)
    reset(far)

    near.attach(first)
    await first.until(lambda: bool(first.heard or first.events))
    near.attach(second)
    near.resume()
    if not first.events:
        await second.until(lambda: bool(second.events))

    assert first.events + second.events == ["broken"]


@on_every_loop
async def test_an_abort_looks_like_an_abort() -> None:
    near, far = await stream_and_socket()
    ear = Ear(near)
    near.attach(ear)
    near.send_now(b"half of it")

    near.abort()

    with pytest.raises(ConnectionResetError):
        await read_to_end(far)
    assert not near.is_open
    assert ear.events == []
    far.close()


@on_every_loop
async def test_a_reset_is_a_broken_connection_and_all_before_it_is_delivered() -> None:
    near, far = await stream_and_socket()
    ear = Ear(near)
    near.attach(ear)
    far.send(b"so far")
    await ear.until(lambda: bool(ear.heard))

    reset(far)
    await ear.until(lambda: bool(ear.events))

    assert (bytes(ear.heard), ear.events) == (b"so far", ["broken"])
    assert not near.is_open


@on_every_loop
async def test_a_reset_that_comes_right_behind_the_bytes_is_not_missed() -> None:
    near, far = await stream_and_socket()
    ear = Ear(near)
    far.send(b"the last words")
    reset(far)

    near.attach(ear)
    await ear.until(lambda: bool(ear.events))

    assert (bytes(ear.heard), ear.events) == (b"the last words", ["broken"])


@on_every_loop
async def test_a_reset_behind_exactly_one_read_is_not_missed() -> None:
    sock, far = sockets_pair()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * READ_BYTES)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * READ_BYTES)
    sent = 0
    while sent < READ_BYTES:
        sent += far.send(bytes(READ_BYTES - sent))
    await until(lambda: len(sock.recv(2 * READ_BYTES, socket.MSG_PEEK)) == READ_BYTES)
    reset(far)
    near = await open_tcp(sock)
    ear = Ear(near)

    near.attach(ear)
    await ear.until(lambda: bool(ear.events))

    assert len(ear.heard) == READ_BYTES
    assert ear.events == ["broken"]


@on_every_loop
async def test_an_orderly_end_that_a_reset_follows_stays_an_end() -> None:
    near, far = await stream_and_socket()
    ear = Ear(near)
    far.send(b"the whole answer")
    far.shutdown(socket.SHUT_WR)
    reset(far)

    near.attach(ear)
    await ear.until(lambda: bool(ear.events))

    assert (bytes(ear.heard), ear.events) == (b"the whole answer", ["ended"])
    near.abort()


@on_every_loop
async def test_an_abort_ends_a_close_that_waits_for_the_peer_and_frees_its_descriptor() -> None:
    near, far = await stream_and_socket()
    async with asyncio.TaskGroup() as tasks:
        closing = tasks.create_task(near.close())
        assert await read_to_end(far) == b""
        near.abort()
        async with asyncio.timeout(20):
            await closing
    far.close()

    # The descriptors are used again: nothing may still be registered for them.
    again, peer = await streams()
    await again.send(b"hello")
    assert await peer.receive() == b"hello"
    again.abort()
    peer.abort()


@on_every_loop
async def test_a_failed_write_does_not_cost_what_the_peer_had_sent() -> None:
    near, far = await stream_and_socket()
    ear = Ear(near)
    near.attach(ear)
    near.pause()
    far.send(b"the answer")
    # Closed with unread bytes: that is a reset, which our next write meets.
    near.send_now(b"unread")
    await asyncio.sleep(0)
    far.close()
    for _ in range(3):
        near.send_now(b"more")
        await asyncio.sleep(0.01)

    near.resume()
    await ear.until(lambda: "broken" in ear.events)

    assert ear.heard == b"the answer"
    assert not near.is_open


@on_every_loop
async def test_a_reset_that_a_write_meets_first_is_not_missed() -> None:
    near, far = await stream_and_socket()
    ear = Ear(near)
    near.attach(ear)

    def leave() -> None:
        far.send(b"the last words")
        reset(far)

    await write_meets_reset(near, leave)
    await ear.until(lambda: "broken" in ear.events)

    assert ear.heard == b"the last words"
    assert not near.is_open


@on_every_loop
async def test_a_reset_that_a_write_met_while_paused_is_told_with_all_before_it_on_resuming() -> (
    None
):
    near, far = await stream_and_socket()
    ear = Ear(near)
    near.attach(ear)
    near.pause()

    def leave() -> None:
        far.send(b"the last words")
        reset(far)

    await write_meets_reset(near, leave)
    for _ in range(10):
        await asyncio.sleep(0)
    assert (bytes(ear.heard), near.is_open) == (b"", True)

    near.resume()
    await ear.until(lambda: "broken" in ear.events)

    assert ear.heard == b"the last words"


@on_every_loop
async def test_who_pauses_in_the_read_after_a_failed_write_hears_of_the_reset_on_resuming() -> None:
    near, far = await stream_and_socket()
    ear = Ear(near)
    ear.on_data = near.pause
    near.attach(ear)

    def leave() -> None:
        far.send(b"the last words")
        reset(far)

    await write_meets_reset(near, leave)
    await ear.until(lambda: bool(ear.heard or ear.events))
    near.resume()
    await ear.until(lambda: "broken" in ear.events)

    assert ear.heard == b"the last words"


@on_every_loop
async def test_a_write_error_after_the_peers_end_is_told() -> None:
    near, far = await stream_and_socket()
    ear = Ear(near)
    near.attach(ear)
    far.shutdown(socket.SHUT_WR)
    await ear.until(lambda: ear.events == ["ended"])
    reset(far)

    while "broken" not in ear.events:
        near.send_now(b"more")
        await asyncio.sleep(0)

    assert ear.events[-1] == "broken"
    near.send_now(b"into the void")
    near.write_eof()
    assert not near.is_blocked


@on_every_loop
async def test_after_the_end_receive_gives_the_end_also_where_writing_has_failed() -> None:
    near, far = await stream_and_socket()
    far.shutdown(socket.SHUT_WR)
    assert await near.receive() == b""
    reset(far)

    with pytest.raises(ConnectionLost):  # noqa: PT012 - the first writes may still be taken
        while True:
            await near.send(b"more")
            await asyncio.sleep(0)
    assert await near.receive() == b""


@on_every_loop
async def test_the_pump_passes_a_reset_on() -> None:
    app, near = await stream_and_socket()
    far, target = await streams()
    async with asyncio.TaskGroup() as tasks:
        receiving = tasks.create_task(broken(target))
        reset(near)
        with pytest.raises(ConnectionLost):
            await pump(app, far)
        assert await receiving
