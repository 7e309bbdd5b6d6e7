"""hyco-https, as published: listener and sender over HTTP, together and with our own."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote

import pytest

from tests.interop.http_sender import HttpSender, ask
from tests.interop.programs import NodeProgram, pattern, summary
from tests.interop.relay_on_443 import HOST, InteropRelay

PATH = "node-http"
NEIGHBOURS = [0, 1, 65_535, 65_536, 65_537]
LARGE = 1 << 20
ODD_VALUE = "\"'(),/:;<=>?@[\\]{}"
ODD_NAME = "X-Odd!#$%&'*+-.^_`|~"

ids = itertools.count()


@pytest.fixture
async def listener(relay: InteropRelay) -> AsyncIterator[NodeProgram]:
    """hyco-https as a listener."""
    async with NodeProgram("https_listener.js", relay, PATH) as program:
        await program.event("listening")
        yield program


@pytest.fixture
async def sender(relay: InteropRelay) -> AsyncIterator[NodeProgram]:
    """hyco-https as a sender."""
    async with NodeProgram("https_sender.js", relay, PATH) as program:
        yield program


async def send(
    sender: NodeProgram, method: str, target: str, **options: object
) -> Mapping[str, object]:
    """Send one request; give the response."""
    number = next(ids)
    await sender.tell("send", id=number, method=method, target=target, **options)
    response = await sender.event("response")
    assert response["id"] == number
    return response


def headers_of(response: Mapping[str, object]) -> dict[str, str]:
    headers = response["headers"]
    assert isinstance(headers, dict)
    return headers


@pytest.mark.clause(91, 99, 111)
async def test_a_get_goes_there_and_back(listener: NodeProgram, sender: NodeProgram) -> None:
    response = await send(sender, "GET", "/echo?color=red&color=blue")

    assert (response["status"], response["size"]) == (200, 0)
    assert headers_of(response)["x-url"] == f"/{PATH}/echo?color=red&color=blue"
    assert headers_of(response)["via"] == f"1.1 {HOST}"
    assert (await listener.event("request"))["method"] == "GET"


@pytest.mark.clause(92, 93, 103)
async def test_bodies_with_a_length_around_64_kib(
    listener: NodeProgram, sender: NodeProgram
) -> None:
    for size in [*NEIGHBOURS, LARGE]:
        length = {"Content-Length": size}
        response = await send(sender, "POST", "/echo", size=size, headers=length)

        assert response["status"] == 200
        assert summary(pattern(size)).items() <= response.items(), size
        assert summary(pattern(size)).items() <= (await listener.event("request")).items()


@pytest.mark.clause(94, 95)
async def test_chunked_bodies_around_64_kib(listener: NodeProgram, sender: NodeProgram) -> None:
    for size in [*NEIGHBOURS, LARGE]:
        response = await send(sender, "POST", "/echo", size=size, step=40_000)

        assert response["status"] == 200
        assert summary(pattern(size)).items() <= response.items(), size
        assert summary(pattern(size)).items() <= (await listener.event("request")).items()


async def test_a_request_body_byte_by_byte(listener: NodeProgram, sender: NodeProgram) -> None:
    response = await send(sender, "POST", "/echo", size=3_000, step=1)

    assert summary(pattern(3_000)).items() <= response.items()


@pytest.mark.clause(100)
async def test_response_bodies_around_64_kib(listener: NodeProgram, sender: NodeProgram) -> None:
    for size in [*NEIGHBOURS, LARGE]:
        response = await send(sender, "GET", f"/size?n={size}")

        assert summary(pattern(size)).items() <= response.items(), size


@pytest.mark.clause(102)
async def test_66_000_one_byte_frames_arrive_within_ten_seconds(
    listener: NodeProgram, sender: NodeProgram
) -> None:
    async with asyncio.timeout(10):
        response = await send(sender, "GET", "/bytes?n=66000")

    assert summary(pattern(66_000)).items() <= response.items()


@pytest.mark.clause(116)
async def test_ten_requests_together_each_get_their_own_answer(
    listener: NodeProgram, sender: NodeProgram
) -> None:
    sizes = {1_000 + n: size for n, size in enumerate([0, 1, 100, 65_536, 65_537] * 2)}
    requests = [
        {"id": number, "method": "POST", "target": "/echo", "size": size, "together": True}
        for number, size in sizes.items()
    ]

    await sender.tell("together", requests=requests)

    responses = [await sender.event("response") for _ in requests]
    assert sorted(str(each["id"]) for each in responses) == sorted(map(str, sizes))
    for each in responses:
        assert summary(pattern(sizes[int(str(each["id"]))])).items() <= each.items()


@pytest.mark.clause(104, 109)
async def test_no_body_with_head_204_and_304_and_the_connection_goes_on(
    listener: NodeProgram, sender: NodeProgram
) -> None:
    for method, target, status in [
        ("HEAD", "/size?n=100", 200),
        ("GET", "/status?code=204", 204),
        ("GET", "/status?code=304", 304),
    ]:
        response = await send(sender, method, target)
        assert (response["status"], response["size"]) == (status, 0)

    assert (await send(sender, "GET", "/size?n=5"))["size"] == 5


@pytest.mark.clause(107, 108)
@pytest.mark.parametrize(
    "status", [201, 206, 300, 302, 305, 306, 400, 407, 418, 426, 450, 500, 502, 504]
)
async def test_statuses_pass_with_a_reason_of_the_listeners_own(
    listener: NodeProgram, sender: NodeProgram, status: int
) -> None:
    reason = 'It is "so" {[`|\\]}!#$%&\'()*+,/:;<=>?@^_~'

    response = await send(sender, "GET", f"/status?code={status}&reason={quote(reason)}")

    assert response["status"] == status
    assert response["reason"] == reason


@pytest.mark.clause(96, 98)
async def test_odd_header_names_and_values_pass_both_ways(
    listener: NodeProgram, sender: NodeProgram
) -> None:
    response = await send(sender, "GET", "/headers", headers={ODD_NAME: ODD_VALUE})

    seen = json.loads(str(response["text"]))
    # hyco-https gives its handler the names in lower case.
    assert seen[ODD_NAME.lower()] == ODD_VALUE
    assert seen["host"] == HOST
    assert seen["via"] == f"1.1 {HOST}"
    assert not {"connection", "content-length", "transfer-encoding", "te"} & set(seen)
    assert "servicebusauthorization" not in seen
    assert headers_of(response)[ODD_NAME.lower()] == ODD_VALUE


@pytest.mark.clause(121)
async def test_requests_after_large_ones_on_one_connection(
    listener: NodeProgram, sender: NodeProgram
) -> None:
    for size in (LARGE, 10, 65_537, 65_536, LARGE, 0):
        response = await send(sender, "POST", "/echo", size=size)
        assert summary(pattern(size)).items() <= response.items()


@pytest.mark.clause(110)
@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE"])
async def test_methods_pass(listener: NodeProgram, sender: NodeProgram, method: str) -> None:
    response = await send(sender, method, "/echo")

    assert headers_of(response)["x-method"] == method


@pytest.mark.clause(114)
async def test_without_a_listener_the_answer_is_azures_404(sender: NodeProgram) -> None:
    response = await send(sender, "GET", "")

    assert response["status"] == 404
    assert json.loads(str(response["text"]))["error"]["code"] == "EndpointNotFound"
    assert "via" not in headers_of(response)


@pytest.mark.clause(123)
async def test_a_body_that_waits_to_be_asked_for(
    listener: NodeProgram, sender: NodeProgram
) -> None:
    for size in (10, LARGE):
        headers = {"Expect": "100-continue", "Content-Length": size}
        response = await send(sender, "POST", "/echo", size=size, headers=headers)
        assert summary(pattern(size)).items() <= response.items()


# --- crosswise -----------------------------------------------------------------------------------


async def test_an_ordinary_http_client_and_a_node_listener(
    relay: InteropRelay, listener: NodeProgram
) -> None:
    token = {"ServiceBusAuthorization": relay.token_for(PATH)}
    with HttpSender(relay) as plain:
        for body in (b"", b"x", pattern(65_537)):
            response = await ask(plain, "POST", f"/{PATH}/echo", headers=token, body=body)
            assert (response.status, response.body) == (200, body)
        chunks = [pattern(70_000), b"", pattern(3)]
        response = await ask(plain, "POST", f"/{PATH}/echo", headers=token, body=chunks)
        assert response.body == b"".join(chunks)


@pytest.mark.clause(115)
async def test_a_request_without_a_token_is_azures_401(
    relay: InteropRelay, listener: NodeProgram
) -> None:
    with HttpSender(relay) as plain:
        response = await ask(plain, "GET", f"/{PATH}/echo")

    assert response.status == 401
    assert json.loads(response.body)["error"]["code"] == "TokenMissingOrInvalid"
