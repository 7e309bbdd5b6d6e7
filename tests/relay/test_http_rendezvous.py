"""Requests and responses that go by a rendezvous socket (7.3 to 7.5)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.http import HttpPeers, heard, http_peers, response
from tests.support.raw import close_frame, frame
from tests.support.relay import RunningRelay
from tests.support.wire import is_alive


@pytest.fixture
async def http(relay: RunningRelay) -> AsyncIterator[HttpPeers]:
    async with http_peers(relay) as peers:
        yield peers


@pytest.mark.clause(93)
async def test_a_post_of_65537_bytes_goes_by_rendezvous(http: HttpPeers) -> None:
    body = bytes(range(256)) * 256 + b"x"
    async with http.sending("/hc1/up?a=b", method="POST", body=body) as sender:
        told = (await http.control.command())["request"]
        assert isinstance(told, dict)
        assert list(told) == ["address"]
        async with await http.visit(told["address"]) as near:
            request = await heard(near)
            await near.send(response(request.id, b"stored", status=201))
            answer = await sender.answer()
            assert await near.close() == (1000, "NormalClosure")

    assert request.body == body
    assert request.address == told["address"]
    assert request.fields["requestTarget"] == "/hc1/up?a=b"
    assert (answer.status, answer.reason, answer.body) == (201, "Created", b"stored")
    assert await is_alive(http.control)


@pytest.mark.clause(100, 101)
@pytest.mark.parametrize("end", [frame(0), close_frame(1000, "NormalClosure")])
async def test_a_response_by_rendezvous_ends_with_its_message_or_with_a_close(
    http: HttpPeers, end: bytes
) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        async with await http.visit(request.address) as near:
            await near.send(response(request.id, b"", pieces=[b"one", b"two"], is_whole=False))
            assert (await sender.answer(has_body=False)).status == 200
            assert await sender.chunk() == b"onetwo"
            await near.send(end)
            assert await sender.chunk() == b""
            assert await near.close() == (1000, "NormalClosure")
