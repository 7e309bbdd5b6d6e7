"""Our client at an azbridge listener, played by a raw peer, through the real relay (section 10)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from app_client import udp_forwarder
from app_client.client import Client
from app_client.settings import ClientSettings, Forward
from hybridge.program.lifetime import Lifetime
from hybridge.protocol import connection_string
from hybridge.protocol.azbridge import Mode
from hybridge.protocol.errors import ConnectionLost
from hybridge.transport.tcp import dial_tcp
from hybridge.transport.timing import Timing
from tests.support.agent_ends import receive_all
from tests.support.azbridge import Datagrams, binary, closed, say
from tests.support.meeting import is_silent, listening, rest
from tests.support.raw import BINARY, RawPeer, RelayPeers, close_frame, frame
from tests.support.relay import running_relay
from tests.support.wire import accept_of


@dataclass
class Running:
    """A client, and the control channel of the listener behind the relay."""

    peers: RelayPeers
    control: RawPeer
    address: tuple[str, int]

    async def accept(self) -> RawPeer:
        """Accept the next sender, as the listener."""
        accept = await accept_of(self.control)
        peer, answer = await self.peers.visit(str(accept["address"]))
        assert answer.status == 101
        return peer


@contextlib.asynccontextmanager
async def forwarding(
    port_name: str | None = "test",
    *,
    mode: Mode = Mode.STREAM,
    idle_seconds: float = 240,
    connect_seconds: float = 45,
) -> AsyncIterator[Running]:
    """A relay, a raw listener, and a client with one local port."""
    async with running_relay() as relay:
        peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        forward = Forward(
            connection_string=connection_string.parse(relay.connection_string()),
            listen=("127.0.0.1", 0),
            mode=mode,
            is_azbridge=True,
            port_name=port_name,
        )
        settings = ClientSettings(
            forwards=(forward,),
            ca=relay.ca,
            connect_to=relay.connect_to,
            timing=Timing(connect_timeout_seconds=connect_seconds, close_timeout_seconds=0.5),
            datagram_idle_seconds=idle_seconds,
        )
        opened: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        lifetime = Lifetime()
        client = Client(
            settings,
            max_connections=10,
            announce=lambda _, address: opened.put_nowait(address),
        )
        async with listening(relay, peers) as control, asyncio.TaskGroup() as tasks:
            tasks.create_task(client.run(lifetime))
            yield Running(peers, control, await opened.get())
            lifetime.stop()


# --- streams -------------------------------------------------------------------------------------


@pytest.mark.clause(129, 130)
async def test_the_port_is_asked_for_in_two_messages_and_nothing_more_before_the_answer() -> None:
    async with forwarding() as running:
        application = await dial_tcp(*running.address)
        await application.send(b"select 1")
        await application.send_eof()
        async with await running.accept() as listener:
            assert await binary(listener) == b"\x01\x00\x00\x04"
            assert await binary(listener) == b"test"
            assert await is_silent(listener)

            await say(listener, b"\x01", b"\x00", b"\x00one", b" row")
            assert await binary(listener) == b"select 1"
            assert await closed(listener) == 1000
            await listener.send(close_frame(1000, "Shutdown"))
            assert await receive_all(application) == b"one row"
        await application.close()


@pytest.mark.clause(130)
async def test_the_listeners_end_leaves_the_other_direction_open() -> None:
    async with forwarding() as running:
        application = await dial_tcp(*running.address)
        async with await running.accept() as listener:
            await listener.send(frame(BINARY, b"\x01\x00\x00") + close_frame(1000, "Shutdown"))
            assert await receive_all(application) == b""
            await application.send(b"still here")
            await application.send_eof()

            assert [await binary(listener) for _ in range(3)] == [
                b"\x01\x00\x00\x04",
                b"test",
                b"still here",
            ]
            assert await closed(listener) == 1000
        await application.close()


async def test_a_break_looks_broken_at_both_sides() -> None:
    async with forwarding() as running:
        application = await dial_tcp(*running.address)
        async with await running.accept() as listener:
            await say(listener, b"\x01\x00\x00")
            assert await binary(listener) + await binary(listener) == b"\x01\x00\x00\x04test"
            listener.reset()
            with pytest.raises(ConnectionLost):
                await application.receive()

        application = await dial_tcp(*running.address)
        async with await running.accept() as listener:
            await say(listener, b"\x01\x00\x00")
            assert await binary(listener) + await binary(listener) == b"\x01\x00\x00\x04test"
            application.abort()
            assert await rest(listener) == (b"", False)


async def test_the_default_name_is_the_local_ports_number() -> None:
    async with forwarding(None) as running:
        name = str(running.address[1]).encode()
        application = await dial_tcp(*running.address)
        async with await running.accept() as listener:
            assert await binary(listener) == bytes((1, 0, 0, len(name)))
            assert await binary(listener) == name
        application.abort()


async def test_the_default_name_of_a_udp_port_has_a_u_behind_the_number() -> None:
    async with forwarding(None, mode=Mode.DATAGRAM) as running:
        name = str(running.address[1]).encode() + b"U"
        with Datagrams() as application:
            application.send(b"x", running.address)
            async with await running.accept() as listener:
                assert await binary(listener) == bytes((1, 0, 1, len(name)))
                assert await binary(listener) == name


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"\x00\x00\x00", "does not understand azbridge's preamble"),
        (b"\x00\x00\x01", "'test' takes datagrams, and no stream"),
        (b"\x00\x00\xff", "'test' is a stream, and takes no datagrams"),
        (b"", "no port 'test'"),
        (b"\x01\x00\x01", "the answer 01 00 01 is none of azbridge's"),
        (b"\x01\x00", "the answer 01 00 is none of azbridge's"),
        (b"\x01\x01\x00", "the answer 01 01 00 is none of azbridge's"),
        (b"SSH-2.0", "the answer 53 53 48 is none of azbridge's"),
    ],
)
async def test_any_other_answer_resets_the_application_and_ends_the_connection_in_order(
    reply: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "app_client"):
        async with forwarding() as running:
            application = await dial_tcp(*running.address)
            async with await running.accept() as listener:
                assert await binary(listener) + await binary(listener) == b"\x01\x00\x00\x04test"
                await say(listener, *([reply] if reply else []))
                await listener.send(close_frame(1000))

                assert await closed(listener) == 1000
                with pytest.raises(ConnectionLost, match="reset"):
                    await application.receive()

    (record,) = (each for each in caplog.records if each.name.startswith("app_client"))
    assert record.__dict__["event"] == "connection_refused"
    assert reason in record.getMessage()
    assert record.__dict__["hint"]


async def test_without_an_answer_the_application_is_reset_at_the_deadline() -> None:
    async with forwarding(connect_seconds=1.0) as running:
        application = await dial_tcp(*running.address)
        async with await running.accept() as listener:
            with pytest.raises(ConnectionLost, match="reset"):
                await application.receive()
            assert not await listener.ended()


# --- datagrams -----------------------------------------------------------------------------------

UDP_HEAD = b"\x01\x00\x01\x04"


@pytest.mark.clause(131)
async def test_datagrams_pass_both_ways_one_in_one_message_with_their_length_in_front() -> None:
    async with forwarding(mode=Mode.DATAGRAM) as running:
        with Datagrams() as application:
            application.send(b"one", running.address)
            application.send(b"", running.address)
            async with await running.accept() as listener:
                assert await binary(listener) == UDP_HEAD
                assert await binary(listener) == b"test"
                assert await is_silent(listener)
                await say(listener, b"\x01\x00\x01")
                assert await binary(listener) == b"\x00\x03one"
                assert await binary(listener) == b"\x00\x00"

                for size in (0, 1, 255, 256, 65_507):
                    datagram = bytes(each % 251 for each in range(size))
                    framed = bytes((size // 256, size % 256)) + datagram
                    application.send(datagram, running.address)
                    assert await binary(listener) == framed
                    await say(listener, framed)
                    assert await application.receive() == (datagram, running.address)

                await say(listener, *(bytes([each]) for each in b"\x00\x02ab\x00\x00\x00\x01c"))
                assert [await application.data() for _ in range(3)] == [b"ab", b"", b"c"]


async def test_silent_datagrams_are_closed_in_order() -> None:
    async with forwarding(mode=Mode.DATAGRAM, idle_seconds=0.3) as running:
        with Datagrams() as application:
            application.send(b"one", running.address)
            async with await running.accept() as listener:
                await say(listener, b"\x01\x00\x01")
                assert await binary(listener) + await binary(listener) == UDP_HEAD + b"test"
                assert await binary(listener) == b"\x00\x03one"

                assert await closed(listener) == 1000


@pytest.mark.clause(131)
async def test_each_local_peer_has_a_connection_of_its_own() -> None:
    async with forwarding(mode=Mode.DATAGRAM) as running, contextlib.AsyncExitStack() as opened:
        with Datagrams() as one, Datagrams() as two:
            for application, text in ((one, b"1"), (two, b"2")):
                application.send(text, running.address)
                listener = await opened.enter_async_context(await running.accept())
                await say(listener, b"\x01\x00\x01", b"\x00\x01" + text)
                assert await binary(listener) + await binary(listener) == UDP_HEAD + b"test"
                assert await binary(listener) == b"\x00\x01" + text
            assert (await one.data(), await two.data()) == (b"1", b"2")


async def test_after_the_listeners_end_the_next_datagram_opens_another_connection() -> None:
    async with forwarding(mode=Mode.DATAGRAM) as running:
        with Datagrams() as application:
            for text in (b"1", b"2"):
                application.send(text, running.address)
                async with await running.accept() as listener:
                    assert await binary(listener) + await binary(listener) == UDP_HEAD + b"test"
                    await say(listener, b"\x01\x00\x01")
                    assert await binary(listener) == b"\x00\x01" + text
                    await listener.send(close_frame(1000))
                    assert await closed(listener) == 1000


async def test_a_refused_peer_rests_and_asks_again_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(udp_forwarder, "REST_SECONDS", 0.01)
    async with forwarding(mode=Mode.DATAGRAM) as running:
        with Datagrams() as application:
            application.send(b"lost", running.address)
            async with await running.accept() as listener:
                await say(listener, b"\x00\x00\xff")
                await listener.send(close_frame(1000))
                assert await binary(listener) + await binary(listener) == UDP_HEAD + b"test"
                assert await closed(listener) == 1000
            for _ in range(200):
                application.send(b"again", running.address)
                await asyncio.sleep(0.005)
                if not await is_silent(running.control, seconds=0.001):
                    break
            else:
                raise AssertionError("the relay was not asked again")

    assert "is a stream, and takes no datagrams" in caplog.text


async def test_no_more_peers_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(udp_forwarder, "MAX_PEERS", 1)
    async with forwarding(mode=Mode.DATAGRAM) as running:
        with Datagrams() as one, Datagrams() as two:
            one.send(b"1", running.address)
            async with await running.accept() as listener:
                assert await binary(listener) + await binary(listener) == UDP_HEAD + b"test"
                two.send(b"2", running.address)
                one.send(b"3", running.address)
                await say(listener, b"\x01\x00\x01")
                assert await binary(listener) == b"\x00\x011"
                assert await binary(listener) == b"\x00\x013"

    assert "1 peers have a connection" in caplog.text


async def test_while_the_relay_is_dialled_a_bounded_number_of_datagrams_waits() -> None:
    most = udp_forwarder.MAX_WAITING_DATAGRAMS
    async with forwarding(mode=Mode.DATAGRAM) as running:
        with Datagrams() as application:
            for number in range(most + 5):
                application.send(bytes([number]), running.address)
            async with await running.accept() as listener:
                assert await binary(listener) + await binary(listener) == UDP_HEAD + b"test"
                await say(listener, b"\x01\x00\x01")
                for number in range(most):
                    assert await binary(listener) == bytes((0, 1, number))
                assert await is_silent(listener)
