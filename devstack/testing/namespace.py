"""A namespace of its own for each test: nothing of one can be seen in another."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from devstack.testing.ends import LIVES
from devstack.testing.errors import Ended, LeaksFound, hinted
from devstack.testing.hybrid_connection import Coordinates, HybridConnection
from devstack.testing.leaks import Leak
from hcm_agent.http_target import HttpTarget, is_http_target, parse_http_target
from hcm_agent.settings import Target
from hybridge.program.host_port import format_host_port, parse_host_port
from hybridge.protocol.claims import Claim
from hybridge.protocol.connection_string import ConnectionString, serialize
from hybridge.protocol.errors import InvalidSetting
from hybridge.protocol.secret import Secret
from hybridge.protocol.user_metadata import serialize_target
from relay import namespace as served
from relay.configuration import AZURE_DOMAIN, check_namespace_name, check_path

if TYPE_CHECKING:
    from devstack.testing.own_relay import Relay

LEAK_SECONDS = 2.0
"""How long connections that the test has closed may take to be over everywhere."""

LOOK_SECONDS = 0.01
"""From one look at what is open to the next."""

ACCEPT_TURNS = 20
"""Turns of the event loop in which what waits at a local port is taken, so that it is seen."""

MAX_HYBRID_CONNECTIONS = 1_000
"""Hybrid connections of one namespace under test."""

_KEY_BYTES = 32


class Namespace:
    """A namespace, for the length of an ``async with`` block. Made by `Relay.namespace`.

    At the end of the block it looks for what was left open. Where the block raises, it does not.

    Args:
        relay: Where it is served.
        name: Its name; None for one that nobody else has.
        leak_seconds: How long what was closed may take to be over. None: nothing is looked for.
    """

    def __init__(self, relay: Relay, *, name: str | None, leak_seconds: float | None) -> None:
        with hinted():
            name = name or f"test-{secrets.token_hex(6)}"
            self.name = check_namespace_name(name, setting="namespace")
        self._relay = relay
        self._leak_seconds = leak_seconds
        self._root = _rule("RootManageSharedAccessKey", Claim.LISTEN | Claim.SEND | Claim.MANAGE)
        self._made: dict[str, HybridConnection] = {}
        self._served = served.Namespace(
            name=self.name,
            hosts=(f"{self.name.lower()}.{AZURE_DOMAIN}",),
            rules={self._root.name.lower(): self._root},
        )
        self._has_ended = False

    @property
    def host(self) -> str:
        """Its host name: ``NAME.servicebus.windows.net``; TCP goes to `Relay.connect_to`."""
        return self._served.hosts[0]

    @property
    def connection_string(self) -> str:
        """Of the rule that grants everything, in all hybrid connections of the namespace."""
        return serialize(self._connection_string(None, self._root))

    async def hybrid_connection(
        self,
        target: str | tuple[str, int] | None = None,
        *,
        name: str | None = None,
        requires_client_authorization: bool = True,
        agent: bool = True,
        client: bool | None = None,
    ) -> HybridConnection:
        """Make a hybrid connection that leads to a target, ready for use.

        Args:
            target: ``HOST:PORT``, ``http://HOST:PORT`` for relayed HTTP, or what a socket's
                ``getsockname()`` gives. None: there is no agent, and a listener of your own serves.
            name: None for one that is free.
            requires_client_authorization: Whether senders need a token; the client has one then.
            agent: Whether the agent runs from the start; else `Agent.start` starts it.
            client: Whether there is a local port that leads to the target. None: if it is TCP.

        Raises:
            InvalidSetting: The target or name is none, or the name is taken.
            Absent: The relay is stopped.
            NotConnected: The agent does not get through to the relay.
            Ended: The namespace has ended.
        """
        with hinted():
            if self._has_ended:
                raise Ended(f"namespace {self.name} was used after its end", hint=LIVES)
            if agent:
                _ = self._relay.gateway  # Stopped, it would only be found out by waiting.
            name = self._free_name(name)
            parsed = None if target is None else parse_target(target)
            made = self._make(name, parsed, requires_client_authorization)
            self._made[name.lower()] = made
            if client or (client is None and isinstance(parsed, Target)):
                await made.open_port()
            if agent and parsed is not None:
                await made.agent.start()
        return made

    def _make(
        self, name: str, target: Target | HttpTarget | None, requires_client_authorization: bool
    ) -> HybridConnection:
        listen, send = _rule("defaultListener", Claim.LISTEN), _rule("defaultSender", Claim.SEND)
        metadata = serialize_target(target.host, target.port) if isinstance(target, Target) else ""
        entry = served.HybridConnection(
            name=name,
            requires_client_authorization=requires_client_authorization,
            user_metadata=metadata,
            rules={each.name.lower(): each for each in (listen, send)},
            created_at=time.time(),
            updated_at=time.time(),
        )
        entries = {**self._served.hybrid_connections, name.lower(): entry}
        self._served = replace(self._served, hybrid_connections=entries)
        self._relay.serve(self._served)
        listens, sends = (self._connection_string(name, rule) for rule in (listen, send))
        anonymous = ConnectionString(host=self.host, path=name)
        return HybridConnection(
            self._relay,
            Coordinates(
                name=name,
                namespace=self.host,
                listen_connection_string=serialize(listens),
                send_connection_string=serialize(sends),
                ca=self._relay.ca,
                connect_to=self._relay.connect_to,
            ),
            entity=served.entity_of(self._served, name),
            listen=listens,
            send=sends if requires_client_authorization else anonymous,
            target=target,
        )

    def _free_name(self, name: str | None) -> str:
        if name is None:
            numbers = range(1, MAX_HYBRID_CONNECTIONS + 1)
            name = next(each for i in numbers if (each := f"hc{i}") not in self._made)
        check_path(name, setting="name")
        if name.lower() in self._made:
            problem = f"{name!r} is taken in namespace {self.name}"
            raise InvalidSetting("name", problem, hint="choose another, or leave it out")
        if len(self._made) >= MAX_HYBRID_CONNECTIONS:
            problem = f"{MAX_HYBRID_CONNECTIONS} are made already"
            raise InvalidSetting("hybrid connections", problem, hint="use a further namespace")
        return name

    def _connection_string(
        self, path: str | None, rule: served.AuthorizationRule
    ) -> ConnectionString:
        return ConnectionString(host=self.host, path=path, key_name=rule.name, key=rule.primary_key)

    # --- the end ------------------------------------------------------------------------------

    def leaks(self) -> list[Leak]:
        """What is open now besides agents and clients."""
        return [leak for each in self._made.values() for leak in each.leaks()]

    async def end(self, *, leak_seconds: float | None = LEAK_SECONDS) -> list[Leak]:
        """End it; give what was left open.

        First all switches are off again, and a relay that was stopped runs.

        Args:
            leak_seconds: How long what was closed may take to be over. None: it is not waited for.
        """
        if self._has_ended:
            return []
        self._has_ended = True
        self._relay.open_namespaces.discard(self)
        await self._relay.start()
        for each in self._made.values():
            each.calm()
        leaks = await self._remaining_leaks(leak_seconds or 0.0)
        for each in self._made.values():
            leaks += await each.end()
        self._relay.forget(self._served)
        return leaks

    async def _remaining_leaks(self, seconds: float) -> list[Leak]:
        """Give what is still open after what is just closing has had its time."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        for _ in range(ACCEPT_TURNS):
            await asyncio.sleep(0)
        # Looked at again and again: nobody tells when the last of it is over.
        while (leaks := self.leaks()) and loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
        return leaks

    async def __aenter__(self) -> Self:
        with hinted():
            self._relay.serve_new(self._served)
        self._relay.open_namespaces.add(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        seconds = None if error is not None else self._leak_seconds
        leaks = await self.end(leak_seconds=seconds)
        if leaks and seconds is not None:
            with hinted():
                raise LeaksFound(f"namespace {self.name}", leaks)


def parse_target(target: str | tuple[str, int]) -> Target | HttpTarget:
    """Read what a caller gave as a target.

    Raises:
        InvalidSetting: It is none.
    """
    if not isinstance(target, str):
        try:
            host, port, *_ = target
            target = format_host_port(host, port)
        except (TypeError, ValueError) as error:
            problem = f"{target!r} is not a host and a port"
            hint = "write HOST:PORT, or give what getsockname() gives"
            raise InvalidSetting("target", problem, hint=hint) from error
    if is_http_target(target):
        return parse_http_target(target, setting="target")
    return Target(*parse_host_port(target, setting="target", lowest_port=1))


def _rule(name: str, claims: Claim) -> served.AuthorizationRule:
    primary, secondary = (
        Secret(base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()) for _ in range(2)
    )
    return served.AuthorizationRule(
        name=name, claims=claims, primary_key=primary, secondary_key=secondary
    )
