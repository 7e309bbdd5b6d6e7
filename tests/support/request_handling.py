"""A listener with a request handler, at a relay that is scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hybridge import IncomingRequest, Listener, RequestHandler
from hybridge.transport.timing import Timing
from tests.support.relay import certificate
from tests.support.scripted_relay import RelayEnd, ScriptedRelay, scripted_relay

DEADLINE_SECONDS = 20.0
SOON = 0.02
"""In place of the 2 seconds after which a response leaves in part."""


@asynccontextmanager
async def listening(
    handler: RequestHandler | None = None, *, max_requests: int = 10, flush_seconds: float = 60.0
) -> AsyncIterator[tuple[ScriptedRelay, RelayEnd, Listener]]:
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        scripted_relay() as relay,
        Listener(
            relay.connection_string,
            ca=certificate()[2],
            connect_to=("127.0.0.1", relay.port),
            request_handler=handler,
            max_requests=max_requests,
            response_flush_seconds=flush_seconds,
            timing=Timing(close_timeout_seconds=SOON),
        ) as listener,
    ):
        yield relay, await relay.channel(), listener


def answer(status: int = 200, body: bytes = b"", **more: str) -> RequestHandler:
    async def handler(request: IncomingRequest) -> None:
        await request.respond(status, body, headers=more)

    return handler


async def fragments(end: RelayEnd) -> tuple[list[tuple[int, int, bool]], bytes]:
    """Read a binary message: opcode, size and FIN of each frame, and all of it."""
    frames: list[tuple[int, int, bool]] = []
    whole = b""
    while not frames or not frames[-1][2]:
        each = await end.frame()
        frames.append((each.opcode, len(each.payload), each.fin))
        whole += each.payload
    return frames, whole


async def fetched(relay: ScriptedRelay, channel: RelayEnd) -> RelayEnd:
    """Send a request by rendezvous; its body is still to come."""
    await channel.say("request", address=relay.address())
    visit = await relay.visit()
    await visit.say("request", **relay.request("POST", body=True))
    return visit
