"""TCP streams, on event loops that watch sockets and on one that cannot."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket

import pytest

from hybridge.protocol.errors import TargetRefused
from hybridge.transport.listening import open_sockets
from hybridge.transport.loop_stream import LoopStream
from hybridge.transport.pump import pump
from hybridge.transport.tcp import TcpStream, dial_tcp, open_tcp
from tests.support.agent_ends import free_port, sockets_pair
from tests.support.loops import on_every_loop, run_on
from tests.support.tcp_ends import (
    BULK,
    Ear,
    read_to_end,
    receive_all,
    stream_and_socket,
    streams,
)
from tests.support.until import until


def test_the_loop_decides_which_stream_it_is() -> None:
    async def watching() -> None:
        stream, far = await stream_and_socket()
        assert isinstance(stream, TcpStream)
        stream.abort()
        far.close()

    async def unwatching() -> None:
        stream, far = await stream_and_socket()
        assert isinstance(stream, LoopStream)
        stream.abort()
        far.close()

    run_on("asyncio", watching)
    run_on("uvloop", watching)
    run_on("unwatching", unwatching)


@on_every_loop
async def test_bytes_go_both_ways_at_once_and_each_way_ends_on_its_own() -> None:
    near, far = await streams()

    async def serve() -> bytes:
        request = await receive_all(far)
        await far.send(request[::-1])
        await far.send_eof()
        return request

    async with near, far, asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(serve())
        await near.send(BULK)
        await near.send_eof()

        assert await receive_all(near) == BULK[::-1]
        assert await serving == BULK


@on_every_loop
async def test_a_dialled_stream_carries_bytes() -> None:
    (listening,) = open_sockets("127.0.0.1", 0, flag="--port")
    with listening:
        near = await dial_tcp("127.0.0.1", listening.getsockname()[1])
        far, _ = await asyncio.get_running_loop().sock_accept(listening)
    peer = await open_tcp(far)
    await near.send(b"select 1")

    assert await peer.receive() == b"select 1"
    near.abort()
    peer.abort()


@on_every_loop
async def test_a_closed_port_is_a_refused_target() -> None:
    with pytest.raises(TargetRefused):
        await dial_tcp("127.0.0.1", free_port())


@on_every_loop
async def test_a_reader_that_pauses_holds_the_sender_back_and_then_gets_everything() -> None:
    near, far = await streams()
    ear = Ear(far)
    far.attach(ear)
    far.pause()

    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(near.send(BULK * 4))
        await until(lambda: near.is_blocked)
        for _ in range(1_000):
            await asyncio.sleep(0)
        assert not sending.done()
        assert ear.heard == b""
        assert near.held_bytes <= 65_536

        far.resume()
        await ear.until(lambda: len(ear.heard) == 4 * len(BULK))
    assert ear.heard == BULK * 4
    near.abort()
    far.abort()


@on_every_loop
async def test_what_a_paused_stream_was_sent_comes_before_the_end_when_it_resumes() -> None:
    near, far = await stream_and_socket()
    ear = Ear(near)
    near.attach(ear)
    near.pause()
    far.send(b"the last words")
    far.shutdown(socket.SHUT_WR)
    for _ in range(10):
        await asyncio.sleep(0)
    assert (bytes(ear.heard), ear.events) == (b"", [])
    assert near.has_input()

    near.resume()
    await ear.until(lambda: ear.events == ["ended"])

    assert ear.heard == b"the last words"
    near.abort()
    far.close()


@on_every_loop
async def test_an_end_that_comes_with_the_data_is_told_to_the_receiver_that_resumes() -> None:
    near, far = await stream_and_socket()
    first, second = Ear(near), Ear(near)
    first.on_data = near.pause
    # Large enough that the read that takes it asks once more, and sees the end.
    far.send(b"x" * 20_000)
    far.shutdown(socket.SHUT_WR)

    near.attach(first)
    await first.until(lambda: bool(first.heard))
    near.attach(second)
    near.resume()
    await second.until(lambda: bool(second.events))

    assert first.heard + second.heard == b"x" * 20_000
    assert (first.events, second.events) == ([], ["ended"])
    near.abort()
    far.close()


@on_every_loop
async def test_close_writes_what_is_held_and_ends_in_order() -> None:
    near, far = await stream_and_socket()
    near.send_now(BULK * 4)
    assert near.is_blocked

    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read_to_end(far))
        closing = tasks.create_task(near.close())
        received = await reading
        far.close()
        await closing

    assert received == BULK * 4
    assert not near.is_open


@on_every_loop
async def test_close_gives_a_peer_up_that_takes_nothing() -> None:
    near, far = await stream_and_socket()
    near.send_now(BULK * 4)

    await near.close(stall_seconds=0.05)

    assert not near.is_open
    with pytest.raises(ConnectionResetError):
        await read_to_end(far)
    far.close()


@on_every_loop
async def test_a_close_that_is_cancelled_before_all_is_written_is_no_orderly_end() -> None:
    near, far = await stream_and_socket()
    near.send_now(BULK * 4)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await near.close()

    with pytest.raises(ConnectionResetError):
        await read_to_end(far)
    assert not near.is_open
    far.close()


@on_every_loop
async def test_two_who_close_the_same_stream_both_return() -> None:
    near, far = await stream_and_socket()
    near.send_now(BULK)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(near.close())
        tasks.create_task(near.close())
        reading = tasks.create_task(read_to_end(far))
        assert await reading == BULK
        far.close()


@on_every_loop
async def test_a_stream_that_closes_is_not_made_to_read_again() -> None:
    near, far = await stream_and_socket()
    ear = Ear(near)
    near.attach(ear)
    async with asyncio.TaskGroup() as tasks:
        closing = tasks.create_task(near.close())
        assert await read_to_end(far) == b""
        near.resume()
        far.send(b"too late")
        far.close()
        await closing

    assert (bytes(ear.heard), ear.events) == (b"", [])


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "unwatching"])
@pytest.mark.parametrize("where", ["data", "ended", "drained"])
def test_a_bug_in_a_receiver_is_loud_and_ends_this_connection(
    loop: str, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        near, far = await stream_and_socket()
        ear = Ear(near)

        def fail(*_: object) -> None:
            raise ZeroDivisionError("a bug")

        setattr(ear, where, fail)
        near.attach(ear)
        if where == "data":
            far.send(b"x")
        elif where == "ended":
            far.shutdown(socket.SHUT_WR)
        else:
            near.send_now(BULK)
            assert near.is_blocked
            with pytest.raises(ConnectionResetError):
                await read_to_end(far)
        await ear.until(lambda: "broken" in ear.events)
        assert not near.is_open
        far.close()

    with caplog.at_level(logging.ERROR):
        run_on(loop, test)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


@on_every_loop
async def test_the_pump_slows_a_fast_side_down_and_loses_nothing() -> None:
    app, near = await streams()
    far, target = await streams()

    async with asyncio.TaskGroup() as tasks:
        pumping = tasks.create_task(pump(near, far))
        sending = tasks.create_task(app.send(BULK * 4))
        await until(lambda: far.is_blocked and app.is_blocked)
        assert not sending.done()
        received = bytearray()
        while len(received) < 4 * len(BULK):
            received += await target.receive()
        assert received == BULK * 4
        await app.send_eof()
        assert await target.receive() == b""
        await target.send(b"late answer")
        await target.send_eof()
        assert await receive_all(app) == b"late answer"
        traffic = await pumping
        for stream in (near, far, app, target):
            tasks.create_task(stream.close())
    assert (traffic.forward, traffic.backward) == (4 * len(BULK), 11)


async def test_a_socket_that_refuses_its_options_is_a_stream_all_the_same() -> None:
    class Stubborn(socket.socket):
        def setsockopt(self, *_: object) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

    near, far = sockets_pair()
    stream = TcpStream(Stubborn(fileno=near.detach()))

    far.send(b"hello")

    assert await stream.receive() == b"hello"
    stream.abort()
    far.close()
