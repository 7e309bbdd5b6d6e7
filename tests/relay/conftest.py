"""A relay for each test, and raw peers to talk to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.http import HttpPeers, http_peers
from tests.support.raw import RawPeer, RelayPeers
from tests.support.relay import RunningRelay, running_relay


@pytest.fixture
async def relay() -> AsyncIterator[RunningRelay]:
    async with running_relay() as running:
        yield running


@pytest.fixture
def peers(relay: RunningRelay) -> RelayPeers:
    return RelayPeers(relay.port, ca=relay.ca, host=relay.host)


@pytest.fixture
def listen_token(relay: RunningRelay) -> str:
    """A token that may listen on hc1."""
    return relay.token("hc1", key_name="listenrule")


@pytest.fixture
async def listener(peers: RelayPeers, listen_token: str) -> AsyncIterator[RawPeer]:
    """The control channel of a listener that is online on hc1."""
    async with await peers.listener("hc1", listen_token) as peer:
        yield peer


@pytest.fixture
async def http(relay: RunningRelay) -> AsyncIterator[HttpPeers]:
    """A listener on hc1, and what HTTP senders need."""
    async with http_peers(relay) as peers:
        yield peers
