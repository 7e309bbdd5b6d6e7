"""Large bodies, tiny frames, slow and silent ends of relayed HTTP: bounded, whole or broken."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator

import pytest

from relay.http_sender import MAX_EARLY_BYTES
from relay.settings import RelaySettings
from tests.support.http import HttpPeers, error_code, heard, response
from tests.support.raw import RawPeer, close_frame, frame
from tests.support.relay import HOST, RunningRelay, running_relay
from tests.support.wire import http_request, is_alive

MIB = 1_048_576
PIECE = bytes(range(256)) * 256
"""64 KiB."""

MOST_HELD_BYTES = 4 * MAX_EARLY_BYTES
"""What the relay may hold of one request in both directions, kernels apart."""

STUCK_SECONDS = 0.25


@pytest.fixture
async def relay(request: pytest.FixtureRequest) -> AsyncIterator[RunningRelay]:
    settings = getattr(request, "param", RelaySettings(drain_seconds=0))
    async with running_relay(settings=settings) as running:
        yield running


async def address_of(control: RawPeer) -> str:
    told = (await control.command())["request"]
    assert isinstance(told, dict)
    return str(told["address"])


async def send_until_stuck(peer: RawPeer, piece: bytes) -> int:
    """Send until nothing more is taken for a while; give how many pieces were given away."""
    for count in itertools.count(1):
        peer.writer.write(piece)
        try:
            async with asyncio.timeout(STUCK_SECONDS):
                await peer.writer.drain()
        except TimeoutError:
            return count
    raise AssertionError("unreachable")


async def pieces_of(peer: RawPeer, *, masked: bytes) -> int:
    """Read a message of any length without keeping it; check it; give how many bytes came."""
    size = 0
    while True:
        each = await peer.frame()
        assert each.payload == (masked * 3)[size % len(masked) :][: len(each.payload)]
        size += len(each.payload)
        if each.fin:
            return size


# --- Large bodies --------------------------------------------------------------------------------


async def test_32_mib_pass_each_way_at_once(http: HttpPeers) -> None:
    count = 32 * MIB // len(PIECE)
    piece = frame(0, PIECE, fin=False)
    length = ("Content-Length", str(32 * MIB))
    async with (
        http.sending("/hc1", length, method="POST") as sender,
        await http.visit(await address_of(http.control)) as near,
    ):
        request = json.loads((await near.message())[1])["request"]
        announced = response(request["id"], b"", pieces=[b""], is_whole=False)

        async def upload() -> None:
            for _ in range(count):
                await sender.send(PIECE)

        async def respond() -> None:
            await near.send(announced)
            for _ in range(count):
                await near.send(piece)
            await near.send(frame(0))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(upload())
            tasks.create_task(respond())
            uploaded = tasks.create_task(pieces_of(near, masked=PIECE))
            downloaded = tasks.create_task(sender.answer())

    assert uploaded.result() == 32 * MIB
    assert downloaded.result().body == PIECE * count


@pytest.mark.clause(102)
async def test_66000_frames_of_one_byte_arrive_within_10_seconds(http: HttpPeers) -> None:
    body = bytes(number % 251 for number in range(66_000))
    tiny = [frame(0, body[at : at + 1], fin=False) for at in range(251)]
    async with http.sending() as sender:
        request = await heard(http.control)
        async with await http.visit(request.address) as near, asyncio.timeout(10):
            await near.send(response(request.id, b"", pieces=[body[:1]], is_whole=False))
            near.writer.write(b"".join(tiny[number % 251] for number in range(1, 66_000)))
            await near.send(frame(0))
            assert (await sender.answer()).body == body


# --- Slow ends -----------------------------------------------------------------------------------


async def test_a_sender_that_does_not_read_slows_the_listener_and_loses_nothing(
    relay: RunningRelay, http: HttpPeers
) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        async with await http.visit(request.address) as near:
            await near.send(response(request.id, b"", pieces=[PIECE], is_whole=False))
            count = 1 + await send_until_stuck(near, frame(0, PIECE, fin=False))
            assert relay.service.gateway.http.held_bytes <= MOST_HELD_BYTES
            near.writer.write(frame(0))
            answer = await sender.answer()

            assert answer.body == PIECE * count


async def test_a_listener_that_does_not_read_slows_the_sender_and_loses_nothing(
    relay: RunningRelay, http: HttpPeers
) -> None:
    chunked = ("Transfer-Encoding", "chunked")
    async with (
        http.sending("/hc1", chunked, method="POST") as sender,
        await http.visit(await address_of(http.control)) as near,
    ):
        chunk = b"%x\r\n%b\r\n" % (len(PIECE), PIECE)
        count = await send_until_stuck(sender, chunk)
        assert relay.service.gateway.http.held_bytes <= MOST_HELD_BYTES
        sender.writer.write(b"0\r\n\r\n")
        opcode, _ = await near.message()

        assert opcode == 1
        assert await pieces_of(near, masked=PIECE) == count * len(PIECE)


async def test_a_body_waits_in_the_kernels_until_the_listener_comes(http: HttpPeers) -> None:
    length = ("Content-Length", str(1_000 * MIB))
    async with http.sending("/hc1", length, method="POST") as sender:
        await address_of(http.control)
        given = await send_until_stuck(sender, PIECE)
        sender.reset()

        assert given * len(PIECE) < 32 * MIB
        assert await is_alive(http.control)


# --- Time ----------------------------------------------------------------------------------------

SHORT = 0.15
_HASTY = RelaySettings(
    drain_seconds=0,
    accept_timeout_seconds=SHORT,
    response_timeout_seconds=SHORT,
    body_gap_seconds=SHORT,
    listener_return_seconds=SHORT,
)
hasty = pytest.mark.parametrize("relay", [_HASTY], indirect=True)


@hasty
@pytest.mark.clause(113)
@pytest.mark.parametrize("size", [0, 5, 70_000])
async def test_a_listener_that_does_not_answer_or_come_is_504(http: HttpPeers, size: int) -> None:
    async with http.sending(method="POST", body=b"x" * size) as sender:
        answer = await sender.answer()

    assert (answer.status, error_code(answer)) == (504, "GatewayTimeout")
    assert answer.reason.startswith(
        "The request was routed to the listener but the listener did not respond in the required "
        "time."
    )
    assert answer.all("Connection") == ([] if size < 65_536 else ["close"])


@hasty
@pytest.mark.clause(113)
async def test_a_late_answer_is_ignored_and_the_connection_carries_the_next_request(
    http: HttpPeers,
) -> None:
    async with http.sending() as sender:
        late = await heard(http.control)
        assert (await sender.answer()).status == 504
        await sender.send(http.request())
        request = await heard(http.control)
        await http.control.send(response(late.id, b"late") + response(request.id, b"in time"))

        assert (await sender.answer()).body == b"in time"


@hasty
async def test_a_listener_that_comes_and_says_nothing_is_504_and_let_go(http: HttpPeers) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        async with await http.visit(request.address) as near:
            assert (await sender.answer()).status == 504
            assert await near.close() == (1000, "NormalClosure")


@hasty
async def test_a_sender_whose_body_stops_is_told_so_and_nobody_takes_it_for_whole(
    http: HttpPeers,
) -> None:
    token = ("ServiceBusAuthorization", http.relay.token())
    async with await http.peers.dial() as sender:
        short = http_request("/hc1", HOST, token, ("Content-Length", "9"), method="POST")
        await sender.send(short + b"half")
        answer = await sender.answer()
        assert (answer.status, answer.all("Connection")) == (408, ["close"])
        assert await sender.ended()
    async with (
        http.sending("/hc1", ("Transfer-Encoding", "chunked"), method="POST") as sender,
        await http.visit(await address_of(http.control)) as near,
    ):
        await sender.send(b"4\r\nhalf\r\n")
        await near.message()
        assert (await near.frame()).payload == b"half"
        assert (await sender.answer()).status == 504
        assert not await near.ended()


@hasty
async def test_time_is_not_counted_while_the_sender_is_slow(http: HttpPeers) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        async with await http.visit(request.address) as near:
            await near.send(response(request.id, b"", pieces=[PIECE], is_whole=False))
            count = 1 + await send_until_stuck(near, frame(0, PIECE, fin=False))
            await asyncio.sleep(3 * SHORT)  # Nothing happens: that is what is shown.
            near.writer.write(frame(0))

            assert len((await sender.answer()).body) == count * len(PIECE)


# --- Listeners that lose their control channel ---------------------------------------------------


@pytest.mark.parametrize("end", [close_frame(), None])
async def test_a_listener_without_control_channel_may_still_bring_its_answer(
    relay: RunningRelay, http: HttpPeers, end: bytes | None
) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        if end is None:
            http.control.reset()
        else:
            await http.control.send(end)
            await http.control.close()
        async with await http.visit(request.address) as near:
            await near.send(response(request.id, b"all the same"))

            assert (await sender.answer()).body == b"all the same"


@hasty
@pytest.mark.parametrize("has_begun", [False, True])
async def test_a_listener_that_is_gone_is_502_or_a_broken_response(
    http: HttpPeers, has_begun: bool
) -> None:
    async with http.sending() as sender:
        request = await heard(http.control)
        if has_begun:
            await http.control.send(response(request.id, b"", pieces=[b"x"], is_whole=False))
            assert (await sender.answer(has_body=False)).status == 200
            http.control.reset()
            assert not await sender.ended()
        else:
            http.control.reset()
            answer = await sender.answer()
            assert (answer.status, error_code(answer)) == (502, "BadGateway")
