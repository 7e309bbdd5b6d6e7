from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from devstack.doctor import conversation
from hybridge.protocol.claims import Claim
from tests.support.relay import (
    RunningRelay,
    hybrid_connection,
    namespace,
    rule,
    running_relay,
)


@pytest.fixture
async def relay() -> AsyncIterator[RunningRelay]:
    """Hybrid connections: hc1, one without an endpoint, one that asks senders for no token."""
    rules = [rule("listenrule", Claim.LISTEN), rule("sendrule", Claim.SEND)]
    served = namespace(
        hybrid_connection("hc1", rules=rules),
        hybrid_connection("bare", rules=rules, target=None),
        hybrid_connection("open", rules=rules, requires_client_authorization=False),
    )
    root = rule("nsrule", Claim.LISTEN | Claim.SEND | Claim.MANAGE)
    served = replace(served, rules={root.name: root})
    async with running_relay(served) as running:
        yield running


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait long for a server that speaks first, where none does."""
    monkeypatch.setattr(conversation, "FIRST_BYTES_SECONDS", 0.05)


@pytest.fixture
def black_hole() -> Iterator[tuple[str, int]]:
    """An address that answers no SYN: the queue of what listens there is full."""
    with ExitStack() as opened:
        listening = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        while True:
            waiting = opened.enter_context(socket.socket())
            waiting.settimeout(0.2)
            try:
                waiting.connect(listening.getsockname())
            except TimeoutError:
                break
        yield listening.getsockname()
