"""The target that the relay's metadata names, as the Hybrid Connection Manager reads it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping

from hcm_agent.relay_facts import Metadata
from hcm_agent.settings import Target
from hybridge.program.advice import advice
from hybridge.protocol.backoff import CAP_SECONDS, Backoff
from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import RelayError

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 300.0
"""How often a known target is read again; a reconnect reads it at once."""


class TargetUnknown(RelayError):
    """The relay's metadata names no target, and none is configured."""

    status = 502


class TargetLookup:
    """Knows where the connections of one hybrid connection go, as soon as the relay has said it.

    A target once known stays known while the relay cannot be asked.

    Args:
        read: Asks the relay.
        labels: What each log line carries.
        on_target: Called with each new target.
        refresh_seconds: How often a known target is read again.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[Metadata]],
        *,
        labels: Mapping[str, object],
        on_target: Callable[[Target], None] = lambda _: None,
        refresh_seconds: float = REFRESH_SECONDS,
    ) -> None:
        self._read = read
        self._labels = dict(labels)
        self._on_target = on_target
        self._refresh_seconds = refresh_seconds
        self._target: Target | None = None
        self._error: RelayError | None = None
        self._asked = asyncio.Event()
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Ask the relay, again and again, until cancelled."""
        backoff = Backoff(random.uniform)
        backoff_now = asyncio.get_running_loop().time
        backoff.next_delay(backoff_now())  # The first try comes at once, and it is this one.
        while True:
            self._wanted.clear()
            try:
                self._learn((await self._read()).target)
            except TargetUnknown as error:
                self._failed(error)
                delay = CAP_SECONDS
            except RelayError as error:
                self._failed(error)
                delay = backoff.next_delay(backoff_now())
            else:
                backoff = Backoff(random.uniform)
                backoff.next_delay(backoff_now())
                delay = self._refresh_seconds
            if not self._wanted.is_set():
                # Else the answer is older than the wish for a new one.
                self._asked.set()
            try:
                async with asyncio.timeout(delay):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    def refresh(self) -> None:
        """Ask soon: the relay is back, or something may have changed."""
        self._wanted.set()
        self._asked.clear()

    async def target(self) -> Target:
        """Give the target; while it is not known, wait for the relay's answer.

        Raises:
            TargetUnknown: The metadata has none, or could not be read so far.
        """
        if self._target is None:
            await self._asked.wait()
        if self._target is None:
            raise TargetUnknown(
                f"The agent does not know the target: {self._error}", hint="give --target"
            )
        return self._target

    def _learn(self, found: tuple[str, int] | None) -> None:
        if found is None:
            raise TargetUnknown(
                "the hybrid connection's metadata names no endpoint",
                hint="give --target HOST:PORT, or set the endpoint in the relay's configuration",
            )
        self._error = None
        target = Target(*found)
        if target != self._target:
            self._target = target
            logger.info(
                "the relay names the target %s",
                target,
                extra={"event": "target_known", **self._labels, "target": str(target)},
            )
            self._on_target(target)

    def _failed(self, error: RelayError) -> None:
        is_news = type(error) is not type(self._error) or error.status != (
            self._error.status if self._error else None
        )
        self._error = error
        logger.log(
            logging.WARNING if is_news else logging.DEBUG,
            "the target cannot be read from the relay",
            extra={
                "event": "target_unknown",
                **self._labels,
                "error": str(error),
                "hint": advice(error, claim=Claim.LISTEN),
            },
        )
