"""Cut short what has not come about yet when its owner ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from hybridge.protocol.errors import Stopping


class Ending:
    """Tells work that still waits for others that its owner ends."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._waiting: dict[asyncio.Timeout, float] = {}

    def begin(self) -> None:
        """Let every `grace` run out. A second call changes nothing."""
        if self._began is not None:
            return
        self._began = asyncio.get_running_loop().time()
        for timeout, seconds in self._waiting.items():
            if not timeout.expired():
                timeout.reschedule(self._began + seconds)

    @contextlib.asynccontextmanager
    async def grace(self, seconds: float = 0.0) -> AsyncIterator[None]:
        """Run the block, but no longer than ``seconds`` after the end has begun.

        Raises:
            Stopping: The block was cancelled for that.
        """
        when = None if self._began is None else self._began + seconds
        limit = asyncio.timeout_at(when)
        try:
            async with limit:
                self._waiting[limit] = seconds
                try:
                    yield
                finally:
                    del self._waiting[limit]
        except TimeoutError:
            if not limit.expired():
                raise
            raise Stopping("The program stops, and takes no more connections.") from None
