from __future__ import annotations

import pytest

from tests.support.raw import BINARY, CLOSE, RelayPeers, close_frame, frame
from tests.support.relay import RunningRelay


@pytest.mark.clause(1, 2, 83, 84)
async def test_a_sender_and_a_listener_meet_and_each_direction_ends_on_its_own(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    token = relay.token(key_name="listenrule")
    async with await peers.listener("hc1", token) as listener:
        sender, near = await peers.pair(
            listener,
            "/$hc/hc1?sb-hc-action=connect",
            ("ServiceBusAuthorization", relay.token()),
        )
        async with sender, near:
            await sender.send(frame(BINARY, b"question") + close_frame(1000, "Shutdown"))
            assert (await near.message()) == (BINARY, b"question")
            assert (await near.frame()).close == (1000, "Shutdown")

            await near.send(frame(BINARY, b"answer" * 100_000))
            assert (await sender.message()) == (BINARY, b"answer" * 100_000)

            await near.send(close_frame(1000))
            last = await sender.frame()
            assert (last.opcode, last.close) == (CLOSE, (1000, ""))
            assert await sender.ended()
            assert await near.ended()
