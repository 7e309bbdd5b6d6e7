"""The one way to a target: allow-list first, then a deadline, and what came of it is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from hcm_agent.allow_list import AllowList
from hcm_agent.http_target import HttpTarget
from hcm_agent.settings import Target
from hybridge.program.host_port import format_host_port
from hybridge.protocol.errors import RelayError, TargetTimedOut
from hybridge.transport.names import Admit
from hybridge.transport.stream import Stream
from hybridge.transport.udp import UdpSocket, dial_udp

T = TypeVar("T")


class DialTcp(Protocol):
    """Opens a TCP stream; `hybridge.transport.tcp.dial_tcp`."""

    async def __call__(self, host: str, port: int, *, admit: Admit | None = None) -> Stream: ...


class DialHttp(Protocol):
    """Opens a stream to an HTTP service; `hcm_agent.http_forward.HttpDialer.dial`."""

    async def __call__(self, target: HttpTarget, *, admit: Admit | None = None) -> Stream: ...


class Observer(Protocol):
    """Hears how tries end; `hcm_agent.endpoint_watch.EndpointWatch`."""

    def reached(self, target: str) -> None: ...

    def failed(self, target: str, error: RelayError) -> None: ...


class TargetDialer:
    """Opens connections to the targets of one hybrid connection.

    Args:
        dial: To TCP targets.
        dial_http: To HTTP targets.
        timeout_seconds: How long a target may take.
        observer: Hears how tries end.
        allow_list: Where connections may lead; None: anywhere. May be exchanged at any time.
    """

    def __init__(
        self,
        *,
        dial: DialTcp,
        dial_http: DialHttp,
        timeout_seconds: float,
        observer: Observer,
        allow_list: AllowList | None = None,
    ) -> None:
        self._dial = dial
        self._dial_http = dial_http
        self._timeout_seconds = timeout_seconds
        self._observer = observer
        self.allow_list = allow_list

    async def dial(self, target: Target) -> Stream:
        """Open TCP to a target.

        Raises:
            TargetNotAllowed: 403, the allow-list does not have it; nothing was sent to it.
            RelayError: It cannot be reached, 502; or did not answer in time, 504.
        """
        host, port = target.host, target.port
        return await self._try(
            str(target), host, port, lambda admit: self._dial(host, port, admit=admit)
        )

    async def dial_http(self, target: HttpTarget) -> Stream:
        """Open TCP, and TLS where it has that, to an HTTP target; errors as `dial`."""
        return await self._try(
            target.host_port,
            target.host,
            target.port,
            lambda admit: self._dial_http(target, admit=admit),
        )

    async def dial_udp(self, host: str, port: int) -> UdpSocket:
        """Make a UDP socket to a target. Nothing is sent, and so nothing learnt; errors as `dial`.

        The deadline is for its name.
        """
        return await self._within(
            format_host_port(host, port), dial_udp(host, port, admit=self._admit(host, port))
        )

    def _admit(self, host: str, port: int) -> Admit | None:
        return None if self.allow_list is None else self.allow_list.check(host, port)

    async def _try(
        self, target: str, host: str, port: int, dial: Callable[[Admit | None], Awaitable[T]]
    ) -> T:
        try:
            found = await self._within(target, dial(self._admit(host, port)))
        except RelayError as error:
            self._observer.failed(target, error)
            raise
        self._observer.reached(target)
        return found

    async def _within(self, target: str, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await work
        except TimeoutError as error:
            raise TargetTimedOut(
                f"{target} did not answer within {self._timeout_seconds:g} s",
                hint="check the route and the firewalls between the agent and the target",
            ) from error
