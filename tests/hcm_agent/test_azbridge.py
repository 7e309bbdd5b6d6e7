"""An azbridge sender, played by a raw peer, at our agent, through the real relay (section 10)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest

from hcm_agent import azbridge
from hcm_agent.agent import Agent
from hcm_agent.hybrid_connection import Outside
from hcm_agent.port_names import NamedTarget, parse_target
from hcm_agent.settings import AgentSettings, HybridConnectionSettings
from hcm_agent.target_dialer import DialTcp
from hybridge.program.lifetime import Lifetime
from hybridge.protocol import connection_string
from hybridge.protocol.errors import TargetRefused
from hybridge.transport.stream import Stream
from hybridge.transport.tcp import dial_tcp
from hybridge.transport.timing import Timing
from tests.support.agent_ends import Target, receive_all
from tests.support.azbridge import Datagrams, binary, closed, connect_raw, say
from tests.support.meeting import rest
from tests.support.raw import BINARY, RawPeer, close_frame, frame
from tests.support.relay import RunningRelay, running_relay


def ports(*texts: str) -> tuple[NamedTarget, ...]:
    return tuple(parse_target(text, setting="--target") for text in texts)


@contextlib.asynccontextmanager
async def serving_at(
    relay: RunningRelay,
    *targets: str,
    idle_seconds: float = 240,
    open_seconds: float = 20,
    dial: DialTcp = dial_tcp,
) -> AsyncIterator[None]:
    """An agent that speaks azbridge; stopped at the end."""
    text = relay.connection_string("hc1", key_name="listenrule")
    entry = HybridConnectionSettings(
        connection_string=connection_string.parse(text),
        azbridge=ports(*targets),
        ca=relay.ca,
        connect_to=relay.connect_to,
        timing=Timing(open_timeout_seconds=open_seconds),
        datagram_idle_seconds=idle_seconds,
        endpoint_check_seconds=0,
    )
    settings = AgentSettings(hybrid_connections=(entry,))
    lifetime = Lifetime()
    agent = Agent(settings, load=lambda: settings, max_connections=100, outside=Outside(dial=dial))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(agent.run(lifetime))
        yield
        lifetime.stop()


@contextlib.asynccontextmanager
async def serving(
    *targets: str, idle_seconds: float = 240, open_seconds: float = 20, dial: DialTcp = dial_tcp
) -> AsyncIterator[RunningRelay]:
    """A relay, and an agent that speaks azbridge."""
    async with (
        running_relay() as relay,
        serving_at(
            relay, *targets, idle_seconds=idle_seconds, open_seconds=open_seconds, dial=dial
        ),
    ):
        yield relay


def warning(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    """The only warning of the agent, but for what it learnt of the target."""
    (found,) = (
        each
        for each in caplog.records
        if each.name.startswith("hcm_agent") and each.name != "hcm_agent.endpoint_watch"
    )
    return found


# --- streams -------------------------------------------------------------------------------------


@pytest.mark.clause(129, 130)
async def test_a_named_port_is_answered_and_raw_bytes_flow_until_both_have_finished() -> None:
    with Target() as target:
        async with serving(f"test/127.0.0.1:{target.port}") as relay, await connect_raw(relay) as s:
            await say(s, b"\x01\x00\x00\x04", b"test")

            assert await binary(s) == b"\x01\x00\x00"
            database = await target.accept()
            await s.send(frame(BINARY, b"select 1") + close_frame(1000, "Shutdown"))
            assert await receive_all(database) == b"select 1"
            await database.send(b"one row")
            await database.send_eof()
            assert await binary(s) == b"one row"
            assert await closed(s) == 1000
            await database.close()


@pytest.mark.clause(130)
async def test_the_targets_end_leaves_the_other_direction_open() -> None:
    with Target() as target:
        async with serving(f"test/127.0.0.1:{target.port}") as relay, await connect_raw(relay) as s:
            await say(s, b"\x01\x00\x00\x04", b"test")
            database = await target.accept()
            await database.send_eof()

            assert await binary(s) == b"\x01\x00\x00"
            assert await closed(s) == 1000
            await s.send(frame(BINARY, b"still here") + close_frame(1000))
            assert await receive_all(database) == b"still here"
            await database.close()


@pytest.mark.clause(129)
async def test_the_preamble_may_come_byte_by_byte_or_glued_to_what_follows() -> None:
    with Target() as target:
        async with serving(f"test/127.0.0.1:{target.port}") as relay:
            for messages in (
                [bytes([byte]) for byte in b"\x01\x00\x00\x04testfirst"],
                [b"\x01\x00\x00\x04testfirst"],
            ):
                async with await connect_raw(relay) as sender:
                    await say(sender, *messages)
                    database = await target.accept()
                    assert await binary(sender) == b"\x01\x00\x00"
                    await sender.send(close_frame())
                    assert await receive_all(database) == b"first"
                    await database.send_eof()
                    assert await closed(sender) == 1000
                    await database.close()


async def test_the_only_port_is_found_by_any_number_and_several_by_their_names_alone() -> None:
    with Target() as one, Target() as two:
        names = (f"one/127.0.0.1:{one.port}", f"two/127.0.0.1:{two.port}")
        async with serving(*names) as relay:
            async with await connect_raw(relay) as sender:
                await say(sender, b"\x01\x00\x00\x03", b"two")
                assert await binary(sender) == b"\x01\x00\x00"
                (await two.accept()).abort()
            async with await connect_raw(relay) as sender:
                await say(sender, b"\x01\x00\x00\x047777")
                assert await closed(sender) == 1000
        async with serving(names[0]) as relay, await connect_raw(relay) as sender:
            await say(sender, b"\x01\x00\x00\x047777")
            assert await binary(sender) == b"\x01\x00\x00"
            (await one.accept()).abort()
        assert not one.has_visitor()


@pytest.mark.parametrize(
    ("request_bytes", "reply"),
    [
        pytest.param(b"\x01\x00\x00\x05other", b"", id="unknown port"),
        pytest.param(b"\x01\x00\x00\x00", b"", id="empty name"),
        pytest.param(b"\x01\x00\x01\x04test", b"\x00\x00\xff", id="datagrams from a stream"),
        pytest.param(b"\x01\x00\x00\x03udp", b"\x00\x00\x01", id="a stream of datagrams"),
        pytest.param(b"\x02\x00\x00\x04test", b"\x00\x00\x00", id="version 2.0"),
        pytest.param(b"\x01\x01\x00\x04test", b"\x00\x00\x00", id="version 1.1"),
        pytest.param(b"\x01\x00\x02\x04test", b"\x00\x00\x00", id="unknown mode"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00", id="no preamble at all"),
    ],
)
async def test_what_opens_no_port_is_answered_and_closed_in_order(
    request_bytes: bytes, reply: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with Target() as target, caplog.at_level(logging.WARNING, "hcm_agent"):
        names = (f"test/127.0.0.1:{target.port}", f"udp/udp://127.0.0.1:{target.port}")
        async with serving(*names) as relay, await connect_raw(relay) as sender:
            await say(sender, request_bytes)

            if reply:
                assert await binary(sender) == reply
            assert await closed(sender) == 1000
            await sender.send(close_frame())
            assert await sender.ended()
        assert not target.has_visitor()

    record = warning(caplog)
    assert record.__dict__["event"] == "connection_refused"
    assert record.__dict__["hint"]


@pytest.mark.parametrize("finishes", [True, False])
async def test_a_preamble_that_does_not_come_whole_is_a_close_without_bytes(
    finishes: bool,
) -> None:
    seconds = 20 if finishes else 1.0
    async with (
        serving("test/127.0.0.1:9", open_seconds=seconds) as relay,
        await connect_raw(relay) as sender,
    ):
        await say(sender, b"\x01\x00\x00\x04tes")
        if finishes:
            await sender.send(close_frame())

        assert await closed(sender) == 1000


@pytest.mark.clause(129)
async def test_the_positive_answer_comes_before_the_target_is_tried_and_then_it_may_only_break(
    caplog: pytest.LogCaptureFixture,
) -> None:
    may_answer = asyncio.Event()

    async def dial(host: str, port: int, **_: object) -> Stream:
        await may_answer.wait()
        raise TargetRefused(f"{host}:{port} refused the connection", hint="start it")

    with caplog.at_level(logging.WARNING, "hcm_agent"):
        async with serving("test/db:5432", dial=dial) as relay, await connect_raw(relay) as sender:
            await say(sender, b"\x01\x00\x00\x04", b"test")
            assert await binary(sender) == b"\x01\x00\x00"
            may_answer.set()

            assert await rest(sender) == (b"", False)

    record = warning(caplog)
    assert record.__dict__["event"] == "target_failed"
    assert record.getMessage() == "db:5432 refused the connection"


async def test_asked_to_stop_it_breaks_what_has_not_said_its_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(azbridge, "ANSWER_SECONDS", 0.05)
    async with contextlib.AsyncExitStack() as opened, running_relay() as relay:
        async with serving_at(relay, "test/127.0.0.1:9"):
            sender = await opened.enter_async_context(await connect_raw(relay))
            await say(sender, b"\x01\x00")

        assert await rest(sender) == (b"", False)


async def test_a_target_that_breaks_looks_broken_and_no_end() -> None:
    with Target() as target:
        async with serving(f"test/127.0.0.1:{target.port}") as relay, await connect_raw(relay) as s:
            await say(s, b"\x01\x00\x00\x04", b"test")
            database = await target.accept()
            assert await binary(s) == b"\x01\x00\x00"
            database.abort()

            came, was_orderly = await rest(s)
            assert (came, was_orderly) == (b"", False)


# --- datagrams -----------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def datagrams(*, idle_seconds: float = 240) -> AsyncIterator[tuple[RawPeer, Datagrams]]:
    """A sender at an agent with one UDP target."""
    with Datagrams() as target:
        udp = f"udp://127.0.0.1:{target.port}"
        async with (
            serving(udp, idle_seconds=idle_seconds) as relay,
            await connect_raw(relay) as sender,
        ):
            yield sender, target


@pytest.mark.clause(131)
async def test_datagrams_pass_both_ways_one_in_one_message_with_their_length_in_front() -> None:
    async with datagrams() as (sender, target):
        await say(sender, b"\x01\x00\x01\x03", b"161")
        assert await binary(sender) == b"\x01\x00\x01"

        for size in (0, 1, 255, 256, 65_507):
            datagram = bytes(each % 251 for each in range(size))
            framed = bytes((size // 256, size % 256)) + datagram
            await say(sender, framed)
            came, agent = await target.receive()
            assert came == datagram
            target.send(datagram, agent)
            assert await binary(sender) == framed


@pytest.mark.clause(131)
async def test_datagrams_are_found_wherever_the_messages_were_cut() -> None:
    async with datagrams() as (sender, target):
        content = b"\x01\x00\x01\x0217" + b"\x00\x03one\x00\x00\x00\x02ab"
        await say(sender, *(bytes([byte]) for byte in content))

        assert await binary(sender) == b"\x01\x00\x01"
        assert [await target.data() for _ in range(3)] == [b"one", b"", b"ab"]


async def test_a_datagram_that_udp_cannot_carry_is_lost_and_the_next_one_arrives() -> None:
    async with datagrams() as (sender, target):
        await say(sender, b"\x01\x00\x01\x0217", b"\xff\xff" + bytes(65_535), b"\x00\x02ok")

        assert await target.data() == b"ok"


async def test_silent_datagrams_are_closed_in_order() -> None:
    async with datagrams(idle_seconds=0.3) as (sender, _):
        await say(sender, b"\x01\x00\x01\x0217\x00\x01x")
        assert await binary(sender) == b"\x01\x00\x01"

        assert await closed(sender) == 1000


async def test_answers_still_reach_a_sender_that_has_finished() -> None:
    async with datagrams() as (sender, target):
        await say(sender, b"\x01\x00\x01\x0217\x00\x01?")
        await sender.send(close_frame())
        _, agent = await target.receive()
        target.send(b"!", agent)

        assert await binary(sender) == b"\x01\x00\x01"
        assert await binary(sender) == b"\x00\x01!"


async def test_a_connection_that_ends_within_a_datagram_breaks() -> None:
    async with datagrams() as (sender, _):
        await say(sender, b"\x01\x00\x01\x0217\x00\x09half")
        await sender.send(close_frame())
        assert await binary(sender) == b"\x01\x00\x01"

        assert await rest(sender) == (b"", False)


async def test_a_udp_target_without_an_address_breaks_the_connection_after_the_positive_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nowhere = "x" * 64  # Longer than any label of a name.
    with caplog.at_level(logging.WARNING, "hcm_agent"):
        async with serving(f"udp://{nowhere}:17") as relay, await connect_raw(relay) as sender:
            await say(sender, b"\x01\x00\x01\x0217")

            _, was_orderly = await rest(sender)

    assert not was_orderly
    assert f"the name {nowhere!r} cannot be resolved" in warning(caplog).getMessage()


async def test_a_target_without_a_listener_is_said_once_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Datagrams() as gone:
        port = gone.port
    with caplog.at_level(logging.WARNING, "hcm_agent"):
        async with (
            serving(f"udp://127.0.0.1:{port}", idle_seconds=0.3) as relay,
            await connect_raw(relay) as sender,
        ):
            await say(sender, b"\x01\x00\x01\x0217", *[b"\x00\x01x"] * 5)
            assert await binary(sender) == b"\x01\x00\x01"
            assert await closed(sender) == 1000

    record = warning(caplog)
    assert record.__dict__["event"] == "target_failed"
