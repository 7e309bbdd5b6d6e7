"""What is over is freed at once: nothing waits in a circle for the garbage collector."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from hybridge.transport.tls_stream import TlsStream
from relay.settings import RelaySettings
from tests.support.meeting import joined
from tests.support.raw import BINARY, RawPeer, RelayPeers, close_frame, frame
from tests.support.relay import RunningRelay, running_relay
from tests.support.until import until


@pytest.fixture
async def relay() -> AsyncIterator[RunningRelay]:
    async with running_relay(settings=RelaySettings(drain_seconds=0)) as running:
        yield running


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def _in_order(near: RawPeer, far: RawPeer) -> None:
    await near.send(close_frame(1000))
    assert await far.close() == (1000, "")
    await far.send(close_frame(1000))


async def _by_a_reset(near: RawPeer, far: RawPeer) -> None:
    near.reset()


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("end", [_in_order, _by_a_reset])
async def test_a_connection_that_has_ended_is_freed(
    relay: RunningRelay, peers: RelayPeers, end: Callable[[RawPeer, RawPeer], Awaitable[None]]
) -> None:
    async with joined(relay, peers) as (near, far):
        await near.send(frame(BINARY, b"carried"))
        assert await far.message() == (BINARY, b"carried")
        [pair] = relay.service.gateway.websockets.pairs
        wires = [pair.sender.wire, pair.listener.wire]
        sockets = [wire._wire for wire in wires if isinstance(wire, TlsStream)]
        freed = [weakref.ref(each) for each in (pair, *wires, *sockets)]
        del pair, wires, sockets

        await end(near, far)

        await until(lambda: not any(each() for each in freed))
