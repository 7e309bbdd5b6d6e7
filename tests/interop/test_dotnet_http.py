"""What the .NET library does with relayed HTTP, done by raw peers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from tests.interop.dotnet_peer import (
    ALLOWED,
    DotnetListener,
    answer,
    answer_by_rendezvous,
    response_to,
    text,
)
from tests.interop.http_sender import HttpSender, Response, ask
from tests.interop.relay_on_443 import HOST, InteropRelay
from tests.support.raw import BINARY, close_frame, frame

PATH = "dotnet"
LARGE = 1 << 20


class Asking:
    """A sender that asks while the test plays the listener."""

    def __init__(self, relay: InteropRelay) -> None:
        self._relay = relay
        self._token = {"ServiceBusAuthorization": relay.token_for(PATH)}

    def start(
        self,
        tasks: asyncio.TaskGroup,
        method: str = "GET",
        target: str = f"/{PATH}",
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | list[bytes] | None = None,
    ) -> asyncio.Task[Response]:
        async def run() -> Response:
            with HttpSender(self._relay) as sender:
                return await ask(
                    sender, method, target, headers={**self._token, **(headers or {})}, body=body
                )

        return tasks.create_task(run(), name=f"{method} {target}")


@pytest.mark.clause(99, 106, 111)
async def test_a_small_answer_goes_on_the_control_channel_with_escaped_slashes(
    relay: InteropRelay,
) -> None:
    async with DotnetListener(relay, PATH) as listener, asyncio.TaskGroup() as tasks:
        asking = Asking(relay).start(tasks)
        request = await listener.command("request")
        await answer(
            listener,
            request,
            201,
            body=b"{}",
            responseHeaders={"Content-Type": "application/json", "Location": "/a/b"},
        )

    response = asking.result()
    assert (response.status, response.reason, response.body) == (201, "Created", b"{}")
    assert response.headers["content-type"] == "application/json"
    assert response.headers["location"] == "/a/b"
    assert response.headers["via"] == f"1.1 {HOST}"


@pytest.mark.clause(92)
async def test_64_kib_come_in_one_binary_message_and_the_answer_too(relay: InteropRelay) -> None:
    body = bytes(65_536)
    async with DotnetListener(relay, PATH) as listener, asyncio.TaskGroup() as tasks:
        asking = Asking(relay).start(tasks, "POST", body=body)
        request = await listener.command("request")
        assert request["body"] is True
        assert await listener.body() == body
        await answer(listener, request, body=b"thanks")

    assert asking.result().body == b"thanks"


@pytest.mark.clause(93)
async def test_more_comes_by_rendezvous_and_its_answer_goes_the_same_way(
    relay: InteropRelay,
) -> None:
    body = bytes(range(256)) * 4_097
    async with DotnetListener(relay, PATH) as listener, asyncio.TaskGroup() as tasks:
        asking = Asking(relay).start(tasks, "POST", body=body)
        command = await listener.command("request")
        # The library knows this form by what is missing.
        assert list(command) == ["address"]
        peer, handshake = await relay.peers.visit(str(command["address"]))
        async with peer:
            assert handshake.status == 101
            relayed = (await peer.command())["request"]
            assert isinstance(relayed, dict)
            assert (relayed["method"], relayed["body"]) == ("POST", True)
            assert await peer.message() == (BINARY, body)
            await answer_by_rendezvous(peer, relayed, body[:70_000], body[70_000:])
            assert await peer.close() == (1000, "NormalClosure")

    assert asking.result().body == body


@pytest.mark.clause(100)
async def test_the_2_s_flush_opens_a_rendezvous_and_the_first_bytes_arrive_before_the_last(
    relay: InteropRelay,
) -> None:
    async with DotnetListener(relay, PATH) as listener:
        sender = await relay.peers.dial()
        async with sender:
            await sender.send(
                f"GET /{PATH}/slow HTTP/1.1\r\nHost: {HOST}\r\n"
                f"ServiceBusAuthorization: {relay.token_for(PATH)}\r\n\r\n".encode()
            )
            request = await listener.command("request")
            peer, handshake = await relay.peers.visit(str(request["address"]))
            async with peer:
                assert handshake.status == 101
                await peer.send(text(response_to(request, has_body=True)))
                await peer.send(frame(BINARY, b"early", fin=False))

                assert (await sender.answer(has_body=False)).status == 200
                assert await sender.receive_exactly(10) == b"5\r\nearly\r\n"

                await peer.send(frame(0, b"late", fin=False))
                await peer.send(frame(0, b"") + close_frame(1000, "NormalClosure"))
                assert await sender.receive_exactly(14) == b"4\r\nlate\r\n0\r\n\r\n"


@pytest.mark.clause(108)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_librarys_own_list_of_statuses_passes_with_a_body_that_nobody_reads(
    relay: InteropRelay, method: str
) -> None:
    statuses = [*range(200, 207), *range(300, 308), *range(400, 418), 418, 426, 450]
    statuses += range(500, 506)
    body = b"never read" if method == "POST" else None
    headers = {"ServiceBusAuthorization": relay.token_for(PATH)}
    seen = []
    async with DotnetListener(relay, PATH) as listener:
        with HttpSender(relay) as sender:
            for status in statuses:
                async with asyncio.TaskGroup() as tasks:
                    asking = tasks.create_task(
                        ask(sender, method, f"/{PATH}", headers=headers, body=body), name="ask"
                    )
                    request = await listener.command("request")
                    if request["body"]:
                        await listener.body()
                    await answer(listener, request, status, statusDescription=f"Status {status}")
                response = asking.result()
                seen.append(response.status)
                assert response.reason == f"Status {status}"

    assert seen == statuses


@pytest.mark.clause(97, 98)
async def test_repeated_headers_are_joined_and_reach_the_handler_once(relay: InteropRelay) -> None:
    async with DotnetListener(relay, PATH) as listener:
        sender = await relay.peers.dial()
        async with sender:
            await sender.send(
                f"GET /{PATH} HTTP/1.1\r\nHost: {HOST}\r\nX-Twice: one\r\nX-Twice: two\r\n"
                f"ServiceBusAuthorization: {relay.token_for(PATH)}\r\n\r\n".encode()
            )
            request = await listener.command("request")
            headers = request["requestHeaders"]
            assert isinstance(headers, dict)
            assert headers["X-Twice"] == "one, two"
            await answer(listener, request, 204, responseHeaders={"X-Both": "three, four"})
            response = await sender.answer()
            assert (response.status, response.all("X-Both")) == (204, ["three, four"])


@pytest.mark.clause(110)
@pytest.mark.parametrize("method", ["DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT", "TRACE"])
async def test_the_methods_of_its_tests_pass(relay: InteropRelay, method: str) -> None:
    async with DotnetListener(relay, PATH) as listener, asyncio.TaskGroup() as tasks:
        asking = Asking(relay).start(tasks, method)
        request = await listener.command("request")
        assert request["method"] == method
        await answer(listener, request, statusDescription="All right")

    assert (asking.result().status, asking.result().reason) == (200, "All right")


@pytest.mark.clause(112)
@pytest.mark.parametrize(
    ("status", "description"),
    [
        (501, "RequestHandler has not been configured. TrackingId:"),
        (500, "The user-provided RequestHandler threw an exception. TrackingId:"),
    ],
)
async def test_what_the_library_says_without_a_handler_and_of_one_that_throws_passes(
    relay: InteropRelay, status: int, description: str
) -> None:
    async with DotnetListener(relay, PATH) as listener, asyncio.TaskGroup() as tasks:
        asking = Asking(relay).start(tasks)
        request = await listener.command("request")
        description += str(request["id"])
        await answer(listener, request, status, statusDescription=description)

    assert (asking.result().status, asking.result().reason) == (status, description)
    assert asking.result().headers["via"] == f"1.1 {HOST}"


@pytest.mark.clause(59)
async def test_allowed_listeners_hold_for_http_too(relay: InteropRelay) -> None:
    async with DotnetListener(relay, PATH) as first, DotnetListener(relay, PATH) as second:
        for listener in (first, second, first):
            async with asyncio.TaskGroup() as tasks:
                asking = Asking(relay).start(tasks, headers={ALLOWED: listener.id})
                await answer(listener, await listener.command("request"), 204)
            assert asking.result().status == 204


@pytest.mark.clause(125)
async def test_the_runtime_information_get_without_its_header_is_relayed(
    relay: InteropRelay,
) -> None:
    async with DotnetListener(relay, PATH) as listener, asyncio.TaskGroup() as tasks:
        asking = Asking(relay).start(tasks, target=f"/{PATH}?api-version=2016-07")
        request = await listener.command("request")
        assert request["requestTarget"] == f"/{PATH}?api-version=2016-07"
        await answer(listener, request, 202)

    assert asking.result().status == 202


@pytest.mark.clause(38)
async def test_azbridges_own_authorization_arrives_beside_its_token(relay: InteropRelay) -> None:
    async with DotnetListener(relay, PATH) as listener, asyncio.TaskGroup() as tasks:
        asking = Asking(relay).start(tasks, headers={"Authorization": "Bearer of-the-application"})
        request = await listener.command("request")
        headers = request["requestHeaders"]
        assert isinstance(headers, dict)
        assert headers["Authorization"] == "Bearer of-the-application"
        assert "ServiceBusAuthorization" not in headers
        await answer(listener, request, 204)

    assert asking.result().status == 204
