"""What the relay says of one hybrid connection: asked when somebody wants to know, kept a while."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Protocol

from hybridge.management import RuntimeInformation
from hybridge.protocol.errors import EndpointNotFound, RelayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Metadata(Protocol):
    """The part of the runtime information that leads to the target."""

    @property
    def target(self) -> tuple[str, int] | None: ...


class RelayFacts:
    """Remembers the relay's last answer about one hybrid connection.

    Args:
        ask: Asks the relay.
        clock: Gives monotonic seconds.
    """

    def __init__(
        self, ask: Callable[[], Awaitable[Metadata]], *, clock: Callable[[], float]
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._asked_at = float("-inf")
        self._changed_at = 0.0
        self._one_at_a_time = asyncio.Lock()
        self.information: RuntimeInformation | None = None
        """None while the relay has not answered, or does not know it any more."""

    async def read(self) -> Metadata:
        """Ask the relay now.

        Raises:
            RelayError: It did not say.
        """
        asked_at = self._clock()
        try:
            found = await self._ask()
        except EndpointNotFound:
            self._learn(None, asked_at)
            raise
        self._learn(found if isinstance(found, RuntimeInformation) else None, asked_at)
        return found

    def _learn(self, information: RuntimeInformation | None, asked_at: float) -> None:
        # Two may ask at a time, and the older question may have the later answer.
        if asked_at >= self._asked_at:
            self._asked_at = asked_at
            self.information = information

    def expire(self) -> None:
        """Something has changed: what the relay was asked before this is old."""
        self._changed_at = self._clock()

    async def refresh(self, *, max_age_seconds: float) -> None:
        """Ask the relay if its last answer is older; it stays where there is no new one."""
        async with self._one_at_a_time:
            oldest = max(self._changed_at, self._clock() - max_age_seconds)
            if self._asked_at >= oldest:
                return
            with contextlib.suppress(RelayError):
                await self.read()
