"""HTTP requests that the control channel carries whole, and their answers (7.2 to 7.6)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.http import HttpPeers, heard, http_peers, response
from tests.support.relay import HOST, RunningRelay
from tests.support.wire import is_alive


@pytest.fixture
async def http(relay: RunningRelay) -> AsyncIterator[HttpPeers]:
    async with http_peers(relay) as peers:
        yield peers


@pytest.mark.clause(91, 96, 111)
async def test_a_get_reaches_the_listener_whole_and_its_answer_comes_back(http: HttpPeers) -> None:
    async with http.sending("/hc1/sub?x=1") as sender:
        request = await heard(http.control)
        await http.control.send(response(request.id, b"hello", headers={"X-Y": "z"}))
        answer = await sender.answer()

    assert request.body is None
    assert request.fields["method"] == "GET"
    assert request.fields["requestTarget"] == "/hc1/sub?x=1"
    assert request.headers["Via"] == f"1.1 {HOST}"
    assert answer.status == 200
    assert answer.body == b"hello"
    assert answer.all("Via") == [f"1.1 {HOST}"]
    assert answer.all("X-Y") == ["z"]
    assert await is_alive(http.control)


@pytest.mark.clause(92)
async def test_a_post_of_65536_bytes_goes_by_the_control_channel(http: HttpPeers) -> None:
    body = bytes(range(256)) * 256
    async with http.sending(method="POST", body=body) as sender:
        request = await heard(http.control)
        await http.control.send(response(request.id, None, status=204))
        answer = await sender.answer()

    assert request.body == body
    assert answer.status == 204
