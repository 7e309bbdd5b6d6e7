"""Keeps true what is known of the targets of one hybrid connection: which of them are reachable."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from hcm_agent.allow_list import TargetNotAllowed
from hcm_agent.endpoint_health import EndpointHealth
from hcm_agent.http_target import HttpTarget
from hcm_agent.settings import Target
from hybridge.protocol.errors import RelayError

logger = logging.getLogger(__name__)

MAX_CHECKS_AT_ONCE = 16
"""Targets of one hybrid connection that are checked at a time."""

UNKNOWN = EndpointHealth()

Endpoint = Target | HttpTarget


class Opened(Protocol):
    """The part of `hybridge.transport.stream.Stream` that is needed here."""

    async def close(self) -> None: ...


Check = Callable[[Endpoint], Awaitable[Opened]]
"""Connects to a target; tells `EndpointWatch.reached` or `failed`."""


def _now() -> datetime:
    return datetime.now(UTC)


class EndpointWatch:
    """What the last try to reach each target of one hybrid connection said.

    Every connection of a sender is such a try. Besides them, a target is checked at start and
    then, while it is unknown or not reachable, once in ``check_seconds``. One that is reachable is
    left alone, unless somebody asks: databases log, and some count, who connects and says nothing.

    Args:
        labels: What each log line carries.
        on_change: Called when `health` has changed.
        check_seconds: From one check to the next; 0: none, only senders tell.
        now: Gives the time, in UTC.
    """

    def __init__(
        self,
        *,
        labels: Mapping[str, object],
        on_change: Callable[[], None],
        check_seconds: float,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._labels = dict(labels)
        self._on_change = on_change
        self._check_seconds = check_seconds
        self._now = now
        self._endpoints: dict[str, Endpoint] = {}
        self._found: dict[str, EndpointHealth] = {}
        self._tried_at: dict[str, float] = {}
        self._due: set[str] = set()
        self._wanted = asyncio.Event()
        self._answered = asyncio.Event()

    @property
    def health(self) -> EndpointHealth:
        """All targets in one: reachable where each of them is; else the first that is not."""
        found = list(self.by_target.values())
        for wanted in (False, None):
            for each in found:
                if each.is_reachable is wanted:
                    return each
        return max(found, key=lambda each: each.since or self._now(), default=UNKNOWN)

    @property
    def by_target(self) -> Mapping[str, EndpointHealth]:
        """Each target, as ``host:port``."""
        return {name: self._found.get(name, UNKNOWN) for name in self._endpoints}

    def follow(self, endpoints: Sequence[Endpoint]) -> None:
        """Hear which targets there are from now on; those that are new are checked soon."""
        self._endpoints = {_name(each): each for each in endpoints}
        self._found = {name: each for name, each in self._found.items() if name in self._endpoints}
        self._tried_at = {
            name: at for name, at in self._tried_at.items() if name in self._endpoints
        }
        self._wanted.set()

    async def look_again(self, *, max_age_seconds: float) -> None:
        """Have each target checked whose last try is older, and wait for that.

        For somebody who asks. A deadline is the caller's; what comes later is remembered too.
        """
        before = time.monotonic() - max_age_seconds
        due = {name for name in self._endpoints if self._tried_at.get(name, before) <= before}
        if due and self._check_seconds:
            self._due |= due
            self._answered.clear()
            self._wanted.set()
            await self._answered.wait()

    # --- how tries end ------------------------------------------------------------------------

    def reached(self, target: str) -> None:
        """A connection was made."""
        if target not in self._endpoints:
            return
        self._tried_at[target] = time.monotonic()
        before = self._found.get(target, UNKNOWN)
        if before.is_reachable:
            return
        self._found[target] = replace(before, is_reachable=True, since=self._now())
        logger.info(
            "the target %s is reachable",
            target,
            extra={"event": "endpoint_reachable", **self._labels, "target": target},
        )
        self._on_change()

    def failed(self, target: str, error: RelayError) -> None:
        """A try failed, for this reason."""
        if target not in self._endpoints:
            return
        self._tried_at[target] = time.monotonic()
        before = self._found.get(target, UNKNOWN)
        is_news = before.is_reachable is not False
        since = self._now() if is_news else before.since
        self._found[target] = EndpointHealth(False, since, str(error))
        refused = isinstance(error, TargetNotAllowed)
        logger.log(
            logging.WARNING if is_news else logging.DEBUG,
            "the target %s is not allowed" if refused else "the target %s cannot be reached",
            target,
            extra={
                "event": "target_not_allowed" if refused else "endpoint_unreachable",
                **self._labels,
                "target": target,
                "error": str(error),
                "hint": error.hint,
            },
        )
        if is_news or before.last_error != str(error):
            self._on_change()

    # --- checks -------------------------------------------------------------------------------

    async def run(self, check: Check) -> None:
        """Check what is not known to be reachable, or asked for, until cancelled."""
        if not self._check_seconds:
            return
        # A target may take its time to end what was opened for a check; nobody waits for that.
        async with asyncio.TaskGroup() as closing:
            while True:
                self._wanted.clear()
                await self._check_due(check, closing)
                if not self._due:
                    self._answered.set()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._check_seconds):
                        await self._wanted.wait()

    async def _check_due(self, check: Check, closing: asyncio.TaskGroup) -> None:
        due, self._due = self._due, set()
        room = asyncio.Semaphore(MAX_CHECKS_AT_ONCE)

        async def look(endpoint: Endpoint) -> None:
            async with room:
                try:
                    opened = await check(endpoint)
                except RelayError as error:
                    logger.debug("checked %s: %s", endpoint, error, extra=self._labels)
                else:
                    closing.create_task(_leave(opened), name=f"leave {endpoint}")

        async with asyncio.TaskGroup() as tasks:
            for name, health in self.by_target.items():
                if not health.is_reachable or name in due:
                    tasks.create_task(look(self._endpoints[name]), name=f"check {name}")


async def _leave(opened: Opened) -> None:
    with contextlib.suppress(RelayError):
        await opened.close()


def _name(endpoint: Endpoint) -> str:
    return endpoint.host_port if isinstance(endpoint, HttpTarget) else str(endpoint)
