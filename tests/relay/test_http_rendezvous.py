"""Requests and responses that go by a rendezvous socket (7.3 to 7.5)."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack

import pytest

from tests.support.http import HttpPeers, error_code, heard, response
from tests.support.meeting import rest
from tests.support.raw import (
    BINARY,
    PING,
    PONG,
    TEXT,
    Frame,
    RawPeer,
    RelayPeers,
    close_frame,
    frame,
)
from tests.support.relay import HOST, RunningRelay
from tests.support.until import until
from tests.support.wire import CONTINUATION, http_request, is_alive

CHUNKED = ("Transfer-Encoding", "chunked")
NORMAL = (1000, "NormalClosure")


async def address_of(control: RawPeer) -> str:
    """Read a request that goes by rendezvous: its address, and nothing else."""
    told = (await control.command())["request"]
    assert isinstance(told, dict)
    assert list(told) == ["address"]
    return str(told["address"])


# --- Requests ------------------------------------------------------------------------------------


@pytest.mark.clause(93, 121)
async def test_a_post_of_65537_bytes_goes_by_rendezvous_and_so_does_the_next(
    http: HttpPeers,
) -> None:
    body = bytes(range(256)) * 256 + b"x"
    async with await http.peers.dial() as sender:
        for _ in range(2):
            await sender.send(http.request("/hc1/up?a=b", method="POST", body=body))
            address = await address_of(http.control)
            async with await http.visit(address) as near:
                request = await heard(near)
                await near.send(response(request.id, b"stored", status=201))
                answer = await sender.answer()
                assert await near.close() == NORMAL

            assert request.body == body
            assert request.address == address
            assert request.fields["requestTarget"] == "/hc1/up?a=b"
            assert (answer.status, answer.reason, answer.body) == (201, "Created", b"stored")
    assert await is_alive(http.control)


@pytest.mark.clause(94)
async def test_a_chunked_body_is_streamed_as_fragments_of_one_message(http: HttpPeers) -> None:
    async with (
        http.sending("/hc1", CHUNKED, method="POST") as sender,
        await http.visit(await address_of(http.control)) as near,
    ):
        request = json.loads((await near.message())[1])["request"]
        frames: list[Frame] = []
        for piece in (b"4\r\nwxyz\r\n", b"1\r\n!\r\n2\r\n??\r\n"):
            await sender.send(piece)
            frames.append(await near.frame())
        await sender.send(b"0\r\n\r\n")
        frames.append(await near.frame())
        await near.send(response(request["id"], None))

        assert (await sender.answer()).status == 200

    assert request["body"] is True
    assert "Transfer-Encoding" not in request["requestHeaders"]
    assert [(each.opcode, each.payload, each.fin) for each in frames] == [
        (BINARY, b"wxyz", False),
        (CONTINUATION, b"!??", False),
        (CONTINUATION, b"", True),
    ]


@pytest.mark.clause(95)
async def test_an_empty_chunked_body_is_announced_and_empty(http: HttpPeers) -> None:
    async with http.sending("/hc1", CHUNKED, method="POST") as sender:
        await sender.send(b"0\r\n\r\n")
        async with await http.visit(await address_of(http.control)) as near:
            request = await heard(near)

    assert request.fields["body"] is True
    assert request.body == b""


async def test_headers_that_fit_no_control_message_go_by_rendezvous(http: HttpPeers) -> None:
    # Latin-1 takes six bytes a character in JSON.
    headers = [(f"X-{number}", "ø" * 250) for number in range(100)]
    for body in (b"", b"small"):
        async with (
            http.sending("/hc1", *headers, body=body, method="POST") as sender,
            await http.visit(await address_of(http.control)) as near,
        ):
            request = await heard(near)
            await near.send(response(request.id, b"got it"))
            assert (await sender.answer()).body == b"got it"

        assert request.body == body
        assert request.headers["X-99"] == "ø" * 250


async def test_no_frame_of_a_request_is_larger_than_64_kib(http: HttpPeers) -> None:
    body = bytes(1_000_000)
    async with (
        http.sending(method="POST", body=body) as sender,
        await http.visit(await address_of(http.control)) as near,
    ):
        await near.message()
        frames = [await near.frame()]
        while not frames[-1].fin:
            frames.append(await near.frame())
        sender.reset()

    assert sum(len(each.payload) for each in frames) == 1_000_000
    assert max(len(each.payload) for each in frames) <= 65_536


@pytest.mark.clause(123)
@pytest.mark.parametrize("size", [5, 100_000])
async def test_a_sender_that_expects_100_is_told_to_go_on(http: HttpPeers, size: int) -> None:
    body = b"x" * size
    headers = [("Expect", "100-continue"), ("Content-Length", str(size))]
    async with AsyncExitStack() as opened:
        sender = await opened.enter_async_context(http.sending("/hc1", *headers, method="POST"))
        near = http.control
        if size > 65_536:
            address = await address_of(near)
            near = await opened.enter_async_context(await http.visit(address))
        assert (await sender.answer()).status == 100
        await sender.send(body)
        request = await heard(near)
        await near.send(response(request.id, b"done"))
        answer = await sender.answer()

    assert request.body == body
    assert "Expect" not in request.headers, "it has been met here"
    assert answer.body == b"done"


@pytest.mark.clause(123)
async def test_a_sender_that_expects_100_is_told_at_once_that_nobody_listens(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    token = ("ServiceBusAuthorization", relay.token())
    expect = [("Expect", "100-continue"), ("Content-Length", "5")]
    peer, answer = await peers.request(http_request("/hc1", HOST, token, *expect, method="POST"))

    assert answer.status == 404
    assert answer.all("Connection") == ["close"]
    assert await peer.ended()


@pytest.mark.parametrize("ending", ["reset", "nonsense"])
async def test_a_body_that_breaks_off_does_not_look_complete(http: HttpPeers, ending: str) -> None:
    async with (
        http.sending("/hc1", CHUNKED, method="POST") as sender,
        await http.visit(await address_of(http.control)) as near,
    ):
        await near.message()
        await sender.send(b"4\r\nhalf\r\n")
        assert (await near.frame()).payload == b"half"
        if ending == "reset":
            sender.reset()
        else:
            await sender.send(b"no chunk\r\n")
            answer = await sender.answer()
            assert (answer.status, error_code(answer)) == (400, "BadRequest")
            assert await sender.ended()

        assert await rest(near) == (b"", False), "no end of the message, no Close"
    assert await is_alive(http.control)


# --- Responses -----------------------------------------------------------------------------------


@pytest.mark.clause(100, 101)
@pytest.mark.parametrize("end", [frame(0), close_frame(1000, "NormalClosure"), close_frame(None)])
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
            assert await near.close() == NORMAL


@pytest.mark.clause(101)
async def test_all_of_a_response_arrives_though_the_listener_drops_tcp_after_its_close(
    http: HttpPeers,
) -> None:
    body = bytes(range(256)) * 1_000
    async with http.sending() as sender:
        request = await heard(http.control)
        async with await http.visit(request.address) as near:
            await near.send(response(request.id, b"", pieces=[body], is_whole=False))
            near.writer.write(close_frame(1000, "NormalClosure"))
            near.writer.close()
            answer = await sender.answer()

    assert answer.body == body


@pytest.mark.clause(105)
async def test_a_rendezvous_that_the_listener_leaves_open_is_closed(http: HttpPeers) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        async with await http.visit(request.address) as near:
            await near.send(response(request.id, b"whole"))
            assert (await sender.answer()).body == b"whole"
            assert await near.close() == NORMAL
            await near.send(frame(BINARY, b"stray") + close_frame())
            assert await near.ended()


@pytest.mark.clause(100)
async def test_the_head_and_each_piece_of_a_response_reach_the_sender_before_the_next(
    http: HttpPeers,
) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        async with await http.visit(request.address) as near:
            await near.send(response(request.id, b"", pieces=[], is_whole=False))
            assert (await sender.answer(has_body=False)).status == 200
            for number, piece in enumerate((b"tick", b"tock")):
                await near.send(frame(0 if number else BINARY, piece, fin=False))
                assert await sender.chunk() == piece
            await near.send(frame(PING, b"still there?") + frame(0))
            assert await near.frame() == Frame(PONG, b"still there?")
            assert await sender.chunk() == b""


async def test_a_response_before_the_body_is_complete_is_passed_on_and_ends_the_connection(
    http: HttpPeers,
) -> None:
    async with http.sending("/hc1", CHUNKED, method="POST") as sender:
        async with await http.visit(await address_of(http.control)) as near:
            request = json.loads((await near.message())[1])["request"]
            await near.send(response(request["id"], b"enough", status=413) + close_frame())
            answer = await sender.answer()

            assert (answer.status, answer.body) == (413, b"enough")
            assert answer.all("Connection") == ["close"]
            assert await near.close() == NORMAL
        assert await sender.ended()


@pytest.mark.clause(71)
async def test_an_address_is_good_once_and_not_after_the_end(http: HttpPeers) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        async with await http.visit(request.address) as near:
            other, answer = await http.peers.visit(request.address)
            assert answer.status == 403
            await near.send(response(request.id, b"first"))
            assert (await sender.answer()).body == b"first"
        late, answer = await http.peers.visit(request.address)
        assert answer.status == 403
        assert await other.ended()
        assert await late.ended()


@pytest.mark.clause(120)
async def test_a_sender_that_leaves_closes_the_rendezvous(http: HttpPeers) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        async with await http.visit(request.address) as near:
            sender.reset()
            assert await near.close() == NORMAL


async def test_a_listener_that_pings_and_does_not_read_is_owed_the_last_pong_only(
    http: HttpPeers,
) -> None:
    relay = http.relay.service.gateway.http
    async with (
        http.sending("/hc1", CHUNKED, method="POST") as sender,
        await http.visit(await address_of(http.control)) as near,
    ):
        near.writer.transport.pause_reading()  # type: ignore[attr-defined]
        sender.writer.write((b"10000\r\n" + bytes(65_536) + b"\r\n") * 200)
        await until(lambda: relay.held_bytes)
        for number in range(100):
            await near.send(frame(PING, b"%d" % number))
            assert await is_alive(http.control)  # So each is read on its own.
        near.writer.transport.resume_reading()  # type: ignore[attr-defined]
        sender.writer.write(b"0\r\n\r\n")

        pongs: list[bytes] = []
        while not pongs or pongs[-1] != b"99":
            each = await near.frame()
            pongs += [each.payload] if each.opcode == PONG else []

    assert len(pongs) < 10


async def test_an_answer_on_the_control_channel_to_a_request_by_rendezvous_is_taken(
    http: HttpPeers,
) -> None:
    async with http.sending("/hc1", CHUNKED, method="POST") as sender:
        await sender.send(b"0\r\n\r\n")
        async with await http.visit(await address_of(http.control)) as near:
            request = await heard(near)
            await http.control.send(response(request.id, b"other way"))

            assert (await sender.answer()).body == b"other way"
            assert await near.close() == NORMAL


# --- Listeners that break the rules --------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        (frame(BINARY, b"x"), 1002, "Command messages must be MessageType=Text."),
        (frame(TEXT, b'{"renewToken":{}}'), 1002, "'response' command was expected."),
        (frame(TEXT, b'{"response":{}}'), 1002, "'response.requestId' is required."),
        (response("other"), 1002, "'response.requestId' is not that of this request."),
        (frame(TEXT, b"no json"), 1002, "the message is not JSON."),
        (frame(TEXT, b"\xff"), 1007, "The command is not UTF-8."),
        (frame(TEXT, b"x" * 65_537), 1009, "The command is too large."),
        (frame(3), 1002, "opcode 3 is reserved."),
        (frame(TEXT, b"x", mask=None), 1002, "a frame is not masked."),
    ],
)
async def test_a_violation_is_told_to_the_listener_and_is_502_for_the_sender(
    http: HttpPeers, sent: bytes, code: int, reason: str
) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        async with await http.visit(request.address) as near:
            await near.send(sent)
            answer = await sender.answer()

            assert (answer.status, error_code(answer)) == (502, "BadGateway")
            assert await near.close() == (code, reason)
    assert await is_alive(http.control)


@pytest.mark.parametrize("end", [None, close_frame(1011, "broken"), frame(TEXT, b"text")])
async def test_a_response_that_breaks_off_does_not_look_complete(
    http: HttpPeers, end: bytes | None
) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        async with await http.visit(request.address) as near:
            await near.send(response(request.id, b"", pieces=[b"half"], is_whole=False))
            assert (await sender.answer(has_body=False)).status == 200
            assert await sender.chunk() == b"half"
            if end is None:
                near.reset()
            else:
                await near.send(end)

            assert await rest(sender) == (b"", False)


@pytest.mark.parametrize("end", ["reset", "close"])
async def test_a_listener_that_leaves_the_rendezvous_without_an_answer_is_502(
    http: HttpPeers, end: str
) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        async with await http.visit(request.address) as near:
            if end == "reset":
                near.reset()
            else:
                await near.send(close_frame())
            answer = await sender.answer()
    assert (answer.status, error_code(answer)) == (502, "BadGateway")
    assert answer.reason.startswith("The listener broke off before it answered the request.")
