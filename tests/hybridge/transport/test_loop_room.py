"""Two event loops in two threads do not read into one another's bytes."""

from __future__ import annotations

import asyncio
import threading

from hybridge.transport.loop_room import LoopRoom, loop_room
from hybridge.transport.tcp import TcpStream
from tests.support.agent_ends import sockets_pair

PIECE_BYTES = 65_536
PIECES = 400


def test_a_thread_has_one_room_and_another_thread_another() -> None:
    rooms: list[LoopRoom] = []
    thread = threading.Thread(target=lambda: rooms.append(loop_room()))
    thread.start()
    thread.join()

    assert loop_room() is loop_room()
    assert rooms[0] is not loop_room()


def test_what_two_loops_read_at_once_is_what_was_sent_to_each() -> None:
    wrong: list[bytes] = []

    async def talk(letter: bytes) -> None:
        near, far = (TcpStream(each) for each in sockets_pair())
        piece = letter * PIECE_BYTES

        async def send() -> None:
            for _ in range(PIECES):
                await near.send(piece)
            await near.send_eof()

        async with near, far, asyncio.TaskGroup() as tasks:
            tasks.create_task(send())
            while data := await far.receive():
                if data.strip(letter):
                    wrong.append(data)
            await far.send_eof()

    threads = [threading.Thread(target=asyncio.run, args=(talk(each),)) for each in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong
