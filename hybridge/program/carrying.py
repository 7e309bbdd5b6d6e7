"""Carry one connection between a program's two streams, and say in the log how it went."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from hybridge.protocol.errors import ConnectionLost
from hybridge.transport.pump import Carrier
from hybridge.transport.stream import Stream

logger = logging.getLogger(__name__)


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
    try:
        async with sender, target:
            carrier.start()
            # Not before: what has come already need not wait for the log.
            logger.info("connection opened", extra={"event": "connection_opened", **labels})
            await carrier.run()
        outcome = "finished"
    except ConnectionLost as error:
        outcome = str(error)
    finally:
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
