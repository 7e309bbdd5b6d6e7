"""A relay in the caller's event loop: the real one, with real TLS, on a free port of 127.0.0.1."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack.testing.ends import Agent
from devstack.testing.errors import Absent, Ended, hinted
from devstack.testing.hybrid_connection import HybridConnection
from devstack.testing.namespace import LEAK_SECONDS, Namespace
from hybridge.program.lifetime import Lifetime
from hybridge.protocol.errors import InvalidSetting
from hybridge.transport.development_ca import DevelopmentCa
from hybridge.transport.listening import bound_address, open_sockets
from relay import namespace as served
from relay.configuration import AZURE_DOMAIN
from relay.gateway import Gateway
from relay.service import Service
from relay.settings import RelaySettings

HOST = "127.0.0.1"
"""Where everything listens."""

CERTIFICATE_NAMES = (f"*.{AZURE_DOMAIN}", "localhost", HOST, "::1")
"""What the relay's certificate is good for."""


@asynccontextmanager
async def relay(
    *,
    settings: RelaySettings | None = None,
    ca_dir: Path | None = None,
    leak_seconds: float | None = LEAK_SECONDS,
) -> AsyncIterator[Relay]:
    """Run a relay for the length of a block.

    Args:
        settings: Its waits and limits; ports and folders in it do not matter. None: the relay's own
            defaults.
        ca_dir: Keeps the certificate authority, for programs that shall trust it from one run to
            the next. None: one of this block's own.
        leak_seconds: See `Relay.namespace`; for hybrid connections that are made without one.

    Raises:
        LeaksFound: See `Relay.namespace`.
        UnusableFile: ``ca_dir`` cannot be used.
    """
    async with Relay(settings=settings, ca_dir=ca_dir, leak_seconds=leak_seconds) as running:
        yield running


class Relay:
    """A relay that runs, and can be stopped and started. Made by `relay`."""

    _ca: Path
    _connect_to: tuple[str, int]

    def __init__(
        self,
        *,
        settings: RelaySettings | None,
        ca_dir: Path | None,
        leak_seconds: float | None,
    ) -> None:
        # Stopping cuts: what would wait for it is a switch of its own.
        self._settings = replace(settings or RelaySettings(), drain_seconds=0.0)
        self._leak_seconds = leak_seconds
        self._ca_dir = ca_dir
        self._namespaces: dict[str, served.Namespace] = {}
        self._own: Namespace | None = None
        self.open_namespaces: set[Namespace] = set()  # Those whose block is not over.
        self.agents: set[Agent] = set()
        """Those that are told when their control channels are closed."""
        self.tasks = asyncio.TaskGroup()
        """Owns all that runs here."""
        self._held = ExitStack()
        self._service: Service | None = None
        self._sockets: list[socket.socket] = []
        self._lifetime = Lifetime()
        self._serving: asyncio.Task[None] | None = None
        self._has_ended = False

    @property
    def ca(self) -> Path:
        """PEM file of the authority that clients must trust."""
        return self._ca

    @property
    def connect_to(self) -> tuple[str, int]:
        """Where it listens, for the ``connect_to`` of listeners and senders."""
        return self._connect_to

    @property
    def is_running(self) -> bool:
        """Whether it listens."""
        return self._service is not None

    @property
    def gateway(self) -> Gateway:
        """What runs now.

        Raises:
            Absent: The relay is stopped.
        """
        if self._service is None:
            with hinted():
                raise Absent("the relay is stopped", hint="start it: relay.start()")
        return self._service.gateway

    # --- stop and start -----------------------------------------------------------------------

    async def start(self) -> None:
        """Listen, on the same port as before. One that runs is left alone.

        Raises:
            Ended: Its block is over.
        """
        if self._service is not None:
            return
        if self._has_ended:
            raise Ended("the relay was used after its end")
        self._sockets = open_sockets(*self.connect_to, flag="port")
        namespaces = tuple(self._namespaces.values())
        self._lifetime = Lifetime()
        self._service = Service(self._settings, namespaces, self._certificate)
        serving = self._service.serve(self._sockets, self._lifetime)
        self._serving = self.tasks.create_task(serving, name="relay")

    async def stop(self) -> None:
        """Stop it: all connections are cut, and new ones are refused by the system.

        What `HybridConnection.refuse` and `HybridConnection.stall` switched on is over then.
        """
        if self._serving is None:
            return
        self._lifetime.stop()
        serving, self._serving, self._service = self._serving, None, None
        await asyncio.wait([serving])
        for sock in self._sockets:
            sock.close()
        for agent in self.agents:
            agent.lost()

    async def restart(self) -> None:
        """Stop it and start it. Agents come back by themselves: `Agent.wait_connected`."""
        await self.stop()
        await self.start()

    # --- what it serves -----------------------------------------------------------------------

    def namespace(
        self, name: str | None = None, *, leak_seconds: float | None = LEAK_SECONDS
    ) -> Namespace:
        """Give a namespace of its own, to be entered with ``async with``.

        Args:
            name: 6 to 50 letters, digits and hyphens. None: one that nobody else has.
            leak_seconds: How long what was closed may take to be over, at the end. None: nothing is
                looked for.

        Raises:
            InvalidSetting: The name is none.
            LeaksFound: At the end of the block: something was left open.
        """
        return Namespace(self, name=name, leak_seconds=leak_seconds)

    async def hybrid_connection(
        self,
        target: str | tuple[str, int] | None = None,
        *,
        name: str | None = None,
        requires_client_authorization: bool = True,
        agent: bool = True,
        client: bool | None = None,
    ) -> HybridConnection:
        """Make a hybrid connection in a namespace that lives as long as the relay.

        See `Namespace.hybrid_connection`.
        """
        if self._own is None:
            self._own = await self.namespace(leak_seconds=self._leak_seconds).__aenter__()
        return await self._own.hybrid_connection(
            target,
            name=name,
            requires_client_authorization=requires_client_authorization,
            agent=agent,
            client=client,
        )

    def serve_new(self, namespace: served.Namespace) -> None:
        """Serve one more namespace from now on.

        Raises:
            InvalidSetting: The name is taken.
        """
        if namespace.name.lower() in self._namespaces:
            problem = f"{namespace.name!r} is taken in this relay"
            raise InvalidSetting("namespace", problem, hint="choose another, or leave it out")
        self.serve(namespace)

    def serve(self, namespace: served.Namespace) -> None:
        """Serve a namespace from now on, or what became of it."""
        self._namespaces[namespace.name.lower()] = namespace
        self._replace()

    def forget(self, namespace: served.Namespace) -> None:
        """Serve a namespace no more."""
        self._namespaces.pop(namespace.name.lower(), None)
        self._replace()

    def _replace(self) -> None:
        if self._service is not None:
            self._service.replace(tuple(self._namespaces.values()), self._certificate)

    # --- its block ----------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        with ExitStack() as held:
            folder = self._ca_dir or held.enter_context(_temporary_folder())
            ca = DevelopmentCa.load_or_create(folder)
            self._ca = ca.path
            self._certificate = ca.certificate_for(CERTIFICATE_NAMES)
            # Bound and never listening: the port stays ours while the relay is stopped.
            place = held.enter_context(socket.socket())
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            place.bind((HOST, 0))
            self._connect_to = bound_address(place)
            await self.tasks.__aenter__()
            await self.start()
            self._held = held.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The caller's own error goes on as it is, not in a group.
        is_cancelled = isinstance(error, asyncio.CancelledError)
        with self._held:
            try:
                if self._own is not None:
                    await self._own.__aexit__(kind, error, trace)
                for namespace in list(self.open_namespaces):
                    # Its own block did not come to its end; without this, ours would not either.
                    await namespace.end(leak_seconds=None)
            finally:
                self._has_ended = True
                try:
                    await self.stop()
                finally:
                    await self.tasks.__aexit__(
                        *((kind, error, trace) if is_cancelled else _NOTHING)
                    )


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hybridge-ca-") as name:
        yield Path(name)


_NOTHING = (None, None, None)
