"""hyco-ws, as published: listener and sender over WebSocket, together and with our own."""

from __future__ import annotations

import asyncio

import pytest

from hybridge import Listener, connect
from tests.interop.programs import NodeProgram, pattern, summary
from tests.interop.relay_on_443 import ANONYMOUS, HOST, InteropRelay
from tests.support.raw import BINARY, TEXT, RelayPeers, frame

SIZES = [1, 125, 126, 65_535, 65_536, 65_537, 1 << 20]
PATH = "node-ws"


async def open_pair(listener: NodeProgram, sender: NodeProgram, **options: object) -> None:
    await sender.tell("open", **options)
    assert {(await sender.event("open"))["event"], (await listener.event("connection"))["event"]}


@pytest.mark.clause(43, 44, 75)
async def test_a_sender_that_offers_compression_meets_a_listener_with_a_header_named_0(
    ws_listener: NodeProgram, ws_sender: NodeProgram
) -> None:
    await open_pair(ws_listener, ws_sender)

    await ws_sender.tell("text", text="Grüße")

    assert await ws_sender.event("message") == {
        "event": "message",
        "type": "text",
        **summary("Grüße".encode()),
    }


@pytest.mark.clause(77, 78, 79)
async def test_messages_of_all_sizes_come_back_whole_and_with_their_type(
    ws_listener: NodeProgram, ws_sender: NodeProgram
) -> None:
    await open_pair(ws_listener, ws_sender)

    for size in SIZES:
        await ws_sender.tell("binary", size=size)
        await ws_sender.tell("text", text="x" * min(size, 70_000))

    for size in SIZES:
        binary, text = await ws_sender.event("message"), await ws_sender.event("message")
        assert (binary["type"], binary["size"]) == ("binary", size)
        assert binary["sha256"] == summary(pattern(size))["sha256"]
        assert (text["type"], text["size"]) == ("text", min(size, 70_000))


@pytest.mark.clause(82)
async def test_a_senders_close_reaches_the_listener_with_its_code_and_reason(
    ws_listener: NodeProgram, ws_sender: NodeProgram
) -> None:
    await open_pair(ws_listener, ws_sender)

    await ws_sender.tell("close", code=4001, reason="done here")

    closed = await ws_listener.event("closed")
    assert (closed["code"], closed["reason"]) == (4001, "done here")
    assert (await ws_sender.event("closed"))["code"] == 4001


@pytest.mark.clause(82)
async def test_a_listeners_close_reaches_the_sender_with_its_code_and_reason(
    ws_listener: NodeProgram, ws_sender: NodeProgram
) -> None:
    await open_pair(ws_listener, ws_sender)

    await ws_sender.tell("text", text="close 4002 enough")

    closed = await ws_sender.event("closed")
    assert (closed["code"], closed["reason"]) == (4002, "enough")
    assert (await ws_listener.event("closed"))["code"] == 4002


@pytest.mark.clause(66)
async def test_the_first_sub_protocol_that_was_offered_is_agreed(
    ws_listener: NodeProgram, ws_sender: NodeProgram
) -> None:
    await ws_sender.tell("open", protocols=["orders.v2", "orders.v1"])

    assert (await ws_sender.event("open"))["protocol"] == "orders.v2"
    assert (await ws_listener.event("connection"))["protocol"] == "orders.v2"


@pytest.mark.clause(9)
async def test_the_listener_sees_the_senders_suffix(
    ws_listener: NodeProgram, ws_sender: NodeProgram
) -> None:
    await ws_sender.tell("open", suffix="/sub/x")

    url = str((await ws_listener.event("connection"))["url"])
    assert url.startswith(f"wss://{HOST}/$hc/{PATH}/sub/x?")


@pytest.mark.clause(53)
async def test_a_listener_that_leaves_is_gone_at_once_and_its_next_one_takes_over(
    relay: InteropRelay, ws_listener: NodeProgram, ws_sender: NodeProgram
) -> None:
    await ws_listener.tell("stop")
    await ws_listener.event("left")

    await ws_sender.tell("open")
    error = await ws_sender.event("error")
    assert "404" in str(error["message"])

    async with NodeProgram("ws_listener.js", relay, PATH) as again:
        await again.event("listening")
        await ws_sender.tell("open")
        # What the old socket still tells of its end comes first.
        while (await ws_sender.next_event())["event"] != "open":
            pass


async def test_a_sender_without_a_token_is_refused_with_401(
    ws_listener: NodeProgram, ws_sender: NodeProgram
) -> None:
    await ws_sender.tell("open", anonymous=True)

    assert "401" in str((await ws_sender.event("error"))["message"])


async def test_a_sender_without_a_token_is_welcome_where_none_is_needed(
    relay: InteropRelay,
) -> None:
    async with (
        NodeProgram("ws_listener.js", relay, ANONYMOUS) as listener,
        NodeProgram("ws_sender.js", relay, ANONYMOUS) as sender,
    ):
        await listener.event("listening")
        await sender.tell("open", anonymous=True)
        await sender.event("open")
        await sender.tell("text", text="hello")
        assert (await sender.event("message"))["size"] == 5


async def test_localhost_does_as_a_namespace_too(relay: InteropRelay) -> None:
    async with (
        NodeProgram("ws_listener.js", relay, PATH, host="localhost") as listener,
        NodeProgram("ws_sender.js", relay, PATH, host="localhost") as sender,
    ):
        await listener.event("listening")
        await sender.tell("open")
        await sender.event("open")
        await sender.tell("text", text="hello")
        assert (await sender.event("message"))["size"] == 5


async def test_ten_senders_at_once_each_get_their_own_bytes_back(
    relay: InteropRelay, ws_listener: NodeProgram
) -> None:
    async def send(size: int) -> None:
        async with connect(
            relay.connection_string(PATH), ca=relay.ca, connect_to=relay.connect_to
        ) as stream:
            data = pattern(size)
            await stream.send(data)
            received = bytearray()
            while len(received) < size:
                received += await stream.receive()
            assert bytes(received) == data

    async with asyncio.TaskGroup() as tasks:
        for number in range(10):
            tasks.create_task(send(60_000 + number * 1_000), name=f"sender {number}")


async def test_our_listener_serves_a_node_sender(
    relay: InteropRelay, ws_sender: NodeProgram
) -> None:
    async with Listener(
        relay.connection_string(PATH), ca=relay.ca, connect_to=relay.connect_to
    ) as listener:
        await listener.wait_online()
        await ws_sender.tell("open")
        async for connection in listener:
            stream = await connection.accept()
            break
        async with stream:
            await ws_sender.event("open")
            await ws_sender.tell("binary", size=65_537)
            received = bytearray()
            while len(received) < 65_537:
                received += await stream.receive()
            assert bytes(received) == pattern(65_537)
            await stream.send(b"thank you")
            message = await ws_sender.event("message")
            assert (message["type"], message["size"]) == ("binary", 9)
            await ws_sender.tell("close", code=1000, reason="")
            assert await stream.receive() == b""
            await stream.send_eof()
            assert (await ws_sender.event("closed"))["code"] == 1000


@pytest.mark.clause(78)
async def test_empty_messages_and_fragments_of_a_raw_sender_reach_a_node_listener(
    relay: InteropRelay, peers: RelayPeers, ws_listener: NodeProgram
) -> None:
    async with await peers.start_sender(
        f"/$hc/{PATH}?sb-hc-action=connect", ("ServiceBusAuthorization", relay.token_for(PATH))
    ) as sender:
        assert (await sender.answer()).status == 101
        await sender.send(
            frame(TEXT, b"") + frame(BINARY, b"ab", fin=False) + frame(0, b"c", fin=True)
        )
        assert await sender.message() == (TEXT, b"")
        assert await sender.message() == (BINARY, b"abc")
