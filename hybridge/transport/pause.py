"""Waiting that notices when the machine has slept, or its clock was set."""

from __future__ import annotations

import asyncio
import contextlib
import time

LOOK_SECONDS = 5.0
"""How often a long pause looks at the clock."""

JUMP_SECONDS = 5.0
"""What the clock must have gained or lost against the time that went by."""


async def pause(seconds: float, *, until: asyncio.Event | None = None) -> bool:
    """Wait, and stop waiting when the machine has slept meanwhile, or its clock was set.

    After a sleep networks are others and connections are dead, whatever is still waited for; with
    a clock that was wrong tokens were refused.

    Args:
        seconds: How long.
        until: Ends the pause when it is set.

    Returns:
        Whether the clock has jumped.
    """
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + seconds
    offset = time.time() - time.monotonic()
    woken = until or asyncio.Event()
    while not woken.is_set() and (rest := ends_at - loop.time()) > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(rest, LOOK_SECONDS)):
                await woken.wait()
        if abs(time.time() - time.monotonic() - offset) > JUMP_SECONDS:
            return True
    return False
