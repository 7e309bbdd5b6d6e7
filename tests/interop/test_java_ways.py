"""What the Java library does, done by raw peers: WebSocket and control channel."""

from __future__ import annotations

import random

import pytest

from tests.interop.java_peer import (
    MAX_FRAME_BYTES,
    JavaListener,
    close_and_drop,
    connect,
)
from tests.interop.relay_on_443 import InteropRelay
from tests.support.raw import BINARY, CLOSE, PING, PONG, RawPeer, frame

PATH = "java"


async def joined(relay: InteropRelay, listener: JavaListener) -> tuple[RawPeer, RawPeer]:
    sender = await connect(relay, PATH)
    near = await listener.accept()
    assert (await sender.answer()).status == 101
    return sender, near


@pytest.mark.clause(22, 25, 61, 62, 63)
async def test_its_client_signs_the_namespace_and_its_listener_finds_all_that_it_reads(
    relay: InteropRelay,
) -> None:
    async with JavaListener(relay, PATH) as listener:
        sender, near = await joined(relay, listener)
        async with sender, near:
            await sender.send(frame(BINARY, b"hello"))
            assert await near.message() == (BINARY, b"hello")


@pytest.mark.clause(47)
async def test_the_object_dump_that_it_sends_as_a_token_costs_it_the_channel_and_it_comes_back(
    relay: InteropRelay,
) -> None:
    async with JavaListener(relay, PATH) as listener:
        dump = "com.microsoft.azure.relay.SharedAccessSignatureTokenProvider$Token@1a2b3c"
        await listener.send({"renewToken": {"token": dump}})

        assert (await listener.control.close())[0] == 1008

        await listener.control.__aexit__()
        await listener.open()
        sender, near = await joined(relay, listener)
        async with sender, near:
            await near.send(frame(BINARY, b"back"))
            assert await sender.message() == (BINARY, b"back")


@pytest.mark.clause(86)
@pytest.mark.parametrize("is_turned", [False, True], ids=["sender drops", "listener drops"])
async def test_tcp_that_is_dropped_right_after_the_close_loses_nothing(
    relay: InteropRelay, is_turned: bool
) -> None:
    data = random.Random(1).randbytes(1 << 20)  # noqa: S311 - no secret
    async with JavaListener(relay, PATH) as listener:
        sender, near = await joined(relay, listener)
        writer, reader = (near, sender) if is_turned else (sender, near)
        async with writer, reader:
            await writer.send(frame(BINARY, data))
            await close_and_drop(writer, "bye")

            assert await reader.message() == (BINARY, data)
            assert await reader.close() == (1000, "bye")


@pytest.mark.clause(80)
async def test_no_frame_is_larger_than_jetty_takes(relay: InteropRelay) -> None:
    data = random.Random(2).randbytes(3 * MAX_FRAME_BYTES + 1)  # noqa: S311 - no secret
    async with JavaListener(relay, PATH) as listener:
        sender, near = await joined(relay, listener)
        async with sender, near:
            await sender.send(frame(BINARY, data))

            received = b""
            while len(received) < len(data):
                each = await near.frame()
                assert each.opcode not in (CLOSE, PING, PONG)
                assert len(each.payload) <= MAX_FRAME_BYTES
                received += each.payload
            assert received == data
