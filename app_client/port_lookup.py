"""The local port that nobody chose: the target's own, as the relay's metadata names it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

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

REMIND_SECONDS = 30.0
"""While the relay cannot be reached, the log says so once in this time."""

_LISTEN_HINT = "say where to listen: --listen HOST:PORT, or Listen in the file"


class PortUnknown(RelayError):
    """The relay's metadata names no target, so there is no port to take."""

    hint = _LISTEN_HINT


class Metadata(Protocol):
    """The part of the runtime information that is needed here."""

    @property
    def target(self) -> tuple[str, int] | None: ...


async def find_port(
    read: Callable[[], Awaitable[Metadata]], *, labels: Mapping[str, object]
) -> int:
    """Ask the relay for the target's port, for as long as the relay cannot be reached.

    Args:
        read: Asks the relay once.
        labels: What each log line carries.

    Raises:
        PortUnknown: The metadata names no target.
        RelayError: The relay answered, and asking again would not help: wrong key, unknown hybrid
            connection, untrusted certificate.
    """
    loop = asyncio.get_running_loop()
    backoff = Backoff(random.uniform)
    warned_at: float | None = None
    while True:
        await asyncio.sleep(backoff.next_delay(loop.time()))
        try:
            target = (await read()).target
        except AuthorizationFailed as error:
            raise AuthorizationFailed(
                str(error),
                hint=f"check the key; where only Manage may read the metadata, {_LISTEN_HINT}",
            ) from error
        except (Unreachable, HandshakeRefused) as error:
            if not _may_pass(error):
                raise
            now = loop.time()
            is_due = warned_at is None or now - warned_at >= REMIND_SECONDS
            warned_at = now if is_due else warned_at
            logger.log(
                logging.WARNING if is_due else logging.DEBUG,
                "waiting for the relay, to learn the port: %s",
                error,
                extra={
                    "event": "waiting_for_relay",
                    **labels,
                    "hint": advice(error, claim=Claim.SEND),
                },
            )
            continue
        if target is None:
            raise PortUnknown("the hybrid connection's metadata names no endpoint, so no port")
        return target[1]


def _may_pass(error: RelayError) -> bool:
    if isinstance(error, UntrustedCertificate):
        return False
    status = error.status or 503
    return status >= 500 or status in (408, 429)
