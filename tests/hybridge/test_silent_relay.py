"""A relay that is gone without a word: noticed at the ping's deadline, and come back to."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from websockets.asyncio.client import ClientConnection

from hybridge.control_channel import ControlChannel
from hybridge.listener import Listener
from hybridge.protocol.backoff import Backoff
from hybridge.transport.timing import Timing
from tests.support import agent_ends
from tests.support.relay import certificate
from tests.support.scripted_relay import scripted_relay
from tests.support.until import until

DEADLINE_SECONDS = 30.0
TIMING = Timing(
    ping_interval_seconds=0.02,
    pong_timeout_seconds=0.05,
    # Longer than any test: nobody waits for a Close of one who is gone.
    close_timeout_seconds=600.0,
)


class Socket:
    """Is pinged, and answers as many pings as it is told."""

    def __init__(self, *, answers: int, takes_pings: bool = True) -> None:
        self.transport = self
        self.pings = 0
        self.is_aborted = False
        self._answers = answers
        self._takes_pings = takes_pings

    async def ping(self) -> asyncio.Future[float]:
        if not self._takes_pings:
            await asyncio.Event().wait()
        self.pings += 1
        pong: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        if self.pings <= self._answers:
            pong.set_result(0.0)
        return pong

    def abort(self) -> None:
        self.is_aborted = True


def channel_over(socket: Socket) -> ControlChannel:
    return ControlChannel(cast("ClientConnection", socket))


async def test_pings_go_on_until_one_is_not_answered_and_then_the_channel_breaks() -> None:
    socket = Socket(answers=3)

    async with asyncio.timeout(DEADLINE_SECONDS):
        await channel_over(socket).keep_alive(TIMING)

    assert socket.pings == 4
    assert socket.is_aborted


async def test_a_relay_that_does_not_even_take_a_ping_is_silent_too() -> None:
    socket = Socket(answers=0, takes_pings=False)

    async with asyncio.timeout(DEADLINE_SECONDS):
        await channel_over(socket).keep_alive(TIMING)

    assert socket.is_aborted


async def test_a_listener_of_a_silent_relay_is_offline_at_the_deadline_and_tries_again() -> None:
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        scripted_relay() as relay,
        Listener(
            relay.connection_string,
            ca=certificate()[2],
            connect_to=("127.0.0.1", relay.port),
            timing=TIMING,
        ) as listener,
    ):
        await relay.channel()
        await listener.wait_online()

        await until(lambda: not listener.is_online)
        error = str(listener.last_error)
        await relay.channel()
        await until(lambda: listener.is_online)

        await listener.stop_accepting()

    assert error == "the control channel closed: the relay did not answer a ping within 0.05 s"


async def test_after_a_sleep_a_listener_tries_as_at_the_beginning_of_an_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    async def slept(seconds: float, **_: object) -> bool:
        pauses.append(seconds)
        return True

    monkeypatch.setattr("hybridge.listener.pause", slept)
    monkeypatch.setattr("hybridge.listener.Backoff", lambda _: Backoff(lambda low, high: high))
    port = agent_ends.free_port()
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        Listener(agent_ends.connection_string("hc1"), connect_to=("127.0.0.1", port)) as listener,
    ):
        await until(lambda: len(pauses) >= 4)
        await listener.stop_accepting()

    # Without the sleep the bounds would grow: 0, 0.8, 1.6, 2.
    assert pauses[:4] == [0.0, 0.8, 0.8, 0.8]
