"""Crowds: everybody meets their own listener, and nothing is left of them afterwards."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import psutil
import pytest

from relay.leg import Leg
from relay.settings import RelaySettings
from tests.support.meeting import CONNECT, listening
from tests.support.raw import BINARY, RawPeer, RelayPeers, close_frame, frame
from tests.support.relay import RunningRelay, running_relay
from tests.support.until import until

_GUID = "7f1c2c1e-3c0e-4a53-9f0b-2b1f6a1d9c11"
_NUMBER = "X-Number"


@pytest.fixture
async def relay() -> AsyncIterator[RunningRelay]:
    """A relay with patience.

    A thousand TLS handshakes in one process are seconds of a core, on a busy machine half a minute:
    who comes last shall not be refused for it.
    """
    settings = RelaySettings(
        drain_seconds=0,
        tls_timeout_seconds=120,
        head_timeout_seconds=120,
        accept_timeout_seconds=120,
    )
    async with running_relay(settings=settings) as running:
        yield running


async def _listen(peers: RelayPeers, control: RawPeer, count: int, name: str) -> list[str]:
    """Accept ``count`` senders; send each the number that its own headers carry, and this name."""
    numbers: list[str] = []

    async def meet(accept: dict[str, object]) -> None:
        headers, address = accept["connectHeaders"], accept["address"]
        assert isinstance(headers, dict)
        assert isinstance(address, str)
        near, answer = await peers.visit(address)
        async with near:
            assert answer.status == 101, answer
            numbers.append(headers[_NUMBER])
            await near.send(frame(BINARY, f"{name}:{headers[_NUMBER]}".encode()))
            _, echoed = await near.message()
            assert echoed == headers[_NUMBER].encode()
            await near.close()
            await near.send(close_frame())
            assert await near.ended()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(count):
            accept = (await control.command())["accept"]
            assert isinstance(accept, dict)
            tasks.create_task(meet(accept))
    return numbers


async def _send(relay: RunningRelay, peers: RelayPeers, number: int, target: str) -> str:
    """Connect, and give what the listener sent."""
    headers = (("ServiceBusAuthorization", relay.token()), (_NUMBER, str(number)))
    async with await peers.start_sender(target, *headers) as sender:
        assert (await sender.answer()).status == 101
        _, nonce = await sender.message()
        await sender.send(frame(BINARY, str(number).encode()) + close_frame())
        await sender.close()
        return nonce.decode()


@pytest.mark.clause(76)
async def test_100_senders_at_once_all_meet_their_listener(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    count = 100
    async with listening(relay, peers) as control, asyncio.TaskGroup() as tasks:
        tasks.create_task(_listen(peers, control, count, "only"))
        senders = [
            tasks.create_task(_send(relay, peers, number, CONNECT)) for number in range(count)
        ]

    assert [each.result() for each in senders] == [f"only:{number}" for number in range(count)]


@pytest.mark.clause(62, 71, 76)
@pytest.mark.timeout(180)
async def test_500_senders_with_one_id_each_get_their_own_listeners_nonce(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    count = 500
    async with listening(relay, peers) as control, asyncio.TaskGroup() as tasks:
        listener = tasks.create_task(_listen(peers, control, count, "only"))
        senders = [
            tasks.create_task(_send(relay, peers, number, f"{CONNECT}&sb-hc-id={_GUID}"))
            for number in range(count)
        ]

    assert [each.result() for each in senders] == [f"only:{number}" for number in range(count)]
    assert sorted(listener.result(), key=int) == [str(number) for number in range(count)]


def _descriptors() -> int:
    return psutil.Process().num_fds()


async def test_nothing_is_left_of_connections_that_have_ended() -> None:
    async with running_relay(settings=RelaySettings(drain_seconds=0)) as relay:
        peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        async with listening(relay, peers) as control:
            token = ("ServiceBusAuthorization", relay.token())
            tasks_before, descriptors_before = asyncio.all_tasks(), _descriptors()
            async with AsyncExitStack() as opened:
                for number in range(30):
                    sender, near = await peers.pair(control, CONNECT, token)
                    await opened.enter_async_context(sender)
                    await opened.enter_async_context(near)
                    if number % 3 == 0:
                        await sender.send(close_frame())
                        await near.close()
                        await near.send(close_frame())
                    elif number % 3 == 1:
                        sender.reset()
                websockets = relay.service.gateway.websockets
                await until(lambda: len(websockets.pairs) == 10)
                assert _legs() == 20
                assert _descriptors() > descriptors_before

            await until(lambda: not websockets.pairs and not websockets.waiting_count)
            await until(lambda: asyncio.all_tasks() <= tasks_before)
            await until(lambda: _descriptors() <= descriptors_before)
            assert _legs() == 0


def _legs() -> int:
    gc.collect()
    return sum(isinstance(each, Leg) for each in gc.get_objects())
