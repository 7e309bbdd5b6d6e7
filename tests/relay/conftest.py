"""A relay for each test, and raw peers to talk to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.raw import RelayPeers
from tests.support.relay import RunningRelay, running_relay


@pytest.fixture
async def relay() -> AsyncIterator[RunningRelay]:
    async with running_relay() as running:
        yield running


@pytest.fixture
def peers(relay: RunningRelay) -> RelayPeers:
    return RelayPeers(relay.port, ca=relay.ca, host=relay.host)
