"""The target that nobody told us: as the relay's metadata names it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from app_client.reminder import Reminder
from hybridge.program.advice import advice
from hybridge.protocol.backoff import Backoff
from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import (
    AuthorizationFailed,
    HandshakeRefused,
    RelayError,
    Unreachable,
    UntrustedCertificate,
)

logger = logging.getLogger(__name__)

_LISTEN_HINT = "say where to listen: --listen HOST:PORT, or Listen or Endpoint in the file"


class PortUnknown(RelayError):
    """The relay's metadata names no target, so there is no port to take."""

    hint = _LISTEN_HINT


class Metadata(Protocol):
    """The part of the runtime information that is needed here."""

    @property
    def target(self) -> tuple[str, int] | None: ...


async def ask_for_target(read: Callable[[], Awaitable[Metadata]]) -> tuple[str, int]:
    """Ask the relay once for the target's host and port.

    Args:
        read: Asks the relay.

    Raises:
        PortUnknown: The metadata names no target.
        RelayError: The relay refused, or cannot be reached.
    """
    try:
        target = (await read()).target
    except AuthorizationFailed as error:
        raise AuthorizationFailed(
            str(error),
            hint=f"check the key; where only Manage may read the metadata, {_LISTEN_HINT}",
        ) from error
    if target is None:
        raise PortUnknown("the hybrid connection's metadata names no endpoint, so no port")
    return target


async def find_target(
    read: Callable[[], Awaitable[Metadata]], *, labels: Mapping[str, object]
) -> tuple[str, int]:
    """Ask the relay for the target's host and port, for as long as the relay cannot be reached.

    Args:
        read: Asks the relay once.
        labels: What each log line carries.

    Raises:
        PortUnknown: The metadata names no target.
        RelayError: The relay answered, and asking again at once would not help: wrong key, unknown
            hybrid connection, untrusted certificate.
    """
    loop = asyncio.get_running_loop()
    backoff = Backoff(random.uniform)
    reminder = Reminder()
    while True:
        await asyncio.sleep(backoff.next_delay(loop.time()))
        try:
            return await ask_for_target(read)
        except (Unreachable, HandshakeRefused) as error:
            if not _may_pass(error):
                raise
            logger.log(
                logging.WARNING if reminder.is_due(error, loop.time()) else logging.DEBUG,
                "waiting for the relay, to learn the target: %s",
                error,
                extra={
                    "event": "waiting_for_relay",
                    **labels,
                    "hint": advice(error, claim=Claim.SEND),
                },
            )


def _may_pass(error: RelayError) -> bool:
    if isinstance(error, UntrustedCertificate):
        return False
    status = error.status or 503
    return status >= 500 or status in (408, 429)
