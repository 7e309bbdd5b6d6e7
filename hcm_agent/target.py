"""One accepted connection, joined to one TCP target."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from hcm_agent.allow_list import TargetNotAllowed
from hcm_agent.settings import Target
from hybridge.program.carrying import carry
from hybridge.protocol.errors import RelayError, Stopping
from hybridge.protocol.messages import RemoteEndpoint
from hybridge.transport.ending import Ending
from hybridge.transport.stream import Stream

logger = logging.getLogger(__name__)

DIAL_SECONDS = 1.0
"""When the agent stops, how long a target may still take to answer."""

ANSWER_SECONDS = 2.0
"""When the agent stops, how long a waiting sender may still take to be joined or refused."""

Dial = Callable[[Target], Awaitable[Stream]]
"""Opens a TCP stream within a deadline; `hcm_agent.target_dialer.TargetDialer.dial`."""


class WaitingSender(Protocol):
    """The part of `hybridge.IncomingConnection` that is needed here."""

    @property
    def id(self) -> str: ...

    @property
    def remote_endpoint(self) -> RemoteEndpoint | None: ...

    async def prepare(self) -> None: ...

    async def accept(self) -> Stream: ...

    async def reject(self, status: int, description: str) -> None: ...

    def abandon(self) -> None: ...


async def join(
    sender: WaitingSender,
    target: Target,
    *,
    dial: Dial,
    labels: Mapping[str, object],
    ending: Ending,
) -> None:
    """Join a waiting sender to the target, and carry bytes until both have finished.

    The target is dialled while the rendezvous is prepared. When the target cannot be reached, the
    sender is refused with the reason: 502, 504 when there was no answer in time, or 403 when it is
    not on the allow-list.

    Args:
        sender: Who waits at the rendezvous. Nothing that it says changes where we connect.
        target: Where to connect.
        dial: Opens the connection to the target.
        labels: What each log line carries.
        ending: Of the agent: what is not joined then is refused soon, what is joined goes on.

    Raises:
        Stopping: The agent stops, and the relay does not answer.
        RelayError: The rendezvous failed: the sender has left, or the relay cannot be reached.
    """
    labels = {**labels, "id": sender.id, "target": str(target)}
    async with ending.grace(ANSWER_SECONDS):
        try:
            async with ending.grace(DIAL_SECONDS):
                far = await _dial_beside_prepare(sender, target, dial)
        except RelayError as error:
            await refuse(sender, error, describe(target, error), labels=labels)
            return
        except BaseException:
            sender.abandon()
            raise
        logger.debug("target connected", extra={"event": "target_connected", **labels})
        try:
            near = await sender.accept()
        except BaseException:
            far.abort()
            raise
    await carry(near, far, labels=labels)


async def refuse(
    sender: WaitingSender, error: RelayError, reason: str, *, labels: Mapping[str, object]
) -> None:
    """Tell a waiting sender why it is not joined, and log it as a warning."""
    status = error.status or 502
    not_allowed = isinstance(error, TargetNotAllowed)
    event = "target_not_allowed" if not_allowed else "connection_refused"
    logger.warning(
        "refused: %s",
        reason,
        extra={"event": event, **labels, "status": status, "hint": error.hint},
    )
    await sender.reject(status, reason)


def describe(target: Target, error: RelayError) -> str:
    """Write why the target was not reached, as a sentence for the sender."""
    problem = str(error)
    if isinstance(error, Stopping | TargetNotAllowed):
        return problem
    if problem.startswith(str(target)):
        return f"The target {problem}."
    return f"The target {target}: {problem}."


async def _dial_beside_prepare(sender: WaitingSender, target: Target, dial: Dial) -> Stream:
    async def prepare() -> None:
        try:
            await sender.prepare()
        except RelayError as error:
            # Not the end: accept and reject dial again.
            logger.debug("early dial of the rendezvous failed: %s", error, extra={"id": sender.id})

    far: Stream | RelayError | None = None
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(prepare(), name=f"prepare {sender.id}")
            far = await _dial(target, dial)
    except BaseException:
        if isinstance(far, Stream):
            far.abort()
        raise
    if isinstance(far, RelayError):
        raise far
    return far


async def _dial(target: Target, dial: Dial) -> Stream | RelayError:
    """Give the stream, or the error as a value: it must not cut the preparation short."""
    try:
        return await dial(target)
    except RelayError as error:
        return error
