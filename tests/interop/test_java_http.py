"""What the Java library does with relayed HTTP, done by raw peers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from tests.interop.http_sender import HttpSender, Response, ask
from tests.interop.java_peer import JavaListener, close_and_drop, sender_resource, to_json
from tests.interop.relay_on_443 import HOST, InteropRelay
from tests.support.raw import BINARY, TEXT, RawPeer, frame

PATH = "java"
LARGE = 70_000


def response_to(request: Mapping[str, object], *, has_body: bool) -> bytes:
    """A ``response`` as org.json writes it, without headers: the handler set none."""
    response = {
        "requestId": request["id"],
        "body": has_body,
        "responseHeaders": {},
        "statusCode": 200,
        "statusDescription": "OK",
    }
    return frame(TEXT, to_json({"response": response}))


async def body_without_fin(peer: RawPeer, request: Mapping[str, object], body: bytes) -> None:
    """Its way by rendezvous: fragments without an end, a Close, and TCP is gone."""
    await peer.send(response_to(request, has_body=True))
    for at in range(0, len(body), 30_000):
        await peer.send(frame(0 if at else BINARY, body[at : at + 30_000], fin=False))
    await close_and_drop(peer, "NormalClosure")


def start(
    tasks: asyncio.TaskGroup,
    relay: InteropRelay,
    method: str = "GET",
    target: str = f"/{PATH}",
    *,
    token: str | None = None,
    body: bytes | list[bytes] | None = None,
) -> asyncio.Task[Response]:
    """Ask as HttpURLConnection does, while the test plays the listener."""
    headers = {
        "ServiceBusAuthorization": token or relay.token(sender_resource()),
        "User-Agent": "Java/17",
        "Accept": "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
    }

    async def run() -> Response:
        with HttpSender(relay) as sender:
            return await ask(sender, method, target, headers=headers, body=body)

    return tasks.create_task(run(), name=f"{method} {target}")


@pytest.mark.clause(99, 122)
async def test_a_small_body_without_a_type_reaches_the_sender_with_one(
    relay: InteropRelay,
) -> None:
    async with JavaListener(relay, PATH) as listener, asyncio.TaskGroup() as tasks:
        asking = start(tasks, relay)
        request = await listener.command("request")
        await listener.control.send(response_to(request, has_body=True) + frame(BINARY, b"hello"))

    assert asking.result().body == b"hello"
    assert asking.result().headers["content-type"]


@pytest.mark.clause(101)
async def test_a_large_body_that_ends_with_a_close_instead_of_fin_is_complete(
    relay: InteropRelay,
) -> None:
    body = bytes(range(256)) * 1_000
    async with JavaListener(relay, PATH) as listener, asyncio.TaskGroup() as tasks:
        asking = start(tasks, relay)
        request = await listener.command("request")
        peer, handshake = await listener.visit(str(request["address"]))
        async with peer:
            assert handshake.status == 101
            await body_without_fin(peer, request, body)

            response = await asking
    assert (response.status, response.body) == (200, body)


@pytest.mark.clause(93, 95, 101)
@pytest.mark.parametrize(
    "body", [bytes(LARGE), [b"chunk"] * 3, [b""]], ids=["with a length", "chunked", "empty chunked"]
)
async def test_a_large_or_chunked_request_comes_by_rendezvous_with_body_true(
    relay: InteropRelay, body: bytes | list[bytes]
) -> None:
    whole = body if isinstance(body, bytes) else b"".join(body)
    async with JavaListener(relay, PATH) as listener, asyncio.TaskGroup() as tasks:
        asking = start(tasks, relay, "POST", body=body)
        command = await listener.command("request")
        # It tells the two forms apart by the missing ``body``.
        assert not {"method", "body", "id"} & set(command)
        peer, handshake = await listener.visit(str(command["address"]))
        async with peer:
            assert handshake.status == 101
            request = (await peer.command())["request"]
            assert isinstance(request, dict)
            assert request["body"] is True
            assert await peer.message() == (BINARY, whole)
            await body_without_fin(peer, request, whole or b"was empty")

            response = await asking
    assert response.body == (whole or b"was empty")


async def test_a_post_with_length_0_has_no_body_message(relay: InteropRelay) -> None:
    """HttpURLConnection makes a GET with output enabled a POST with Content-Length 0."""
    async with JavaListener(relay, PATH) as listener, asyncio.TaskGroup() as tasks:
        asking = start(tasks, relay, "POST", body=b"")
        request = await listener.command("request")
        assert (request["method"], request["body"]) == ("POST", False)
        await listener.control.send(response_to(request, has_body=False))

    assert (asking.result().status, asking.result().body) == (200, b"")


@pytest.mark.clause(16, 26)
async def test_a_token_for_the_full_request_url_and_the_path_it_will_encode_again(
    relay: InteropRelay,
) -> None:
    target = f"/{PATH}/extra%20path?key=value;&blank=%20"
    token = relay.token(f"https://{HOST}{target}")
    async with JavaListener(relay, PATH) as listener, asyncio.TaskGroup() as tasks:
        asking = start(tasks, relay, target=target, token=token)
        request = await listener.command("request")
        assert request["requestTarget"] == f"/{PATH}/extra path?key=value;&blank=%20"
        await listener.control.send(response_to(request, has_body=False))

    assert asking.result().status == 200
