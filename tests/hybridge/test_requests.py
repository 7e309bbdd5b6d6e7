"""Relayed requests, answered on the control channel and by rendezvous."""

from __future__ import annotations

import asyncio
import json

import pytest

from hybridge import IncomingRequest, RelayError
from hybridge.outgoing_response import MAX_CONTROL_CHANNEL_RESPONSE_BYTES
from hybridge.protocol.errors import ConnectionLost
from tests.support.raw import BINARY, TEXT, frame
from tests.support.relay import HOST
from tests.support.request_handling import SOON, answer, fetched, fragments, listening
from tests.support.scripted_relay import REQUEST_ID
from tests.support.until import until

# --- on the control channel ----------------------------------------------------------------------


async def test_a_handler_sees_the_request_as_it_came() -> None:
    seen: asyncio.Queue[IncomingRequest] = asyncio.Queue()

    async def handler(request: IncomingRequest) -> None:
        assert await request.body.read() == b""
        seen.put_nowait(request)
        await request.respond(200)

    async with listening(handler) as (relay, channel, _):
        await channel.say("request", **relay.request("PUT"))
        await channel.response()
        request = seen.get_nowait()

    assert (request.method, request.target, request.id) == ("PUT", "/hc1/a b?x=%20", REQUEST_ID)
    assert request.headers == {"Host": HOST, "X-Odd": "{`|}"}
    assert request.remote_endpoint is not None
    assert request.remote_endpoint.address == "192.0.2.7"
    assert request.body.length == 0


@pytest.mark.clause(99)
async def test_a_small_response_is_one_answer_on_the_control_channel() -> None:
    async def handler(request: IncomingRequest) -> None:
        body = await request.body.read()
        pairs = [("X-A", "1"), ("x-a", "2"), ("Content-Length", "9"), ("Connection", "close")]
        await request.respond(201, body[::-1], reason="Made {`|}", headers=pairs)

    async with listening(handler) as (relay, channel, _):
        await channel.say("request", **relay.request("POST", body=True))
        await channel.say_body(b"abc", fin=False)
        await channel.say_body(b"def", first=False)
        response, body = await channel.response()

    assert response == {
        "requestId": REQUEST_ID,
        "statusCode": 201,
        "statusDescription": "Made {`|}",
        "responseHeaders": {"X-A": "1, 2"},
        "body": True,
    }
    assert body == b"fedcba"


@pytest.mark.clause(99)
async def test_a_response_without_body_announces_none() -> None:
    async with listening(answer(204)) as (relay, channel, _):
        await channel.say("request", **relay.request())
        response, body = await channel.response()

    assert (response["statusCode"], response["body"], body) == (204, False, None)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_a_body_that_must_not_be_is_dropped(method: str, status: int) -> None:
    async with listening(answer(status, b"x" * 100_000)) as (relay, channel, _):
        await channel.say("request", **relay.request(method))
        response, _ = await channel.response()

    assert response["body"] is False


async def test_a_response_that_is_streamed_and_soon_complete_is_one_answer() -> None:
    async def handler(request: IncomingRequest) -> None:
        async with await request.start(200) as response:
            await response.send(b"one")
            await response.send(memoryview(b"two"))

    async with listening(handler) as (relay, channel, _):
        await channel.say("request", **relay.request())
        _, body = await channel.response()

    assert body == b"onetwo"


@pytest.mark.clause(116, 117)
async def test_many_requests_are_answered_at_once_and_each_json_is_followed_by_its_body() -> None:
    everybody = asyncio.Barrier(8)

    async def handler(request: IncomingRequest) -> None:
        await everybody.wait()
        await request.respond(200, request.id.encode() * 1_000)

    async with listening(handler) as (relay, channel, _):
        for number in range(8):
            await channel.say("request", **relay.request(request_id=f"{number}"))
        answers = [await channel.response() for _ in range(8)]

    assert {str(head["requestId"]) for head, _ in answers} == {str(each) for each in range(8)}
    assert all(body == str(head["requestId"]).encode() * 1_000 for head, body in answers)


async def test_a_long_handler_holds_up_no_connection() -> None:
    release = asyncio.Event()

    async def handler(request: IncomingRequest) -> None:
        await release.wait()
        await request.respond(200)

    async with listening(handler) as (relay, channel, listener):
        await channel.say("request", **relay.request())
        await channel.say("accept", address=relay.address(), id="1", connectHeaders={})
        connection = await anext(aiter(listener))
        release.set()
        await channel.response()

    assert connection.id == "1"


async def test_requests_over_the_limit_are_answered_503() -> None:
    release = asyncio.Event()

    async def handler(request: IncomingRequest) -> None:
        await release.wait()
        await request.respond(200)

    async with listening(handler, max_requests=2) as (relay, channel, _):
        for number in range(3):
            await channel.say("request", **relay.request(request_id=f"{number}"))
        refused, _ = await channel.response()
        release.set()
        others = {str((await channel.response())[0]["requestId"]) for _ in range(2)}

    assert (refused["requestId"], refused["statusCode"]) == ("2", 503)
    assert "TrackingId:2" in str(refused["statusDescription"])
    assert others == {"0", "1"}


async def test_refusals_are_bounded_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hybridge.request_intake.MAX_REFUSALS_AT_ONCE", 1)
    async with listening(answer(), max_requests=0) as (relay, channel, _):
        await channel.say("request", address=relay.address())
        visit = await relay.visit()
        await channel.say("request", **relay.request(request_id="2"))
        await until(lambda: "dropped a request" in caplog.text)
        await visit.say("request", **relay.request(request_id="1"))
        response, _ = await visit.response()

    assert (response["requestId"], response["statusCode"]) == ("1", 503)


async def test_a_request_whose_body_does_not_come_is_dropped_and_the_next_is_served() -> None:
    async with listening(answer()) as (relay, channel, _):
        await channel.say("request", **relay.request("POST", request_id="1", body=True))
        await channel.say("request", **relay.request(request_id="2"))
        response, _ = await channel.response()

    assert response["requestId"] == "2"


async def test_requests_may_be_iterated_over_instead() -> None:
    async with listening() as (relay, channel, listener):
        requests = listener.requests()
        await channel.say("request", **relay.request())
        async with await anext(requests) as request:
            await request.respond(202)
        response, _ = await channel.response()
        assert response["statusCode"] == 202

        await channel.say("request", **relay.request())
        with pytest.raises(ValueError, match="ours"):
            async with await anext(requests):
                raise ValueError("ours")
        response, _ = await channel.response()
        assert response["statusCode"] == 500

        await listener.stop_accepting()
        assert [each async for each in requests] == []


# --- by rendezvous -------------------------------------------------------------------------------


@pytest.mark.clause(100)
async def test_a_large_response_goes_by_a_rendezvous_at_the_address_as_it_was_given() -> None:
    payload = bytes(range(256)) * 1_000
    async with listening(answer(200, payload)) as (relay, channel, _):
        await channel.say("request", **relay.request())
        visit = await relay.visit()
        head = (await visit.command())["response"]
        frames, body = await fragments(visit)
        close = await visit.close()

    assert relay.address().endswith(visit.handshake.path)
    assert "servicebusauthorization" not in visit.handshake.headers
    assert isinstance(head, dict)
    assert (head["requestId"], head["body"]) == (REQUEST_ID, True)
    assert body == payload
    assert [opcode for opcode, _, _ in frames] == [BINARY, *[0] * (len(frames) - 1)]
    assert frames[-1] == (0, 0, True)
    assert close == (1000, "NormalClosure")


@pytest.mark.parametrize("excess", [0, 1])
async def test_what_json_and_body_make_together_decides(excess: int) -> None:
    head = json.dumps(
        {
            "response": {
                "requestId": REQUEST_ID,
                "statusCode": 200,
                "responseHeaders": {},
                "body": True,
            }
        },
        separators=(",", ":"),
    )
    room = MAX_CONTROL_CHANNEL_RESPONSE_BYTES - len(head)
    async with listening(answer(200, b"x" * (room + excess))) as (relay, channel, _):
        await channel.say("request", **relay.request())
        end = await relay.visit() if excess else channel
        _, body = await end.response()

    assert body is not None
    assert len(body) == room + excess


async def test_a_response_that_takes_its_time_leaves_in_part() -> None:
    """In Microsoft's libraries and here after 2 seconds (section 7.5)."""
    release = asyncio.Event()

    async def handler(request: IncomingRequest) -> None:
        async with await request.start(200) as response:
            await response.send(b"first")
            await release.wait()
            await response.send(b"second")

    async with listening(handler, flush_seconds=SOON) as (relay, channel, _):
        await channel.say("request", **relay.request())
        visit = await relay.visit()
        await visit.command()
        first = await visit.frame()
        release.set()
        frames, rest = await fragments(visit)

    assert (first.opcode, first.payload, first.fin) == (BINARY, b"first", False)
    assert (frames, rest) == ([(0, 6, False), (0, 0, True)], b"second")


async def test_a_head_leaves_even_if_no_body_was_written_yet() -> None:
    release = asyncio.Event()

    async def handler(request: IncomingRequest) -> None:
        async with await request.start(200):
            await release.wait()

    async with listening(handler, flush_seconds=SOON) as (relay, channel, _):
        await channel.say("request", **relay.request())
        visit = await relay.visit()
        await visit.command()
        release.set()
        frames, _ = await fragments(visit)

    assert frames == [(BINARY, 0, True)]


@pytest.mark.clause(93)
async def test_a_request_by_rendezvous_is_read_as_it_comes_and_answered_there() -> None:
    pieces: asyncio.Queue[bytes] = asyncio.Queue()

    async def handler(request: IncomingRequest) -> None:
        assert request.body.length is None
        async for piece in request.body:
            pieces.put_nowait(piece)
        await request.respond(200, b"short")

    async with listening(handler) as (relay, channel, _):
        visit = await fetched(relay, channel)
        await visit.say_body(b"one", fin=False)
        assert await pieces.get() == b"one"
        await visit.say_body(b"two", fin=False, first=False)
        assert await pieces.get() == b"two"
        await visit.say_body(b"", first=False)
        response, body = await visit.response()
        close = await visit.close()

    assert (response["requestId"], body, close[0]) == (REQUEST_ID, b"short", 1000)


@pytest.mark.clause(95)
async def test_an_empty_body_by_rendezvous_is_empty() -> None:
    async def handler(request: IncomingRequest) -> None:
        await request.respond(200, await request.body.read() or b"empty")

    async with listening(handler) as (relay, channel, _):
        visit = await fetched(relay, channel)
        await visit.say_body(b"")
        _, body = await visit.response()

    assert body == b"empty"


async def test_many_tiny_fragments_and_empty_ones_make_one_body() -> None:
    async def handler(request: IncomingRequest) -> None:
        await request.respond(200, await request.body.read())

    async with listening(handler) as (relay, channel, _):
        visit = await fetched(relay, channel)
        tiny = b"".join(frame(0, bytes([each % 256]), fin=False, mask=None) for each in range(5000))
        await visit.send(frame(BINARY, b"", fin=False, mask=None) + tiny)
        await visit.say_body(b"", first=False)
        _, body = await visit.response()

    assert body == bytes(each % 256 for each in range(5000))


async def test_a_body_that_breaks_off_is_no_whole_body() -> None:
    ended: asyncio.Queue[RelayError] = asyncio.Queue()

    async def handler(request: IncomingRequest) -> None:
        try:
            await request.body.read()
        except RelayError as error:
            ended.put_nowait(error)
            raise

    async with listening(handler) as (relay, channel, _):
        visit = await fetched(relay, channel)
        await visit.say_body(b"one", fin=False)
        await visit.say_close()
        assert isinstance(await ended.get(), ConnectionLost)

        visit = await fetched(relay, channel)
        await visit.say_body(b"one", fin=False)
        visit.reset()
        assert isinstance(await ended.get(), ConnectionLost)

        visit = await fetched(relay, channel)
        await visit.say("request", **relay.request())
        assert isinstance(await ended.get(), ConnectionLost)


@pytest.mark.parametrize("said", ["{}", "no json", '{"request":{"address":"x"}}', b"binary"])
async def test_what_is_no_request_at_a_rendezvous_is_left(said: str | bytes) -> None:
    async with listening(answer()) as (relay, channel, _):
        await channel.say("request", address=relay.address())
        visit = await relay.visit()
        if isinstance(said, bytes):
            await visit.say_body(said)
        else:
            await visit.send(frame(TEXT, said.encode(), mask=None))
        await visit.ended()
        await channel.say("request", **relay.request())
        await channel.response()
