"""One hybrid connection of an agent: its listener, and a task per accepted connection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from hcm_agent import azbridge
from hcm_agent.allow_list import AllowList
from hcm_agent.endpoint_watch import Endpoint, EndpointWatch
from hcm_agent.http_forward import HttpDialer, HttpForward
from hcm_agent.http_target import HttpTarget
from hcm_agent.relay_facts import Metadata, RelayFacts
from hcm_agent.settings import HybridConnectionSettings, Target
from hcm_agent.status import Status
from hcm_agent.target import (
    ANSWER_SECONDS,
    DIAL_SECONDS,
    WaitingSender,
    join,
    refuse,
)
from hcm_agent.target_dialer import DialTcp, TargetDialer
from hcm_agent.target_lookup import TargetLookup, TargetUnknown
from hybridge.incoming_request import IncomingRequest
from hybridge.listener import Listener
from hybridge.management import runtime_information
from hybridge.protocol.errors import RelayError, ServerBusy, Stopping
from hybridge.request_intake import RequestHandler
from hybridge.transport.ending import Ending
from hybridge.transport.stream import Stream
from hybridge.transport.tcp import dial_tcp

logger = logging.getLogger(__name__)

MAX_REFUSALS_AT_ONCE = 128
"""Senders over the limit that are refused at a time; more are left to the relay's deadline."""

HEARD_LATELY_SECONDS = 10.0
"""What was learnt of a target so lately is told to who asks; else it is checked first."""

RESTART_SECONDS = 30.0
"""After a bug of ours, when the listener is opened again."""


class WrongKind(RelayError):
    """The hybrid connection leads to another kind of target than the sender wants."""

    status = 501


class OpenListener(Protocol):
    """The part of `hybridge.listener.Listener` that is needed here."""

    on_change: Callable[[], None] | None

    @property
    def is_online(self) -> bool: ...

    @property
    def last_error(self) -> RelayError | None: ...

    @property
    def request_handler(self) -> RequestHandler | None: ...

    @request_handler.setter
    def request_handler(self, handler: RequestHandler | None) -> None: ...

    def retry(self) -> None: ...

    async def stop_accepting(self) -> None: ...

    async def wait_closed(self) -> None: ...

    def __aiter__(self) -> AsyncIterator[WaitingSender]: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def open_listener(settings: HybridConnectionSettings) -> OpenListener:
    """Make the SDK's listener for a hybrid connection."""
    return Listener(
        settings.connection_string,
        ca=settings.ca,
        connect_to=settings.connect_to,
        proxy=settings.proxy,
        timing=settings.timing,
        is_multiplexing=settings.is_multiplexing,
    )


async def read_metadata(settings: HybridConnectionSettings) -> Metadata:
    """Ask the relay what it knows about a hybrid connection."""
    return await runtime_information(
        settings.connection_string,
        ca=settings.ca,
        connect_to=settings.connect_to,
        proxy=settings.proxy,
        timing=settings.timing,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What an agent needs of the world; tests script it."""

    open_listener: Callable[[HybridConnectionSettings], OpenListener] = open_listener
    read_metadata: Callable[[HybridConnectionSettings], Awaitable[Metadata]] = read_metadata
    dial: DialTcp = dial_tcp
    """To TCP targets."""


class Slots:
    """How many connections the process may hold, over all its hybrid connections."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self.refusals = 0

    def give_back(self) -> None:
        """One connection has ended."""
        self.taken -= 1

    def refused(self) -> None:
        """One sender has been told that there is no room."""
        self.refusals -= 1


class HybridConnection:
    """Serves one hybrid connection until it is retired.

    Args:
        settings: What to serve.
        slots: Shared with the process's other hybrid connections.
        on_change: Called when `status` has changed.
        outside: The relay and the target.
        allow_list: Where connections may lead; None: anywhere.
    """

    def __init__(
        self,
        settings: HybridConnectionSettings,
        *,
        slots: Slots,
        on_change: Callable[[], None],
        outside: Outside,
        allow_list: AllowList | None = None,
    ) -> None:
        self.settings = settings
        self.status = Status(settings, clock=time.monotonic)
        self._slots = slots
        self._on_change = on_change
        self._outside = outside
        self._retired = asyncio.Event()
        self._wanted = asyncio.Event()
        self._listener: OpenListener | None = None
        self._ending = Ending()
        self.facts = RelayFacts(lambda: outside.read_metadata(settings), clock=time.monotonic)
        """What the relay says of it."""
        self._lookup = TargetLookup(
            self.facts.read,
            labels=self.status.labels,
            on_target=self._follow,
        )
        self._watch = EndpointWatch(
            labels=self.status.labels,
            on_change=self._endpoint_changed,
            check_seconds=settings.endpoint_check_seconds,
        )
        self._dialer = TargetDialer(
            dial=outside.dial,
            dial_http=HttpDialer(settings.ca).dial,
            timeout_seconds=settings.target_timeout_seconds,
            observer=self._watch,
            allow_list=allow_list,
        )
        self._forward = self._http_forward()
        self._watch.follow(settings.endpoints)

    def _http_forward(self) -> HttpForward | None:
        settings = self.settings
        if not isinstance(settings.target, HttpTarget):
            return None
        return HttpForward(
            target=settings.target,
            hybrid_connection=settings.name,
            dial=self._dialer.dial_http,
            labels=self.status.labels,
            ending=self._ending,
        )

    def allow(self, allow_list: AllowList | None) -> None:
        """From now on connect only to these targets; what is connected already stays."""
        self._dialer.allow_list = allow_list

    def retire(self) -> None:
        """Take no more senders; `run` returns when the last connection has ended.

        Senders that are not joined within a second are refused.
        """
        self._retired.set()
        self._wanted.set()
        self._ending.begin()

    def retry(self) -> None:
        """Where it is not connected, try at once."""
        self._wanted.set()
        if self._listener is not None:
            self._listener.retry()

    async def run(self) -> None:
        """Serve until retired, then until the last connection has ended.

        The network never ends it, and neither does a bug in the listener: that is logged with its
        traceback, and the listener opened again, so that other hybrid connections go on.
        """
        while not self._retired.is_set():
            self._wanted.clear()
            try:
                await self._serve()
            except RelayError as error:
                self.status.went_offline(error)
            except Exception:
                logger.exception("listener failed", extra={"event": "bug", **self.status.labels})
                self.status.went_offline(RelayError("the listener failed", hint="report this bug"))
            else:
                return
            self._on_change()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RESTART_SECONDS):
                    await self._wanted.wait()

    async def _serve(self) -> None:
        async with self._outside.open_listener(self.settings) as listener:
            listener.on_change = lambda: self._listener_changed(listener)
            listener.request_handler = self._answer
            self._listener = listener
            async with asyncio.TaskGroup() as tasks:
                helpers = [
                    tasks.create_task(self._close_when_retired(listener), name="retire"),
                    tasks.create_task(self._watch.run(self._check), name="endpoint checks"),
                ]
                if self.settings.target is None and not self.settings.azbridge:
                    helpers.append(tasks.create_task(self._lookup.run(), name="target lookup"))
                async for sender in listener:
                    self._take(sender, tasks)
                for helper in helpers:
                    helper.cancel()
            await listener.wait_closed()

    async def _close_when_retired(self, listener: OpenListener) -> None:
        await self._retired.wait()
        await listener.stop_accepting()

    def _listener_changed(self, listener: OpenListener) -> None:
        if listener.is_online == self.status.is_connected and listener.is_online:
            return
        if listener.is_online:
            self.status.went_online()
            self.facts.expire()
            self._lookup.refresh()
        else:
            self.status.went_offline(None if self._retired.is_set() else listener.last_error)
        self._on_change()

    # --- targets ------------------------------------------------------------------------------

    def _follow(self, *endpoints: Endpoint) -> None:
        """Know where the connections go from now on."""
        if endpoints and not self.settings.azbridge:
            self.status.target = str(endpoints[0])
        self._watch.follow(endpoints)
        self._endpoint_changed()

    def _endpoint_changed(self) -> None:
        self.status.endpoint = self._watch.health
        self._on_change()

    async def look_at_endpoints(self) -> None:
        """For somebody who asks: have the targets checked of which nothing was heard lately.

        A deadline is the caller's; what comes later is remembered too.
        """
        await self._watch.look_again(max_age_seconds=HEARD_LATELY_SECONDS)

    async def _check(self, endpoint: Endpoint) -> Stream:
        if isinstance(endpoint, HttpTarget):
            return await self._dialer.dial_http(endpoint)
        return await self._dialer.dial(endpoint)

    # --- senders ------------------------------------------------------------------------------

    def _take(self, sender: WaitingSender, tasks: asyncio.TaskGroup) -> None:
        labels = {**self.status.labels, "id": sender.id}
        logger.debug(
            "accept", extra={"event": "accept", **labels, "sender": _sender_address(sender)}
        )
        slots = self._slots
        if slots.taken < slots.limit:
            slots.taken += 1
            task = tasks.create_task(self._guard(self._join(sender), labels), name=f"{sender.id}")
            task.add_done_callback(lambda _: slots.give_back())
        elif slots.refusals < MAX_REFUSALS_AT_ONCE:
            slots.refusals += 1
            refusing = self._guard(self._refuse(sender, self._no_room()), labels)
            task = tasks.create_task(refusing, name=f"{sender.id}")
            task.add_done_callback(lambda _: slots.refused())
        else:
            sender.abandon()

    async def _guard(self, work: Awaitable[None], labels: dict[str, object]) -> None:
        """Keep one connection's trouble from the others."""
        try:
            await work
        except RelayError as error:
            logger.warning("%s", error, extra={"event": "connection_failed", **labels})
        except Exception:
            logger.exception("error in a connection", extra={"event": "bug", **labels})

    async def _join(self, sender: WaitingSender) -> None:
        if self.settings.azbridge:
            await self._join_port(sender)
            return
        labels = self.status.labels
        try:
            async with self._ending.grace(DIAL_SECONDS):
                target = await self._target()
        except (TargetUnknown, WrongKind, Stopping) as error:
            await self._refuse(sender, error)
            return
        self.status.open_connections += 1
        try:
            await join(
                sender,
                target,
                dial=self._dialer.dial,
                labels=labels,
                ending=self._ending,
            )
        finally:
            self.status.open_connections -= 1

    async def _join_port(self, sender: WaitingSender) -> None:
        settings = self.settings
        self.status.open_connections += 1
        try:
            await azbridge.serve(
                sender,
                settings.azbridge,
                preamble_seconds=settings.timing.open_timeout_seconds,
                idle_seconds=settings.datagram_idle_seconds,
                dialer=self._dialer,
                labels=self.status.labels,
                ending=self._ending,
            )
        finally:
            self.status.open_connections -= 1

    async def _target(self) -> Target:
        target = self.settings.target
        if isinstance(target, HttpTarget):
            raise WrongKind(
                "This hybrid connection takes HTTP requests, and no WebSocket connections.",
                hint="send HTTP to it, or give it a target without http://",
            )
        if target is not None:
            return target
        try:
            async with asyncio.timeout(self.settings.target_timeout_seconds):
                return await self._lookup.target()
        except TimeoutError:
            raise TargetUnknown(
                "The agent has not learnt its target from the relay yet.", hint="give --target"
            ) from None

    async def _refuse(self, sender: WaitingSender, error: RelayError) -> None:
        labels = {**self.status.labels, "id": sender.id}
        async with self._ending.grace(ANSWER_SECONDS):
            await refuse(sender, error, str(error), labels=labels)

    # --- relayed HTTP -------------------------------------------------------------------------

    async def _answer(self, request: IncomingRequest) -> None:
        if self._forward is None:
            # Not the 504 of the Hybrid Connection Manager, which says nothing of the cause.
            await request.refuse(
                501, "This hybrid connection takes WebSocket connections, and no HTTP requests."
            )
        elif self._slots.taken >= self._slots.limit:
            await request.refuse(503, str(self._no_room()))
        else:
            self._slots.taken += 1
            self.status.open_connections += 1
            try:
                await self._forward.forward(request)
            finally:
                self._slots.give_back()
                self.status.open_connections -= 1

    def _no_room(self) -> RelayError:
        return ServerBusy(
            f"The agent holds {self._slots.limit} connections and takes no more.",
            hint="raise the limit of open files for hcm, or start another agent",
        )


def _sender_address(sender: WaitingSender) -> str:
    where = sender.remote_endpoint
    return "" if where is None else f"{where.address}:{where.port}"
