"""Several connections over few rendezvous, through a real relay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hybridge import IncomingConnection, Listener, multiplex_intake
from hybridge import shared_sender as module
from hybridge.protocol import multiplex_frames as frames
from hybridge.protocol.errors import ConnectionLost, HandshakeRefused
from hybridge.protocol.multiplex import HEAVY_BYTES, MOVE_HEADER, PIECE_WEIGHT_BYTES
from hybridge.sender import Sender
from hybridge.shared_sender import SharedSender
from hybridge.transport.multiplexed_stream import MultiplexedStream
from hybridge.transport.stream import RelayedStream
from hybridge.transport.websocket import WebSocketStream
from tests.support.relay import RunningRelay, running_relay
from tests.support.until import until


class CountingSender(Sender):
    """Counts the rendezvous that it opens."""

    opened: list[WebSocketStream]

    async def connect(self, **given: object) -> WebSocketStream:
        stream = await super().connect(**given)  # type: ignore[arg-type]
        self.opened.append(stream)
        return stream


def counting_sender(relay: RunningRelay) -> CountingSender:
    sender = CountingSender(relay.connection_string(), ca=relay.ca, connect_to=relay.connect_to)
    sender.opened = []
    return sender


def listener(relay: RunningRelay, *, is_multiplexing: bool = True) -> Listener:
    return Listener(
        relay.connection_string(key_name="listenrule"),
        ca=relay.ca,
        connect_to=relay.connect_to,
        is_multiplexing=is_multiplexing,
    )


async def echo(connection: IncomingConnection, subprotocol: str | None) -> None:
    stream = await connection.accept(subprotocol)
    try:
        while data := await stream.receive():
            await stream.send(data)
        await stream.close()
    except ConnectionLost:
        stream.abort()


@asynccontextmanager
async def echoing(waiting: Listener, *, takes_first: bool = False) -> AsyncIterator[Listener]:
    """Answer every sender with what it says; like .NET and Node, take the first sub-protocol."""

    async def serve() -> None:
        async with asyncio.TaskGroup() as connections:
            async for connection in waiting:
                offered = connection.subprotocols
                chosen = offered[0] if takes_first and offered else None
                connections.create_task(echo(connection, chosen))

    async with waiting, asyncio.TaskGroup() as tasks:
        await waiting.wait_online()
        serving = tasks.create_task(serve())
        yield waiting
        serving.cancel()


@asynccontextmanager
async def sharing(
    relay: RunningRelay,
) -> AsyncIterator[tuple[SharedSender, CountingSender]]:
    counting = counting_sender(relay)
    async with SharedSender(counting) as sender:
        yield sender, counting


async def say(stream: RelayedStream, text: bytes) -> bytes:
    await stream.send(text)
    return await stream.receive()


async def test_connections_share_a_rendezvous_with_a_listener_of_ours() -> None:
    async with running_relay() as relay, echoing(listener(relay)), sharing(relay) as (sender, by):
        streams = [await sender.connect() for _ in range(10)]
        assert len(by.opened) == 1
        for number, stream in enumerate(streams):
            assert isinstance(stream, MultiplexedStream)
            text = b"connection %d" % number
            assert await say(stream, text) == text
        for stream in streams:
            await stream.send_eof()
            assert await stream.receive() == b""


async def test_those_that_come_at_once_wait_for_the_first_rendezvous() -> None:
    async with running_relay() as relay, echoing(listener(relay)), sharing(relay) as (sender, by):
        async with asyncio.TaskGroup() as tasks:
            opening = [tasks.create_task(sender.connect()) for _ in range(16)]
        assert len(by.opened) == 1
        for each in opening:
            assert await say(each.result(), b"x") == b"x"
            each.result().abort()


@pytest.mark.parametrize("takes_first", [True, False])
async def test_a_listener_of_somebody_else_gets_a_rendezvous_for_each(takes_first: bool) -> None:
    async with running_relay() as relay:
        plain = listener(relay, is_multiplexing=False)
        async with echoing(plain, takes_first=takes_first), sharing(relay) as (sender, by):
            streams = [await sender.connect() for _ in range(3)]
            assert len(by.opened) == 3
            for stream in streams:
                assert isinstance(stream, WebSocketStream)
                assert await say(stream, b"plain") == b"plain"
                await stream.close()


async def test_a_refusal_reaches_the_sender_with_its_reason_and_the_rendezvous_lives() -> None:
    async with running_relay() as relay, listener(relay) as waiting, sharing(relay) as (sender, by):
        await waiting.wait_online()

        async def refuse() -> None:
            async for connection in waiting:
                await connection.reject(502, "The target db:5432 refused the connection.")

        async with asyncio.TaskGroup() as tasks:
            refusing = tasks.create_task(refuse())
            for _ in range(3):
                with pytest.raises(HandshakeRefused) as refused:
                    await sender.connect()
                assert refused.value.status == 502
                assert refused.value.reason == "The target db:5432 refused the connection."
            refusing.cancel()
        assert len(by.opened) == 1


async def test_without_a_listener_everybody_is_told_so() -> None:
    async with running_relay() as relay, sharing(relay) as (sender, _):
        results = await asyncio.gather(
            *(sender.connect() for _ in range(5)), return_exceptions=True
        )
        assert [getattr(each, "status", None) for each in results] == [404] * 5


async def test_what_one_listener_no_longer_takes_goes_to_another() -> None:
    async with (
        running_relay() as relay,
        echoing(listener(relay)) as first,
        sharing(relay) as (sender, by),
    ):
        old = await sender.connect()
        await first.stop_accepting()
        async with echoing(listener(relay)):
            await until(lambda: not next(iter(sender._shared)).can_open)
            new = await sender.connect()
            assert len(by.opened) == 2
            assert await say(old, b"goes on") == b"goes on"
            assert await say(new, b"elsewhere") == b"elsewhere"
            await old.send_eof()
            assert await old.receive() == b""
            await until(lambda: len(sender._shared) == 1)
            new.abort()


async def test_a_lost_rendezvous_breaks_its_connections_and_the_next_one_is_new() -> None:
    async with running_relay() as relay, echoing(listener(relay)), sharing(relay) as (sender, by):
        lost = await sender.connect()
        by.opened[0].broken(ConnectionLost("the connection broke"))
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(lost.receive(), 20)
        await until(lambda: not sender._shared or not next(iter(sender._shared)).can_open)
        assert await say(await sender.connect(), b"again") == b"again"


async def test_a_rendezvous_that_nobody_needs_is_closed_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "KEEP_SECONDS", 0.01)
    async with running_relay() as relay, echoing(listener(relay)), sharing(relay) as (sender, by):
        stream = await sender.connect()
        await stream.send_eof()
        assert await stream.receive() == b""
        await until(lambda: not sender._shared)
        assert await say(await sender.connect(), b"again") == b"again"
        assert len(by.opened) == 2


async def test_more_rendezvous_are_opened_when_all_are_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BUSY_STREAMS", 2)
    monkeypatch.setattr(module, "MAX_RENDEZVOUS", 3)
    async with running_relay() as relay, echoing(listener(relay)), sharing(relay) as (sender, by):
        streams = []
        for expected in (1, 1, 2, 2, 3, 3, 3):
            streams.append(await sender.connect())
            await until(lambda: sender._growth is None)
            assert len(by.opened) <= 3, expected
        assert len(by.opened) == 3
        for stream in streams:
            assert await say(stream, b"x") == b"x"


async def carry_much(stream: RelayedStream) -> None:
    """Send some megabytes to an echo, and compare."""
    data = bytes(range(256)) * 16_384

    async def receive() -> bytes:
        whole = bytearray()
        while piece := await stream.receive():
            whole += piece
        return bytes(whole)

    async with asyncio.TaskGroup() as tasks:
        receiving = tasks.create_task(receive())
        for start in range(0, len(data), 100_000):
            await stream.send(data[start : start + 100_000])
        await stream.send_eof()
    assert receiving.result() == data
    await stream.close()


async def test_a_connection_that_carries_much_moves_to_a_rendezvous_of_its_own() -> None:
    async with running_relay() as relay, echoing(listener(relay)), sharing(relay) as (sender, by):
        light, heavy = await sender.connect(), await sender.connect()
        await carry_much(heavy)
        await until(lambda: len(by.opened) == 2)
        assert by.opened[1].subprotocol == "hybridge.move"
        assert await say(light, b"still shared") == b"still shared"


async def test_a_lively_conversation_of_small_messages_moves_too() -> None:
    async with running_relay() as relay, echoing(listener(relay)), sharing(relay) as (sender, by):
        stream = await sender.connect()
        for number in range(1_000):
            text = b"query %d" % number
            assert await say(stream, text) == text
            if len(by.opened) == 2:
                break
        await until(lambda: len(by.opened) == 2)
        assert await say(stream, b"the same connection") == b"the same connection"
        await stream.close()


async def test_one_of_many_lively_conversations_stays_where_they_leave_together() -> None:
    async with running_relay() as relay, echoing(listener(relay)), sharing(relay) as (sender, by):
        streams = [await sender.connect() for _ in range(8)]

        async def converse(stream: RelayedStream) -> None:
            for number in range(HEAVY_BYTES // PIECE_WEIGHT_BYTES):
                text = b"query %d" % number
                assert await say(stream, text) == text

        async with asyncio.TaskGroup() as tasks:
            for stream in streams:
                tasks.create_task(converse(stream))

        assert len(by.opened) == 1


class UnmovedSender(CountingSender):
    """The relay gives each rendezvous for a move to another listener, which does not know it."""

    refused = 0

    async def connect(self, **given: object) -> WebSocketStream:
        if given.get("subprotocols") == module.MOVE_OFFER:
            self.refused += 1
            raise HandshakeRefused(410, "The connection is not here, or has ended.")
        return await super().connect(**given)


async def test_one_whose_move_reaches_another_listener_stays_where_it_is() -> None:
    async with running_relay() as relay, echoing(listener(relay)):
        unmoved = UnmovedSender(relay.connection_string(), ca=relay.ca, connect_to=relay.connect_to)
        unmoved.opened = []
        async with SharedSender(unmoved) as sender:
            await carry_much(await sender.connect())
            assert len(unmoved.opened) == 1
            assert 1 <= unmoved.refused <= 3, "it is not asked for again and again"


async def test_a_stranger_cannot_move_a_connection_to_himself() -> None:
    async with running_relay() as relay, echoing(listener(relay)), sharing(relay) as (sender, _):
        stream = await sender.connect()
        thief = counting_sender(relay)
        with pytest.raises(HandshakeRefused) as refused:
            await thief.connect(
                headers=[(MOVE_HEADER, f"{bytes(16).hex()}-1")], subprotocols=module.MOVE_OFFER
            )
        assert refused.value.status == 410
        assert await say(stream, b"mine") == b"mine"


@pytest.mark.parametrize("number", ["9" * 5_000, "1", ""])
async def test_a_token_of_nonsense_harms_no_connection(number: str) -> None:
    async with running_relay() as relay, echoing(listener(relay)), sharing(relay) as (sender, _):
        stream = await sender.connect()
        with pytest.raises(HandshakeRefused) as refused:
            await counting_sender(relay).connect(
                headers=[(MOVE_HEADER, f"{'ab' * 16}-{number}")], subprotocols=module.MOVE_OFFER
            )
        assert refused.value.status == 410
        assert await say(stream, b"still here") == b"still here"


async def test_a_listener_that_leaves_lets_go_what_its_last_connections_said() -> None:
    async with running_relay() as relay, sharing(relay) as (sender, by):
        answer = bytes(60_000)

        async def answered(stream: RelayedStream) -> None:
            await stream.send(answer)
            await stream.close()

        async with listener(relay) as waiting, asyncio.TaskGroup() as tasks:
            await waiting.wait_online()
            opening = [tasks.create_task(sender.connect()) for _ in range(100)]
            accepted = [await (await anext(waiting)).accept() for _ in opening]
            streams = [await each for each in opening]
            for stream in streams:
                await stream.send_eof()
            await waiting.stop_accepting()
            # More than a machine takes for others: some of it is still on the way at the end.
            by.opened[0]._wire.pause()
            answering = [tasks.create_task(answered(stream)) for stream in accepted]
            await until(lambda: any(each.done() for each in answering))
            asyncio.get_running_loop().call_later(0.05, by.opened[0]._wire.resume)
        for stream in streams:
            got = b""
            while data := await stream.receive():
                got += data
            assert got == answer


async def test_an_opening_that_crosses_a_listeners_leaving_is_answered_at_once() -> None:
    async with (
        running_relay() as relay,
        sharing(relay) as (sender, _),
        echoing(listener(relay)) as waiting,
    ):
        stream = await sender.connect()
        await waiting.stop_accepting()
        shared = next(iter(sender._shared))
        await until(lambda: not shared.can_open)
        shared.machine.is_left = False  # As if GOAWAY were still on the way.
        asyncio.get_running_loop().call_soon(setattr, shared.machine, "is_left", True)
        with pytest.raises(HandshakeRefused) as refused:
            await sender.connect()
        assert refused.value.status == 404
        assert await say(stream, b"goes on") == b"goes on"


async def test_a_listener_joins_only_so_many_rendezvous_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(multiplex_intake, "MAX_SHARED_RENDEZVOUS", 2)
    monkeypatch.setattr(multiplex_intake, "MAX_MOVES", 0)
    async with running_relay() as relay, echoing(listener(relay)), sharing(relay) as (sender, by):
        stream = await sender.connect()
        async with asyncio.TaskGroup() as tasks:
            opening = [tasks.create_task(by.connect(subprotocols=module.OFFER)) for _ in range(10)]
        assert [each.result().subprotocol for each in opening].count("hybridge.mux") == 1
        for each in opening:
            each.result().abort()
        await carry_much(stream)


class SlowFirst(CountingSender):
    """Whose first rendezvous is answered only when it may be, and then refused."""

    may_answer: asyncio.Event

    async def connect(self, **given: object) -> WebSocketStream:
        if not self.opened:
            self.opened.append(WebSocketStream.__new__(WebSocketStream))
            await self.may_answer.wait()
            raise HandshakeRefused(504, "The target does not answer.")
        return await super().connect(**given)


async def test_nobody_waits_long_for_a_first_rendezvous_that_is_not_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_SECONDS", 0.01)
    async with running_relay() as relay, echoing(listener(relay)):
        slow = SlowFirst(relay.connection_string(), ca=relay.ca, connect_to=relay.connect_to)
        slow.opened, slow.may_answer = [], asyncio.Event()
        async with SharedSender(slow) as sender, asyncio.TaskGroup() as tasks:

            async def refused() -> None:
                with pytest.raises(HandshakeRefused):
                    await sender.connect()

            tasks.create_task(refused())
            await until(lambda: sender._first is not None)
            stream = await sender.connect()
            assert await say(stream, b"quick") == b"quick"
            slow.may_answer.set()


async def test_those_that_ask_and_give_up_at_once_are_not_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running_relay() as relay, listener(relay) as waiting:
        await waiting.wait_online()
        hostile = await counting_sender(relay).connect(subprotocols=module.OFFER)
        gone = b"".join(
            frames.opening(number, "gone") + frames.frame(frames.Kind.ABORT, number)
            for number in range(1, 1_500)
        )
        hello = frames.Hello(window=1, max_streams=0, secret=bytes(16))
        await hostile.send(hello.serialize() + gone + frames.opening(1_500, "here"))
        assert (await anext(waiting)).id == "here"
        await hostile.send(gone[:8] * 2)
        await until(lambda: "used before" in caplog.text)
        hostile.abort()
    (violation,) = [each for each in caplog.records if "used before" in each.getMessage()]
    assert violation.__dict__["hybrid_connection"] == "hc1"
    assert len([each for each in caplog.records if "dropped a sender" in each.getMessage()]) <= 1


class LosingSender(CountingSender):
    """Whose first rendezvous is lost before its listener says hello."""

    async def connect(self, **given: object) -> WebSocketStream:
        stream = await super().connect(**given)
        if len(self.opened) == 1:
            loop = asyncio.get_running_loop()
            # At the turn after the one in which it is attached.
            loop.call_soon(loop.call_soon, stream.broken, ConnectionLost("lost"))
        return stream


async def test_one_that_is_lost_before_it_is_ready_is_tried_once_more() -> None:
    async with running_relay() as relay, echoing(listener(relay)):
        losing = LosingSender(relay.connection_string(), ca=relay.ca, connect_to=relay.connect_to)
        losing.opened = []
        async with SharedSender(losing) as sender:
            assert await say(await sender.connect(), b"again") == b"again"
            assert len(losing.opened) == 2
