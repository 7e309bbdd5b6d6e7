"""Carry one connection between a program's two streams, and say in the log how it went."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from hybridge.protocol.errors import ConnectionLost
from hybridge.transport.pump import Carrier
from hybridge.transport.stream import Stream

logger = logging.getLogger(__name__)


TELL_SECONDS = 0.005
"""How much later than it was the beginning of a connection is told. A line in the log takes some
0.2 ms, in which its first bytes would have to wait."""


async def carry(sender: Stream, target: Stream, *, labels: Mapping[str, object]) -> None:
    """Carry bytes until both sides have finished, and close both streams.

    One line in the log when it begins and one when it ends, with the duration, the bytes both ways
    and the outcome: ``finished``, ``stopped`` (the program ends), or what broke.

    Args:
        sender: The stream towards the application.
        target: The stream towards the target.
        labels: What both lines carry, among it the connection's id.
    """
    started = time.monotonic()
    carrier = Carrier(sender, target)
    outcome = "stopped"
    opening = _Opening(labels)
    try:
        async with sender, target:
            await carrier.run()
        outcome = "finished"
    except ConnectionLost as error:
        outcome = str(error)
    finally:
        opening.tell()
        traffic = carrier.traffic
        logger.info(
            "connection closed",
            extra={
                "event": "connection_closed",
                **labels,
                "seconds": round(time.monotonic() - started, 3),
                "bytes_to_target": traffic.forward,
                "bytes_to_sender": traffic.backward,
                "outcome": outcome,
            },
        )


class _Opening:
    """The line that tells of a connection's beginning: a little later, and before its end."""

    def __init__(self, labels: Mapping[str, object]) -> None:
        self._labels = labels
        self._timer = asyncio.get_running_loop().call_later(TELL_SECONDS, self.tell)
        self._is_told = False

    def tell(self) -> None:
        """Tell it, if it has not been told."""
        self._timer.cancel()
        if not self._is_told:
            self._is_told = True
            logger.info("connection opened", extra={"event": "connection_opened", **self._labels})
