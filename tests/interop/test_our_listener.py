"""Our own SDK's listener behind a Node sender and an ordinary HTTP client, for relayed HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from hybridge import IncomingRequest, Listener
from tests.interop.http_sender import HttpSender, ask
from tests.interop.programs import NodeProgram, pattern, summary
from tests.interop.relay_on_443 import HOST, InteropRelay

PATH = "sdk"
SIZES = [0, 1, 65_535, 65_536, 65_537, 1 << 20]


async def echo(request: IncomingRequest) -> None:
    """The same body back, piece by piece as it comes."""
    await request.respond(
        201,
        request.body,
        reason=f"Echoed {request.method}",
        headers={"Content-Type": "application/octet-stream", "X-Target": request.target},
    )


@pytest.fixture
async def listener(relay: InteropRelay) -> AsyncIterator[Listener]:
    async with Listener(
        relay.connection_string(PATH),
        ca=relay.ca,
        connect_to=relay.connect_to,
        request_handler=echo,
    ) as running:
        await running.wait_online()
        yield running


async def test_a_node_sender_gets_what_our_listener_answers(
    relay: InteropRelay, listener: Listener
) -> None:
    async with NodeProgram("https_sender.js", relay, PATH) as sender:
        for number, size in enumerate(SIZES * 2):
            # With a length first, and then chunked.
            headers = {"Content-Length": size} if number < len(SIZES) else {}
            await sender.tell(
                "send", id=number, method="POST", target="/x?y=z", size=size, headers=headers
            )
            response = await sender.event("response")
            assert (response["status"], response["reason"]) == (201, "Echoed POST")
            assert summary(pattern(size)).items() <= response.items(), size
            answered = response["headers"]
            assert isinstance(answered, dict)
            assert (answered["x-target"], answered["via"]) == (f"/{PATH}/x?y=z", f"1.1 {HOST}")


async def test_ten_senders_at_once_and_each_its_own_answer(
    relay: InteropRelay, listener: Listener
) -> None:
    token = {"ServiceBusAuthorization": relay.token_for(PATH)}

    async def send(number: int) -> None:
        body = pattern(65_530 + number)
        with HttpSender(relay) as sender:
            for _ in range(2):
                response = await ask(sender, "PUT", f"/{PATH}/{number}", headers=token, body=body)
                assert (response.status, response.body) == (201, body)
                assert response.headers["x-target"] == f"/{PATH}/{number}"

    async with asyncio.TaskGroup() as tasks:
        for number in range(10):
            tasks.create_task(send(number), name=f"sender {number}")
