"""An echo service on-premises, from tests that wait and from tests that block."""

import asyncio
import socket

import pytest


async def test_bytes_come_back(hybrid_connection, echo_service, connect):
    async with connect(hybrid_connection(echo_service)) as (reader, writer):
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"


@pytest.mark.parametrize("size", [1, 65_536, 1_000_000])
async def test_of_any_size(hybrid_connection, echo_service, connect, size):
    data = bytes(range(256)) * (size // 256 + 1)
    async with connect(hybrid_connection(echo_service)) as (reader, writer):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_write(writer, data[:size]))
            received = tasks.create_task(reader.readexactly(size))
        assert received.result() == data[:size]


async def _write(writer, data):
    writer.write(data)
    await writer.drain()


async def test_many_at_once(hybrid_connection, echo_service, connect):
    way = hybrid_connection(echo_service)

    async def one(number):
        async with connect(way) as (reader, writer):
            writer.write(b"%3d" % number)
            return await reader.readexactly(3)

    async with asyncio.TaskGroup() as tasks:
        answers = [tasks.create_task(one(number)) for number in range(20)]
    assert [int(each.result()) for each in answers] == list(range(20))


def test_a_stalled_network_is_waited_for(hybrid_connection, echo_service):
    way = hybrid_connection(echo_service)
    with socket.create_connection(way.local_address, timeout=0.2) as sock:
        with way.stall():
            sock.sendall(b"slow")
            with pytest.raises(TimeoutError):
                sock.recv(4)
        sock.settimeout(30)
        assert sock.recv(4) == b"slow"
