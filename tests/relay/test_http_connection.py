"""A sender's connection that carries several requests, and what it meets when the relay stops."""

from __future__ import annotations

import asyncio

import pytest

from relay.http_sender import MAX_PIPELINED_BYTES
from relay.settings import RelaySettings
from tests.support.http import HttpPeers, error_code, heard, http_peers, response
from tests.support.raw import BINARY, Frame, RawPeer, frame, upgrade_request
from tests.support.relay import HOST, RunningRelay, running_relay
from tests.support.until import until
from tests.support.wire import accept_of, http_request, is_alive


async def answer(control: RawPeer, body: bytes) -> str:
    """Answer the next request; give its target."""
    request = await heard(control)
    await control.send(response(request.id, body))
    return str(request.fields["requestTarget"])


async def test_requests_that_are_sent_ahead_are_answered_in_order(http: HttpPeers) -> None:
    async with await http.peers.dial() as sender:
        posts = [
            http.request(f"/hc1/{number}", method="POST", body=b"x" * number)
            for number in range(1, 6)
        ]
        await sender.send(b"".join(posts) + http.request("/", method="GET"))

        for number in range(1, 6):
            assert await answer(http.control, b"%d" % number) == f"/hc1/{number}"
            assert (await sender.answer()).body == b"%d" % number
        assert b"<feed" in (await sender.answer()).body


async def test_far_too_much_sent_ahead_waits_in_the_senders_own_buffers(http: HttpPeers) -> None:
    count = 40 * MAX_PIPELINED_BYTES // 1_000
    async with await http.peers.dial() as sender, asyncio.TaskGroup() as tasks:
        one = http.request("/hc1", ("X", "x" * 900))
        sending = tasks.create_task(sender.send(one * count))
        for _ in range(count // 20):
            await answer(http.control, b"ok")
            assert (await sender.answer()).body == b"ok"
        sending.cancel()


async def test_errors_of_the_service_keep_the_connection_where_they_can(http: HttpPeers) -> None:
    async with await http.peers.dial() as sender:
        for _ in range(2):
            await sender.send(http_request("/hc1", HOST))
            refused = await sender.answer()
            assert (refused.status, error_code(refused)) == (401, "TokenMissingOrInvalid")
            assert refused.all("Connection") == []
        await sender.send(http.request("/hc1"))
        await answer(http.control, b"fine")
        assert (await sender.answer()).body == b"fine"
        await sender.send(http_request("/hc1", HOST, ("Content-Length", "5"), method="POST"))
        refused = await sender.answer()

        assert refused.status == 401
        assert refused.all("Connection") == ["close"], "its body is not read"
        assert await sender.ended()


@pytest.mark.parametrize(
    ("version", "headers", "stays"),
    [("1.1", "", True), ("1.1", "Connection: x, Close\r\n", False), ("1.0", "", False)],
)
async def test_the_sender_decides_whether_its_connection_stays(
    http: HttpPeers, version: str, headers: str, stays: bool
) -> None:
    head = http.request("/hc1").decode().replace("HTTP/1.1", f"HTTP/{version}")
    async with await http.peers.dial() as sender:
        await sender.send(head.replace("\r\n\r\n", f"\r\n{headers}\r\n").encode())
        await answer(http.control, b"body")
        answered = await sender.answer()

        assert answered.body == b"body"
        assert answered.all("Connection") == ([] if stays else ["close"])
        if not stays:
            assert await sender.ended()


async def test_a_sender_of_http_1_0_gets_a_streamed_body_up_to_the_end_of_the_connection(
    http: HttpPeers,
) -> None:
    async with await http.peers.dial() as sender:
        await sender.send(http.request("/hc1").replace(b"HTTP/1.1", b"HTTP/1.0"))
        request = await heard(http.control)
        await http.control.send(response(request.id, b"", pieces=[b"one"], is_whole=False))
        answered = await sender.answer(has_body=False)
        await http.control.send(frame(0, b"two"))

        assert answered.all("Transfer-Encoding") == answered.all("Content-Length") == []
        assert await sender.reader.read() == b"onetwo"


async def test_a_websocket_may_follow_on_a_connection_that_carried_requests(
    http: HttpPeers,
) -> None:
    token = ("ServiceBusAuthorization", http.relay.token())
    async with await http.peers.dial() as sender:
        await sender.send(http.request("/hc1"))
        await answer(http.control, b"first")
        assert (await sender.answer()).body == b"first"
        await sender.send(upgrade_request("/$hc/hc1", host=HOST, headers=[token]))
        accept = await accept_of(http.control)
        near, answered = await http.peers.visit(str(accept["address"]))
        async with near:
            assert answered.status == 101
            assert (await sender.answer()).status == 101
            await near.send(frame(BINARY, b"hello"))
            assert await sender.frame() == Frame(BINARY, b"hello")


async def test_an_idle_connection_is_closed_in_order_after_its_time() -> None:
    settings = RelaySettings(keep_alive_seconds=0.1, drain_seconds=0)
    async with (
        running_relay(settings=settings) as relay,
        http_peers(relay) as http,
        http.sending("/") as sender,
    ):
        assert (await sender.answer()).status == 200
        assert await sender.ended()


# --- The relay stops -----------------------------------------------------------------------------


async def test_while_the_relay_drains_a_running_request_is_answered_and_idle_ones_are_closed() -> (
    None
):
    settings = RelaySettings(drain_seconds=20)
    async with (
        running_relay(settings=settings) as relay,
        http_peers(relay) as http,
        http.sending("/hc1/long") as sender,
        http.sending("/") as idle,
    ):
        request = await heard(http.control)
        await idle.answer()
        relay.lifetime.stopping.set()
        await until(lambda: relay.service.is_draining)
        assert await idle.ended()
        await http.control.send(response(request.id, b"whole"))
        answered = await sender.answer()

        assert answered.body == b"whole"
        assert answered.all("Connection") == ["close"]
        assert (await http.control.close())[0] == 1001, "and not before"
        assert await sender.ended()


async def test_a_request_that_is_not_answered_in_the_time_to_drain_is_cut() -> None:
    settings = RelaySettings(drain_seconds=0.1)
    async with (
        running_relay(settings=settings) as relay,
        http_peers(relay) as http,
        http.sending() as sender,
    ):
        await heard(http.control)
        await relay.stop()
        assert not await sender.ended()


async def test_a_request_behind_another_is_refused_once_the_relay_stops(
    relay: RunningRelay,
) -> None:
    async with http_peers(relay) as http, await http.peers.dial() as sender:
        await sender.send(http.request("/hc1") + http.request("/hc1"))
        request = await heard(http.control)
        relay.service.gateway.stop()
        await http.control.send(response(request.id, b"first"))
        answered = await sender.answer()

        assert answered.body == b"first"
        assert answered.all("Connection") == ["close"]
        assert await sender.ended()


async def test_too_many_requests_at_once_are_503() -> None:
    settings = RelaySettings(max_pending_requests=1, drain_seconds=0)
    async with (
        running_relay(settings=settings) as relay,
        http_peers(relay) as http,
        http.sending() as first,
        http.sending() as second,
    ):
        refused = await second.answer()
        assert (refused.status, error_code(refused)) == (503, "ServerBusy")
        await answer(http.control, b"fine")
        assert (await first.answer()).body == b"fine"
        assert await is_alive(http.control)
