"""How relayed requests are slowed down, and how they end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import pytest

from hybridge import IncomingRequest, RelayError
from hybridge.protocol.errors import ConnectionLost, MalformedMessage
from tests.support.raw import CLOSE
from tests.support.relay import HOST
from tests.support.request_handling import answer, fetched, listening
from tests.support.scripted_relay import REQUEST_ID, RelayEnd
from tests.support.until import until

# --- backpressure --------------------------------------------------------------------------------

PIECE = bytes(range(256)) * 256
PIECES = 256
"""16 MiB: more than the kernel's and our own buffers hold."""
STILL_SECONDS = 0.1


async def is_still(count: Callable[[], int]) -> None:
    """Wait until a count has begun, and then has not changed for a while."""
    await until(count)
    before = -1
    while count() != before:
        before = count()
        await asyncio.sleep(STILL_SECONDS)


async def test_a_sender_that_does_not_read_slows_the_handler() -> None:
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(PIECES):
            yield PIECE
            sent += 1

    async def handler(request: IncomingRequest) -> None:
        await request.respond(200, pieces())

    async with listening(handler) as (relay, channel, _):
        await channel.say("request", **relay.request())
        visit = await relay.visit()
        await visit.command()
        await is_still(lambda: sent)
        assert 0 < sent < PIECES
        size = 0
        while not (part := await visit.frame()).fin:
            size += len(part.payload)

    assert (size, sent) == (PIECES * len(PIECE), PIECES)


async def test_a_handler_that_does_not_read_slows_the_sender() -> None:
    release = asyncio.Event()

    async def handler(request: IncomingRequest) -> None:
        await release.wait()
        size = 0
        async for piece in request.body:
            size += len(piece)
        await request.respond(200, str(size).encode())

    sent = 0

    async def send(visit: RelayEnd) -> None:
        nonlocal sent
        for number in range(PIECES):
            await visit.say_body(PIECE, fin=False, first=not number)
            sent += 1
        await visit.say_body(b"", first=False)

    async with listening(handler) as (relay, channel, _), asyncio.TaskGroup() as tasks:
        visit = await fetched(relay, channel)
        sending = tasks.create_task(send(visit))
        await is_still(lambda: sent)
        assert 0 < sent < PIECES
        release.set()
        await sending
        _, body = await visit.response()

    assert body == str(PIECES * len(PIECE)).encode()


# --- ends ----------------------------------------------------------------------------------------


@pytest.mark.clause(112)
async def test_without_a_handler_a_request_is_answered_501_with_its_tracking_id() -> None:
    async with listening() as (relay, channel, _):
        await channel.say("request", **relay.request())
        response, _ = await channel.response()

    reason = str(response["statusDescription"])
    assert response["statusCode"] == 501
    assert "RequestHandler has not been configured" in reason
    assert f"TrackingId:{REQUEST_ID}, SystemTracker:{HOST}:hc1" in reason


@pytest.mark.clause(112)
async def test_a_handler_that_throws_is_answered_500_without_its_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(request: IncomingRequest) -> None:
        await (await request.start(200)).send(b"never seen")
        raise ValueError("the password is hunter2")

    async with listening(handler) as (relay, channel, _):
        await channel.say("request", **relay.request())
        response, body = await channel.response()

    assert response["statusCode"] == 500
    assert body == f"{response['statusDescription']}\n".encode()
    assert "RequestHandler threw an exception" in str(response["statusDescription"])
    assert f"TrackingId:{REQUEST_ID}" in str(response["statusDescription"])
    assert "hunter2" not in str(response)
    assert "hunter2" in caplog.text


async def test_a_handler_that_gives_no_answer_is_answered_500() -> None:
    async def handler(request: IncomingRequest) -> None:
        pass

    async with listening(handler) as (relay, channel, _):
        await channel.say("request", **relay.request())
        response, _ = await channel.response()

    assert response["statusCode"] == 500


async def test_a_handler_that_meets_a_cancellation_of_its_own_is_answered_500() -> None:
    async def handler(request: IncomingRequest) -> None:
        given_up = asyncio.get_running_loop().create_future()
        given_up.cancel()
        await given_up

    async with listening(handler) as (relay, channel, _):
        await channel.say("request", **relay.request())
        response, _ = await channel.response()

    assert response["statusCode"] == 500
    assert "RequestHandler threw an exception" in str(response["statusDescription"])


async def test_a_body_that_is_too_large_for_the_handler_is_answered_413() -> None:
    async def handler(request: IncomingRequest) -> None:
        await request.body.read(max_bytes=2)

    async with listening(handler) as (relay, channel, _):
        await channel.say("request", **relay.request("POST", body=True))
        await channel.say_body(b"abc")
        response, _ = await channel.response()

    assert response["statusCode"] == 413


@pytest.mark.parametrize("is_block", [True, False])
async def test_a_handler_that_throws_after_the_head_has_left_breaks_the_response(
    is_block: bool,
) -> None:
    async def handler(request: IncomingRequest) -> None:
        response = await request.start(200)
        if not is_block:
            await response.send(b"x" * 100_000)
            raise ValueError("ours")
        async with response:
            await response.send(b"x" * 100_000)
            raise ValueError("ours")

    async with listening(handler) as (relay, channel, _):
        await channel.say("request", **relay.request())
        visit = await relay.visit()
        await visit.command()
        opcodes: list[int] = []

        async def listen() -> None:
            while True:
                opcodes.append((await visit.frame()).opcode)

        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await listen()

    assert CLOSE not in opcodes


async def test_a_sender_that_leaves_is_told_to_the_handler() -> None:
    gone: asyncio.Queue[RelayError] = asyncio.Queue()
    has_begun = asyncio.Event()

    async def handler(request: IncomingRequest) -> None:
        response = await request.start(200)
        await response.send(b"x" * 100_000)
        has_begun.set()
        await request.wait_over()
        with pytest.raises(ConnectionLost) as caught:
            await response.send(b"more")
        gone.put_nowait(caught.value)
        raise caught.value

    async with listening(handler) as (relay, channel, _):
        await channel.say("request", **relay.request())
        visit = await relay.visit()
        await has_begun.wait()
        await visit.say_close()
        assert "over" in str(await gone.get())


async def test_an_answer_finds_its_way_when_the_control_channel_is_lost() -> None:
    release = asyncio.Event()

    async def handler(request: IncomingRequest) -> None:
        await release.wait()
        await request.respond(200, b"late")

    async with listening(handler) as (relay, channel, listener):
        await channel.say("request", **relay.request())
        await until(lambda: listener._intake._serving)
        channel.reset()
        again = await relay.channel()
        release.set()
        visit = await relay.visit()
        _, body = await visit.response()
        assert body == b"late"

        await again.say("request", **relay.request())
        await again.response()


async def test_an_answer_that_nobody_wants_any_more_is_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with listening(answer(200, b"x" * 100_000)) as (relay, channel, listener):
        relay.refuse_visits = True
        with caplog.at_level(logging.INFO, logger="hybridge"):
            await channel.say("request", **relay.request())
            await relay.refused.wait()
            await until(lambda: not listener._intake._serving)
        assert listener.is_online

    assert "404" in caplog.text


async def test_a_listener_that_leaves_lets_its_handlers_answer_and_refuses_what_comes() -> None:
    release = asyncio.Event()

    async def handler(request: IncomingRequest) -> None:
        await release.wait()
        await request.respond(200)

    async with listening(handler) as (relay, channel, listener), asyncio.TaskGroup() as tasks:
        await channel.say("request", **relay.request(request_id="1"))
        await until(lambda: listener._intake._serving)
        tasks.create_task(listener.stop_accepting())
        await until(lambda: listener._intake._is_leaving)
        await channel.say("request", **relay.request(request_id="2"))
        refused, _ = await channel.response()
        release.set()
        answered, _ = await channel.response()
        await channel.say_close()
        await listener.wait_closed()

    assert (refused["requestId"], refused["statusCode"]) == ("2", 503)
    assert (answered["requestId"], answered["statusCode"]) == ("1", 200)


async def test_a_request_that_is_left_unanswered_breaks_with_its_listener() -> None:
    ended: list[BaseException] = []
    started = asyncio.Event()

    async def handler(request: IncomingRequest) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            ended.append(error)
            raise

    async with listening(handler) as (relay, channel, _):
        await fetched(relay, channel)
        await started.wait()

    assert len(ended) == 1


@pytest.mark.parametrize(
    ("status", "reason", "headers"),
    [
        (99, None, {}),
        (1000, None, {}),
        (200, "a\r\nb", {}),
        (200, None, {"a b": "c"}),
        (200, None, {"a": "b\nc"}),
        (200, None, {"a": "b" * 70_000}),
    ],
)
async def test_what_http_cannot_carry_is_an_error_of_the_handler(
    status: int, reason: str | None, headers: dict[str, str]
) -> None:
    async def handler(request: IncomingRequest) -> None:
        with pytest.raises(MalformedMessage):
            await request.respond(status, reason=reason, headers=headers)
        await request.respond(202)
        with pytest.raises(RuntimeError, match="already"):
            await request.respond(203)

    async with listening(handler) as (relay, channel, _):
        await channel.say("request", **relay.request())
        response, _ = await channel.response()

    assert response["statusCode"] == 202
