"""A sender and a listener that raw peers play, up to the point that a test is about."""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from tests.support.raw import DEADLINE_SECONDS, RawPeer, RelayPeers
from tests.support.relay import RunningRelay

CONNECT = "/$hc/hc1?sb-hc-action=connect"


@dataclass(frozen=True)
class Waiting:
    """A sender whose listener has been told, and has not answered."""

    control: RawPeer
    """The listener's control channel."""

    sender: RawPeer
    accept: dict[str, object]
    """The accept message."""

    @property
    def address(self) -> str:
        address = self.accept["address"]
        assert isinstance(address, str)
        return address


@asynccontextmanager
async def listening(
    relay: RunningRelay, peers: RelayPeers, path: str = "hc1"
) -> AsyncIterator[RawPeer]:
    """A registered listener's control channel."""
    token = relay.token(path, key_name="listenrule")
    async with await peers.listener(path, token, listener_id=str(uuid.uuid4())) as control:
        yield control


@asynccontextmanager
async def waiting(
    relay: RunningRelay, peers: RelayPeers, target: str = CONNECT, *headers: tuple[str, str]
) -> AsyncIterator[Waiting]:
    """A sender that waits for its listener."""
    token = ("ServiceBusAuthorization", relay.token())
    async with (
        listening(relay, peers) as control,
        await peers.start_sender(target, token, *headers) as sender,
    ):
        accept = (await control.command())["accept"]
        assert isinstance(accept, dict)
        yield Waiting(control, sender, accept)


@asynccontextmanager
async def joined(
    relay: RunningRelay, peers: RelayPeers, *, is_turned: bool = False
) -> AsyncIterator[tuple[RawPeer, RawPeer]]:
    """Both ends of a joined connection: the sender's first, or the listener's if turned."""
    async with AsyncExitStack() as open_peers:
        control = await open_peers.enter_async_context(listening(relay, peers))
        token = ("ServiceBusAuthorization", relay.token())
        sender, near = await peers.pair(control, CONNECT, token)
        await open_peers.enter_async_context(sender)
        await open_peers.enter_async_context(near)
        yield (near, sender) if is_turned else (sender, near)


async def is_silent(peer: RawPeer, *, seconds: float = 0.05) -> bool:
    """Whether nothing comes from the relay for a moment, not even the end."""
    try:
        async with asyncio.timeout(seconds):
            await peer.reader.read(1)
    except TimeoutError:
        return True
    return False


async def rest(peer: RawPeer) -> tuple[bytes, bool]:
    """Read to the end; give what came, and whether the end was an orderly one."""
    came = bytearray()
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while piece := await peer.reader.read(65_536):
                came += piece
    except (ConnectionError, ssl.SSLError):
        return bytes(came), False
    return bytes(came), True
