"""The writer of a listener's control channel, over a socket that does as the test says."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosedError

from hybridge.control_channel import MAX_WAITING_COMMANDS, ControlChannel
from hybridge.protocol.errors import ConnectionLost
from hybridge.protocol.messages import Response


class Socket:
    """Takes one message each time it is allowed to."""

    def __init__(self) -> None:
        self.sent: list[str | bytes] = []
        self.may_send = asyncio.Semaphore(0)
        self.is_broken = False
        self.is_asked = asyncio.Event()

    async def send(self, message: str | bytes) -> None:
        self.is_asked.set()
        await self.may_send.acquire()
        if self.is_broken:
            raise ConnectionClosedError(None, None)
        self.sent.append(message)


def answer(number: int) -> Response:
    return Response(request_id=str(number), status_code=200, body=True)


def channel_over(socket: Socket) -> ControlChannel:
    return ControlChannel(cast("ClientConnection", socket))


@pytest.mark.clause(117)
async def test_a_body_follows_its_json_although_its_writer_has_been_cancelled() -> None:
    socket = Socket()
    channel = channel_over(socket)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(channel.write())
        first = tasks.create_task(channel.send(answer(1), b"one"))
        second = tasks.create_task(channel.send(answer(2), b"two"))
        third = tasks.create_task(channel.send(answer(3), b"three"))
        await socket.is_asked.wait()  # The JSON of the first is on its way.
        first.cancel()
        second.cancel()
        for _ in range(4):
            socket.may_send.release()
        await third
        writing.cancel()

    assert [each for each in socket.sent if isinstance(each, bytes)] == [b"one", b"three"]
    assert [isinstance(each, bytes) for each in socket.sent] == [False, True] * 2


async def test_commands_that_wait_to_be_written_are_bounded() -> None:
    socket = Socket()
    channel = channel_over(socket)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(channel.write())
        sending = [
            tasks.create_task(channel.send(answer(number), b"x"))
            for number in range(MAX_WAITING_COMMANDS + 1)
        ]
        await asyncio.sleep(0)
        assert len(channel._commands) == MAX_WAITING_COMMANDS
        for _ in range(2 * len(sending)):
            socket.may_send.release()
        await asyncio.wait(sending)
        assert len(socket.sent) == 2 * len(sending)
        writing.cancel()


async def test_a_channel_that_breaks_is_told_to_all_who_wait_and_to_all_who_come() -> None:
    socket = Socket()
    channel = channel_over(socket)

    async def send(number: int) -> None:
        with pytest.raises(ConnectionLost):
            await channel.send(answer(number), b"x")

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(channel.write())
        for number in range(MAX_WAITING_COMMANDS + 5):
            tasks.create_task(send(number))
        await asyncio.sleep(0)
        socket.is_broken = True
        socket.may_send.release()

    assert not channel.is_open
    await send(0)
