"""What goes wrong on purpose looks on the wire as it does when it happens by itself."""

from __future__ import annotations

import logging

import pytest

from hybridge.protocol.errors import InvalidSetting
from tests.support.http import HttpPeers, heard, response
from tests.support.meeting import is_silent, joined, rest
from tests.support.raw import BINARY, TEXT, RawPeer, RelayPeers, close_frame, frame
from tests.support.relay import RunningRelay

ENTITY = "ns1/hc1"
SEVERED = (1001, "The connection was severed.")


async def told(peer: RawPeer) -> bool:
    """Whether the end is the relay's Close, and then an orderly one."""
    return (await peer.frame()).close == SEVERED and await rest(peer) == (b"", True)


async def test_severed_with_a_close_both_sides_get_it_and_an_orderly_end(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    async with joined(relay, peers) as (sender, listener):
        assert relay.service.gateway.faults.sever(ENTITY, close=True) == 1

        for peer in (sender, listener):
            assert await told(peer)


async def test_severed_without_a_close_both_sides_are_reset(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    async with joined(relay, peers) as (sender, listener):
        assert relay.service.gateway.faults.sever(ENTITY, close=False) == 1

        for peer in (sender, listener):
            assert await rest(peer) == (b"", False)


async def test_a_side_that_is_in_the_middle_of_a_frame_is_reset_and_not_told(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    async with joined(relay, peers) as (sender, listener):
        half = frame(BINARY, b"select 1")[:-1]
        await sender.send(half)
        assert await listener.receive_exactly(2 + 7) == b"\x82\x08select "

        relay.service.gateway.faults.sever(ENTITY, close=True)

        assert await rest(listener) == (b"", False)
        assert await told(sender)


async def test_a_side_that_has_got_a_close_gets_no_second_one(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    async with joined(relay, peers) as (sender, listener):
        await sender.send(close_frame(1000, "done"))
        assert (await listener.frame()).close == (1000, "done")

        relay.service.gateway.faults.sever(ENTITY, close=True)

        assert await rest(listener) == (b"", True)
        assert await told(sender)


async def test_what_is_stalled_is_not_read_and_goes_on_in_order(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    faults = relay.service.gateway.faults
    async with joined(relay, peers) as (sender, listener):
        faults.stall(ENTITY)
        await sender.send(frame(BINARY, b"one"))
        await listener.send(frame(TEXT, b"two"))
        assert await is_silent(listener)
        assert await is_silent(sender)

        faults.resume(ENTITY)

        assert await listener.message() == (BINARY, b"one")
        assert await sender.message() == (TEXT, b"two")
    assert not faults.is_stalled(ENTITY)


async def test_who_is_joined_while_it_is_stalled_is_stalled_too(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    faults = relay.service.gateway.faults
    faults.stall(ENTITY)
    async with joined(relay, peers) as (sender, listener):
        await sender.send(frame(BINARY, b"one"))
        assert await is_silent(listener)

        faults.resume(ENTITY)

        assert await listener.message() == (BINARY, b"one")


async def test_other_hybrid_connections_notice_nothing(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    faults = relay.service.gateway.faults
    faults.stall("ns1/other")
    faults.refuse("ns1/other", 503, "Busy.")
    async with joined(relay, peers) as (sender, listener):
        assert faults.sever("ns1/other", close=False) == 0
        assert faults.expire_tokens("ns1/other") == 0

        await sender.send(frame(BINARY, b"one"))
        assert await listener.message() == (BINARY, b"one")


async def test_an_expired_token_ends_the_control_channel_with_1008(
    relay: RunningRelay, listener: RawPeer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert relay.service.gateway.faults.expire_tokens(ENTITY) == 1
        code, reason = await listener.close()

    assert code == 1008
    assert reason.startswith("ExpiredToken: The token is expired. TrackingId:")
    assert "ListenerClosingFromExpiredToken" in [
        record.__dict__.get("event") for record in caplog.records
    ]


async def test_http_senders_are_refused_too(relay: RunningRelay, http: HttpPeers) -> None:
    faults = relay.service.gateway.faults
    faults.refuse(ENTITY, 503, "Busy.")
    async with http.sending() as sender:
        answer = await sender.answer()
        assert answer.status == 503
        assert answer.reason.startswith("Busy. TrackingId:")

        faults.admit(ENTITY)
        await sender.send(http.request())
        request = await heard(http.control)
        await http.control.send(response(request.id, b"hello"))
        assert (await sender.answer()).body == b"hello"


async def test_only_errors_refuse(relay: RunningRelay) -> None:
    with pytest.raises(InvalidSetting, match="200 is not an HTTP error status"):
        relay.service.gateway.faults.refuse(ENTITY, 200, "fine")
