"""Wait for what no event tells of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LOOK_AGAIN_SECONDS = 0.005


async def until(happened: Callable[[], object], *, within: float = 40.0) -> None:
    """Return as soon as ``happened()`` is true; TimeoutError after ``within`` seconds."""
    async with asyncio.timeout(within):
        while not happened():  # noqa: ASYNC110 - the one place for it
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
