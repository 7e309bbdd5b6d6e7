"""Dial the rendezvous addresses that a relay names to its listener."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from hybridge.protocol import address
from hybridge.protocol.errors import MalformedAddress, Unreachable
from hybridge.transport.dialer import Dialer
from hybridge.transport.stream import Wire
from hybridge.transport.timing import Timing

_Joined = TypeVar("_Joined")


async def dial_rendezvous(dialer: Dialer, url: str, timing: Timing) -> Wire:
    """Open TCP and TLS to where an address leads.

    Args:
        dialer: Of the listener's namespace.
        url: As the relay gave it.
        timing: `Timing.open_timeout_seconds` is the deadline.

    Raises:
        MalformedAddress: The address leads outside the namespace, and is not followed.
        UntrustedCertificate: The certificate there is not trusted.
        Unreachable: It cannot be reached, or did not answer in time.
    """
    dial = address.parse_url(url)
    if not address.may_follow(dial.host, dialer.host):
        raise MalformedAddress(
            f"the relay named a rendezvous at {dial.host}, outside {dialer.host}",
            hint="a relay names its own host or one beside it; do not trust this one",
        )
    try:
        async with asyncio.timeout(timing.open_timeout_seconds):
            return await dialer.dial(dial.host, dial.port)
    except TimeoutError as error:
        raise Unreachable(f"the rendezvous at {dial.host} did not answer in time") from error


async def join_rendezvous(wire: Wire, handshake: Awaitable[_Joined], timing: Timing) -> _Joined:
    """Do a handshake within `Timing.open_timeout_seconds`; where it fails, the wire is dropped.

    Raises:
        HandshakeRefused: The relay refused: the sender has gone, or it was too late.
        Unreachable: There was no answer in time, or none that is HTTP.
    """
    try:
        async with asyncio.timeout(timing.open_timeout_seconds):
            return await handshake
    except TimeoutError as error:
        wire.abort()
        raise Unreachable("the rendezvous did not answer in time") from error
    except BaseException:
        wire.abort()
        raise
