"""An HTTP head is read to its end, and not a byte more."""

from __future__ import annotations

import asyncio

import pytest

from hybridge.transport.http_head import HeadReader
from tests.support.websocket_ends import raw_pair


@pytest.mark.parametrize("cut", [1, 5, 16, 17, 18, 19, 22])
async def test_a_head_ends_with_the_blank_line_and_the_rest_is_kept(cut: int) -> None:
    data = b"GET / HTTP/1.1\r\n\r\nand more"
    async with raw_pair() as (wire, peer):
        reader = HeadReader(wire, max_bytes=100)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(reader.read())
            await peer.send(data[:cut])
            await peer.send(data[cut:])

        head = reading.result()
        assert head == b"GET / HTTP/1.1\r\n\r\n"
        assert data.startswith(head + reader.rest)


@pytest.mark.parametrize(
    ("size", "is_taken"), [(99, True), (100, True), (101, False), (500, False)]
)
async def test_a_head_has_a_longest_size(size: int, is_taken: bool) -> None:
    head = b"x" * (size - 4) + b"\r\n\r\n"
    async with raw_pair() as (wire, peer):
        reader = HeadReader(wire, max_bytes=100)
        await peer.send(head)

        assert await reader.read() == (head if is_taken else None)
        assert reader.is_too_long is not is_taken


async def test_a_head_that_never_ends_is_given_up_at_its_longest_size() -> None:
    async with raw_pair() as (wire, peer):
        reader = HeadReader(wire, max_bytes=100)
        await peer.send(b"x" * 101)

        assert await reader.read() is None
        assert reader.is_too_long


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n"])
async def test_a_peer_that_leaves_sends_no_head(sent: bytes) -> None:
    async with raw_pair() as (wire, peer):
        reader = HeadReader(wire, max_bytes=100)
        await peer.send(sent)
        peer.writer.write_eof()

        assert await reader.read() is None
        assert not reader.is_too_long
        assert reader.is_empty is not bool(sent)
