"""The agent and the client of one hybrid connection, in the event loop of the relay."""

from __future__ import annotations

import asyncio

from app_client.client import Client as AppClient
from app_client.forwarder import Forwarder
from app_client.local_port import LocalPort
from app_client.settings import ClientSettings, Forward
from devstack.testing.errors import Ended, NotConnected, hinted
from hcm_agent.agent import Agent as HcmAgent
from hcm_agent.settings import AgentSettings, HybridConnectionSettings
from hybridge.program.lifetime import Lifetime

MAX_CONNECTIONS = 1_000
"""Connections of an agent, and of a client."""

CONNECT_SECONDS = 10.0
"""How long an agent may take to connect, on a machine that is busy with other tests."""

END_SECONDS = 10.0
"""How long an agent or a client may take to end; then it is cancelled, and reported."""

LIVES = "it lives as long as its namespace's block: in pytest, as long as the test"


class Agent:
    """The agent of a hybrid connection: `hcm` as an operator runs it, to be stopped and started.

    Args:
        settings: The hybrid connection, and its target.
        tasks: Owns what runs.
    """

    def __init__(self, settings: HybridConnectionSettings, tasks: asyncio.TaskGroup) -> None:
        self._settings = AgentSettings(hybrid_connections=(settings,), drain_seconds=0.0)
        self._tasks = tasks
        self._agent: HcmAgent | None = None
        self._lifetime = Lifetime()
        self._running: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._is_lost = False
        self._has_ended = False

    @property
    def is_connected(self) -> bool:
        """Whether its control channel stands: senders reach the target."""
        agent = self._agent
        if agent is None or self._is_lost:
            return False
        return all(each.is_connected for each in agent.statuses)

    def lost(self) -> None:
        """Hear that its control channel is closed at the relay: it will find out for itself.

        Unless it has found out already: then nothing would ever take this back.
        """
        statuses = [] if self._agent is None else self._agent.statuses
        self._is_lost = bool(statuses) and all(each.is_connected for each in statuses)

    def _on_change(self) -> None:
        if self._agent is not None and not all(each.is_connected for each in self._agent.statuses):
            self._is_lost = False  # It has found out.
        self._changed.set()

    async def start(self) -> None:
        """Start it, and wait until it is connected. One that runs is left alone.

        Raises:
            NotConnected: See `wait_connected`.
            Ended: Its namespace has ended.
        """
        if self._has_ended:  # Nobody would ever stop it.
            name = self._settings.hybrid_connections[0].name
            with hinted():
                raise Ended(f"the agent of {name!r} was used after its end", hint=LIVES)
        if self._running is None:
            self._lifetime, self._is_lost = Lifetime(), False
            self._agent = HcmAgent(
                self._settings,
                load=lambda: self._settings,
                max_connections=MAX_CONNECTIONS,
                on_change=self._on_change,
            )
            name = f"agent of {self._settings.hybrid_connections[0].name}"
            running = self._agent.run(self._lifetime)
            self._running = self._tasks.create_task(running, name=name)
            await asyncio.sleep(0)  # From now on it has a status.
        await self.wait_connected()

    async def wait_connected(self, seconds: float = CONNECT_SECONDS) -> None:
        """Wait until it is connected: after `Relay.restart`, or when its token has expired.

        Raises:
            NotConnected: It is not within ``seconds``, or it does not run.
        """
        agent = self._agent
        try:
            async with asyncio.timeout(seconds):
                while not self.is_connected and self._agent is not None:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        if self.is_connected:
            return
        errors = [] if agent is None else [each.last_error for each in agent.statuses]
        error = next((each for each in errors if each is not None), None)
        name = self._settings.hybrid_connections[0].name
        with hinted():
            if self._agent is None:
                problem = f"the agent of {name!r} does not run"
                raise NotConnected(problem, hint="start it: agent.start()")
            raise NotConnected(
                f"the agent of {name!r} did not connect within {seconds:g} s: {error or 'no word'}",
                hint=error.hint if error else "give it more time: wait_connected(seconds)",
            )

    async def stop(self) -> None:
        """Stop it, as its service is stopped: its connections are cut, senders get 404."""
        if self._running is None:
            return
        self._lifetime.stop()
        running, self._running = self._running, None
        await end(running)
        self._agent = None
        self._changed.set()

    async def end(self) -> None:
        """Stop it for good.

        Raises:
            TimeoutError: It did not stop, and was cancelled.
        """
        self._has_ended = True
        await self.stop()


class Client:
    """The client of a hybrid connection: `app-client`, with a free port of 127.0.0.1.

    Args:
        forward: The hybrid connection.
        settings: How to reach the relay.
    """

    def __init__(self, forward: Forward, settings: ClientSettings) -> None:
        self._name = forward.name
        self._lifetime = Lifetime()
        self._opened: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
        self._client = AppClient(settings, max_connections=MAX_CONNECTIONS, announce=self._announce)
        self._running: asyncio.Task[None] | None = None

    def _announce(self, _port: LocalPort, address: tuple[str, int]) -> None:
        if not self._opened.done():
            self._opened.set_result(address)

    async def start(self, tasks: asyncio.TaskGroup) -> tuple[str, int]:
        """Open the local port; give its host and number."""
        running = self._client.run(self._lifetime)
        self._running = tasks.create_task(running, name=f"client of {self._name}")
        return await self._opened

    @property
    def connections(self) -> list[tuple[str, tuple[str, int]]]:
        """Give the id and the application's address of each connection to the local port."""
        ports = [each for each in self._client.forwarders if isinstance(each, Forwarder)]
        return [item for port in ports for item in port.connections.items()]

    async def end(self) -> None:
        """Close the local port, and cut its connections."""
        self._lifetime.stop()
        if self._running is not None:
            await end(self._running)


async def end(running: asyncio.Task[None]) -> None:
    """Wait for a task that has been told to end.

    Raises:
        TimeoutError: It did not, and was cancelled.
    """
    done, _ = await asyncio.wait([running], timeout=END_SECONDS)
    if not done:
        running.cancel()
        await asyncio.wait([running], timeout=END_SECONDS)
        raise TimeoutError(f"the {running.get_name()} did not end within {END_SECONDS:g} s")
