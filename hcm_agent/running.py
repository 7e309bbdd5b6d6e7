"""One run of the service: its directory, its door for the verbs, then the agent until its end."""

from __future__ import annotations

import asyncio
import importlib
import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING

from hcm_agent.agent import Agent
from hcm_agent.control.door import Door, listening
from hcm_agent.hybrid_connection import Outside
from hcm_agent.key_storage import Keys, KeyStorage
from hcm_agent.log_ring import LogRing
from hcm_agent.service import Service
from hcm_agent.settings import AgentSources, require_some
from hcm_agent.store import Store
from hybridge.program import lifetime
from hybridge.program.limits import raise_descriptor_limit
from hybridge.protocol.errors import RelayError
from hybridge.transport.readiness import wait_readable

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from hcm_agent.state_directory import StateDirectory
    from hybridge.program.lifetime import Lifetime

DESCRIPTORS_PER_CONNECTION = 2
"""The rendezvous and the target."""

RESERVED_DESCRIPTORS = 256
"""For control channels, metadata, refusals over the limit, verbs, and the log."""

logger = logging.getLogger(__name__)


class CannotListen(RelayError):
    """The socket for the verbs cannot be opened."""


def run_service(
    sources: AgentSources,
    *,
    program: str,
    state: StateDirectory | None,
    keys: Keys,
    door: Door,
    ready_file: Path | None,
) -> int:
    """Serve what is configured and what was added, until the process is asked to stop.

    Where nobody chose the state directory, and it cannot be used or is another service's, what is
    configured is served without verbs, and a warning says so.

    Args:
        sources: What is configured.
        program: The name that log lines carry.
        state: Where what was added is; None for an agent without verbs.
        keys: Where the keys of what will be added are kept.
        door: How the verbs speak to it.
        ready_file: Exists while every hybrid connection is Connected.

    Returns:
        The exit code 0.

    Raises:
        AnotherServiceRuns: The state directory is taken.
        CannotListen: The verbs cannot be heard.
        InvalidSetting: Something that is configured or was added cannot be used.
        UnusableFile: The state directory, or a file in it, cannot be used.
    """
    # First, so that a mistake in the configuration is told whatever the state directory holds.
    configured = sources.load()
    with ExitStack() as opened:
        run: ServiceRun | None = None
        if state is not None and _hold(state, opened, is_needed=not configured.hybrid_connections):
            run = ServiceRun(sources, state, program=program, keys=keys)
            run.open(door, opened)
        max_connections = raise_descriptor_limit(
            descriptors_per_connection=DESCRIPTORS_PER_CONNECTION, reserve=RESERVED_DESCRIPTORS
        )
        logger.info(
            "room for %d connections",
            max_connections,
            extra={"event": "limits", "max_connections": max_connections},
        )
        if run is None:
            settings = require_some(configured)

            async def serve(life: Lifetime) -> None:
                agent = Agent(
                    settings,
                    load=lambda: require_some(sources.load()),
                    max_connections=max_connections,
                    ready_file=ready_file,
                )
                await agent.run(life)

            return lifetime.run(serve)
        with_verbs = run
        return lifetime.run(
            lambda life: with_verbs.main(
                life, max_connections=max_connections, ready_file=ready_file
            )
        )


def _hold(state: StateDirectory, opened: ExitStack, *, is_needed: bool) -> bool:
    try:
        opened.enter_context(state.held())
    except RelayError as error:
        if state.is_named or is_needed:
            raise
        logger.warning(
            "there are no verbs, and nothing that was added is served: %s",
            error,
            extra={
                "event": "no_verbs",
                "hint": f"{error.hint}; --state none says that it is meant",
            },
        )
        return False
    return True


class ServiceRun:
    """A service that has a directory and hears verbs.

    Args:
        sources: What is configured.
        state: The directory; the caller holds it.
        program: The name that log lines carry.
        keys: Where the keys of what will be added are kept.
        outside: The relay and the targets.

    Raises:
        RelayError: What is configured, or was added, cannot be used.
    """

    def __init__(
        self,
        sources: AgentSources,
        state: StateDirectory,
        *,
        program: str,
        keys: Keys,
        outside: Outside | None = None,
    ) -> None:
        self._state = state
        keyring = KeyStorage(state.path)
        if keys is Keys.KEYRING:
            keyring.check()
        self._sources = sources
        self._outside = outside or Outside()
        self._service = Service(sources, Store(state.connections, keyring), keys=keys)
        self._settings = self._service.load()
        self._ring = LogRing(program)

    @property
    def agent(self) -> Agent:
        """Serves; there once `main` runs."""
        if self._service.agent is None:
            raise AssertionError("it does not run yet")
        return self._service.agent

    def open(self, door: Door, opened: ExitStack) -> None:
        """Listen for the verbs, and remember the log from now on; until ``opened`` closes.

        Raises:
            CannotListen: The socket cannot be opened.
            UnusableFile: The token cannot be written.
        """
        try:
            self._sock, self._token = opened.enter_context(listening(self._state, door))
        except OSError as error:
            raise CannotListen(
                f"{self._state.path}: no socket for the verbs: {error.strerror or error}",
                hint="choose another directory with --state, a short one",
            ) from error
        logging.getLogger().addHandler(self._ring)
        opened.callback(logging.getLogger().removeHandler, self._ring)

    async def main(self, life: Lifetime, *, max_connections: int, ready_file: Path | None) -> None:
        """Run agent and verbs."""
        agent = Agent(
            self._settings,
            load=self._service.load,
            max_connections=max_connections,
            ready_file=ready_file,
            outside=self._outside,
            on_change=self._service.changed,
        )
        self._service.agent = agent
        if not self._settings.hybrid_connections:
            logger.info("nothing is served yet: hcm add", extra={"event": "nothing_served"})
        logger.info(
            "verbs are heard", extra={"event": "verbs", "state_directory": str(self._state.path)}
        )
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear(self._sock, ended), name="verbs")
            try:
                await agent.run(life)
            finally:
                ended.set()

    async def _hear(self, sock: socket.socket, ended: asyncio.Event) -> None:
        # The server's libraries take a tenth of a second, and most agents are never asked: they
        # are imported when the first verb knocks, which waits that long.
        async with asyncio.TaskGroup() as waits:
            ways = [
                waits.create_task(wait_readable(sock.fileno()), name="first verb"),
                waits.create_task(ended.wait(), name="end of the agent"),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
        if ended.is_set():
            return
        await asyncio.to_thread(importlib.import_module, "hcm_agent.control.server")
        from hcm_agent.control.server import make_app
        from hcm_agent.endpoint_test import RelayRoute
        from hybridge.program.http_server import serve

        def route() -> RelayRoute:
            configured = self._service.configured  # Another one after a reload.
            return RelayRoute(
                ca=self._sources.ca,
                connect_to=self._sources.connect_to,
                proxy=configured.proxy,
                allow_list=configured.allow_list,
                dial=self._outside.dial,
            )

        app = make_app(self._service, self._ring, token=self._token, route=route, stopping=ended)
        await serve(app, [sock], until=ended.wait())
