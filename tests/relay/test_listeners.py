"""Several listeners on one hybrid connection (sections 4.6 and 12.3)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from relay.settings import RelaySettings
from tests.support.raw import CLOSE, RawPeer, RelayPeers, close_frame
from tests.support.relay import RunningRelay, hybrid_connection, namespace, running_relay
from tests.support.wire import TRACKED, accept_of, is_alive, listener_count

LISTEN = "/$hc/hc1?sb-hc-action=listen"
CONNECT = "/$hc/hc1?sb-hc-action=connect"
FIRST = "11111111-3c0e-4a53-9f0b-2b1f6a1d9c11"
SECOND = "22222222-3c0e-4a53-9f0b-2b1f6a1d9c11"
THIRD = "33333333-3c0e-4a53-9f0b-2b1f6a1d9c11"


class Crowd:
    """Listeners that were opened together, and what each was told."""

    def __init__(self, relay: RunningRelay, peers: RelayPeers, opened: AsyncExitStack) -> None:
        self.token = relay.token(key_name="listenrule")
        self.send = ("ServiceBusAuthorization", relay.token())
        self.peers = peers
        self._opened = opened

    async def listener(self, listener_id: str | None = None) -> RawPeer:
        peer = await self.peers.listener("hc1", self.token, listener_id=listener_id)
        return await self._opened.enter_async_context(peer)

    async def sender(self, *headers: tuple[str, str]) -> RawPeer:
        peer = await self.peers.start_sender(CONNECT, self.send, *headers)
        return await self._opened.enter_async_context(peer)

    async def count(self) -> int:
        return await listener_count(self.peers, self.token)


@pytest.fixture
async def crowd(relay: RunningRelay, peers: RelayPeers) -> AsyncIterator[Crowd]:
    async with AsyncExitStack() as opened:
        yield Crowd(relay, peers, opened)


# --- Nobody --------------------------------------------------------------------------------------


@pytest.mark.clause(74)
async def test_where_nobody_listens_a_sender_is_answered_404(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    peer, answer = await peers.upgrade(CONNECT, ("ServiceBusAuthorization", relay.token()))

    assert answer.status == 404
    assert answer.reason.startswith("There are no listeners connected for the endpoint.")
    assert TRACKED.fullmatch(answer.reason)
    assert await peer.ended()


# --- How many ------------------------------------------------------------------------------------


@pytest.mark.clause(57)
async def test_twenty_five_listeners_can_register_and_the_next_is_refused(crowd: Crowd) -> None:
    first, *_ = [await crowd.listener() for _ in range(25)]

    peer, answer = await crowd.peers.upgrade(LISTEN, ("ServiceBusAuthorization", crowd.token))

    assert answer.status == 429
    assert "maximum number of listeners" in answer.reason
    assert TRACKED.fullmatch(answer.reason)
    assert await peer.ended()
    assert await crowd.count() == 25

    await first.send(close_frame())
    assert (await first.frame()).opcode == CLOSE
    await crowd.listener()
    assert await crowd.count() == 25


async def test_the_limit_is_that_of_one_hybrid_connection() -> None:
    served = namespace(hybrid_connection("hc1"), hybrid_connection("hc2"))
    settings = RelaySettings(max_listeners=1, listener_limit_status=403, drain_seconds=0)
    async with running_relay(served, settings=settings) as relay:
        peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        tokens = {name: relay.token(name, key_name="listenrule") for name in ("hc1", "hc2")}
        async with (
            await peers.listener("hc1", tokens["hc1"]),
            await peers.listener("hc2", tokens["hc2"]),
        ):
            _, answer = await peers.upgrade(LISTEN, ("ServiceBusAuthorization", tokens["hc1"]))

    assert answer.status == 403


# --- The same one again --------------------------------------------------------------------------


@pytest.mark.parametrize("again", [FIRST, FIRST.upper(), f"{FIRST}_G12_G3"])
async def test_a_listener_that_comes_again_replaces_its_older_channel(
    crowd: Crowd, again: str
) -> None:
    old = await crowd.listener(FIRST)
    new = await crowd.listener(again)

    code, _ = await old.close()
    assert code == 1001
    await old.send(close_frame(1001))
    assert await old.ended()
    assert await crowd.count() == 1
    for _ in range(5):
        await crowd.sender()
        await accept_of(new)


async def test_a_listener_may_come_again_where_no_other_has_room() -> None:
    settings = RelaySettings(max_listeners=1, drain_seconds=0)
    async with running_relay(settings=settings) as relay:
        peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        token = relay.token(key_name="listenrule")
        async with (
            await peers.listener("hc1", token, listener_id=FIRST) as old,
            await peers.listener("hc1", token, listener_id=FIRST) as new,
        ):
            assert (await old.close())[0] == 1001
            assert await is_alive(new)


# --- Which one -----------------------------------------------------------------------------------


@pytest.mark.clause(58)
async def test_senders_are_spread_over_all_listeners_and_each_goes_to_one(crowd: Crowd) -> None:
    told: Counter[int] = Counter()
    ids: list[object] = []

    async def listen(number: int, listener: RawPeer) -> None:
        while True:
            ids.append((await accept_of(listener))["id"])
            told[number] += 1
            if told.total() == 60:
                everybody.set()

    everybody = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        listeners = [await crowd.listener() for _ in range(4)]
        listening = [tasks.create_task(listen(*each)) for each in enumerate(listeners)]
        for _ in range(60):
            await crowd.sender()
        await everybody.wait()
        for task in listening:
            task.cancel()

    # Of 60 tosses of a fair die with four sides, less than 3 of a kind come once in 10,000 runs.
    assert len(set(ids)) == 60
    assert sorted(told) == [0, 1, 2, 3]
    for listener in listeners:
        assert await is_alive(listener)


@pytest.mark.clause(59)
@pytest.mark.parametrize(
    "allowed",
    [SECOND, f" {SECOND.upper()} ,{THIRD}x", f"nobody,\t{SECOND}", f",,{SECOND},"],
)
async def test_a_sender_can_name_the_listeners_it_allows(crowd: Crowd, allowed: str) -> None:
    for other in (FIRST, THIRD, None):
        await crowd.listener(other)
    named = await crowd.listener(SECOND)

    for _ in range(8):
        await crowd.sender(("Microsoft-Relay-AllowedListeners", allowed))
        await accept_of(named)


@pytest.mark.clause(60)
async def test_a_sender_can_name_the_listeners_it_does_not_want(crowd: Crowd) -> None:
    await crowd.listener(FIRST)
    await crowd.listener(THIRD)
    left = await crowd.listener(SECOND)

    for _ in range(8):
        unwanted = f"{FIRST}, {THIRD.upper()}"
        await crowd.sender(("microsoft-relay-disallowedlisteners", unwanted))
        await accept_of(left)


@pytest.mark.clause(59, 60)
@pytest.mark.parametrize(
    "headers",
    [
        [("Microsoft-Relay-AllowedListeners", THIRD)],
        [("Microsoft-Relay-DisallowedListeners", f"{FIRST},{SECOND}")],
        [
            ("Microsoft-Relay-DisallowedListeners", FIRST),
            ("Microsoft-Relay-DisallowedListeners", SECOND),
        ],
        [
            ("Microsoft-Relay-AllowedListeners", FIRST),
            ("Microsoft-Relay-DisallowedListeners", FIRST),
        ],
    ],
    ids=["allowed", "disallowed", "two headers", "both"],
)
async def test_where_no_listener_is_left_the_sender_is_answered_404(
    crowd: Crowd, headers: list[tuple[str, str]]
) -> None:
    listeners = [await crowd.listener(FIRST), await crowd.listener(SECOND)]

    peer, answer = await crowd.peers.upgrade(CONNECT, crowd.send, *headers)

    assert answer.status == 404
    assert "AllowedListeners/DisallowedListeners" in answer.reason
    assert TRACKED.fullmatch(answer.reason)
    assert await peer.ended()
    for listener in listeners:
        assert await is_alive(listener)


# --- Oddities of listeners -----------------------------------------------------------------------


@pytest.mark.clause(75)
async def test_an_accept_handshake_with_a_header_named_0_works(crowd: Crowd) -> None:
    listener = await crowd.listener()
    sender = await crowd.sender()
    address = str((await accept_of(listener))["address"])

    near, answer = await crowd.peers.visit(address, ("0", "Sec-WebSocket-Extensions: x"))

    assert answer.status == 101
    assert (await sender.answer()).status == 101
    near.reset()


async def test_a_listeners_close_does_not_take_back_what_it_was_told(crowd: Crowd) -> None:
    listener = await crowd.listener()
    sender = await crowd.sender()
    address = str((await accept_of(listener))["address"])
    await listener.send(close_frame())
    assert (await listener.frame()).opcode == CLOSE

    near, answer = await crowd.peers.visit(address)

    assert answer.status == 101
    assert (await sender.answer()).status == 101
    near.reset()


# --- Connections of a namespace ------------------------------------------------------------------


async def test_a_namespace_has_so_many_connections_and_no_more() -> None:
    served = (
        namespace(hybrid_connection("hc1"), hybrid_connection("hc2")),
        namespace(name="ns2", hosts=["ns2.servicebus.windows.net"]),
    )
    settings = RelaySettings(max_connections=2, drain_seconds=0)
    async with running_relay(*served, settings=settings) as relay:
        peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        listen = relay.token(key_name="listenrule")
        send = ("ServiceBusAuthorization", relay.token())
        async with (
            await peers.listener("hc1", listen) as listener,
            await peers.start_sender(CONNECT, send) as sender,
        ):
            address = str((await accept_of(listener))["address"])
            for target, token in (
                (CONNECT, relay.token()),
                ("/$hc/hc2?sb-hc-action=listen", relay.token("hc2", key_name="listenrule")),
            ):
                _, answer = await peers.upgrade(target, ("ServiceBusAuthorization", token))
                assert answer.status == 429
                assert "The maximum number of connections (2) is open." in answer.reason

            # A sender and its listener are one connection; another namespace has its own.
            near, answer = await peers.visit(address)
            assert answer.status == 101
            other = relay.token(key_name="listenrule", host="ns2.servicebus.windows.net")
            headers = ("ServiceBusAuthorization", other)
            _, answer = await peers.upgrade(LISTEN, headers, host="ns2.servicebus.windows.net")
            assert answer.status == 101

            # What has ended makes room.
            assert (await sender.answer()).status == 101
            for peer in (near, sender):
                await peer.send(close_frame())
            for peer in (near, sender):
                await peer.close()
                assert await peer.ended()
            async with await peers.start_sender(CONNECT, send):
                await accept_of(listener)
