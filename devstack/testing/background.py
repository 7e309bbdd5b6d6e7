"""The same for code that blocks: relay, agents and clients in a thread with an event loop.

Each call hands its work to that loop and waits for it. The kit's objects are safe to use from any
thread, and from a coroutine of another loop too: no call waits for anything but the loop's own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from devstack.testing.ends import CONNECT_SECONDS, Agent
from devstack.testing.errors import Ended, hinted
from devstack.testing.hybrid_connection import (
    REFUSED_REASON,
    REFUSED_STATUS,
    HybridConnection,
    Located,
    Undo,
)
from devstack.testing.leaks import Leak
from devstack.testing.namespace import LEAK_SECONDS, Namespace
from devstack.testing.own_relay import Relay, relay
from hybridge.protocol.errors import RelayError
from relay.settings import RelaySettings

START_SECONDS = 30.0
"""How long the relay may take to be there, on a machine that is busy with other tests."""

T = TypeVar("T")


class Loop:
    """Runs what it is given in the event loop of another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Wait for a coroutine.

        Raises:
            Ended: The thread has ended.
        """
        __tracebackhide__ = True
        if self._loop.is_closed():
            work.close()
            raise Ended("the relay was used after its end")
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except RelayError as error:
            # It says what is wrong; where in the other thread that was found helps nobody.
            raise error.with_traceback(None) from None

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in the loop, and wait for it.

        Raises:
            Ended: The thread has ended.
        """
        __tracebackhide__ = True

        async def calling() -> T:
            return function()

        return self.run(calling())


@contextmanager
def background_relay(
    *,
    settings: RelaySettings | None = None,
    ca_dir: Path | None = None,
) -> Iterator[BackgroundRelay]:
    """Run a relay in a thread of its own for the length of a block.

    Args:
        settings: See `devstack.testing.relay`.
        ca_dir: See `devstack.testing.relay`.

    Raises:
        UnusableFile: ``ca_dir`` cannot be used.
    """
    started: concurrent.futures.Future[BackgroundRelay] = concurrent.futures.Future()
    stopping = asyncio.Event()

    async def main() -> None:
        async with relay(settings=settings, ca_dir=ca_dir) as running:
            loop = asyncio.get_running_loop()
            started.set_result(BackgroundRelay(running, Loop(loop)))
            await stopping.wait()

    ended: list[BaseException] = []

    def thread() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            ended.append(error)
            if not started.done():
                started.set_exception(error)

    running = threading.Thread(target=thread, name="hybridge relay", daemon=True)
    running.start()
    with hinted():
        background = started.result(START_SECONDS)
    try:
        yield background
    finally:
        with suppress(Ended):  # It has come to its end by itself, which `ended` tells.
            background.loop.call(stopping.set)
        running.join()
        if ended:
            raise ended[0]


class BackgroundRelay:
    """A relay that runs in another thread. Made by `background_relay`."""

    def __init__(self, relay: Relay, loop: Loop) -> None:
        self._relay = relay
        self.loop = loop

    @property
    def ca(self) -> Path:
        """PEM file of the authority that clients must trust."""
        return self._relay.ca

    @property
    def connect_to(self) -> tuple[str, int]:
        """Where it listens, for the ``connect_to`` of listeners and senders."""
        return self._relay.connect_to

    @property
    def is_running(self) -> bool:
        """Whether it listens."""
        return self._relay.is_running

    def start(self) -> None:
        """See `Relay.start`."""
        self.loop.run(self._relay.start())

    def stop(self) -> None:
        """See `Relay.stop`."""
        self.loop.run(self._relay.stop())

    def restart(self) -> None:
        """See `Relay.restart`."""
        self.loop.run(self._relay.restart())

    def namespace(
        self, name: str | None = None, *, leak_seconds: float | None = LEAK_SECONDS
    ) -> BackgroundNamespace:
        """Give a namespace of its own, to be entered with ``with``. See `Relay.namespace`."""
        __tracebackhide__ = True
        namespace = self._relay.namespace(name, leak_seconds=leak_seconds)
        return BackgroundNamespace(namespace, self.loop)


class BackgroundNamespace:
    """A namespace, for the length of a ``with`` block. Made by `BackgroundRelay.namespace`."""

    def __init__(self, namespace: Namespace, loop: Loop) -> None:
        self._namespace = namespace
        self._loop = loop

    @property
    def name(self) -> str:
        """Its name."""
        return self._namespace.name

    @property
    def host(self) -> str:
        """See `Namespace.host`."""
        return self._namespace.host

    @property
    def connection_string(self) -> str:
        """See `Namespace.connection_string`."""
        return self._namespace.connection_string

    def hybrid_connection(
        self,
        target: str | tuple[str, int] | None = None,
        *,
        name: str | None = None,
        requires_client_authorization: bool = True,
        agent: bool = True,
        client: bool | None = None,
    ) -> BackgroundHybridConnection:
        """Make a hybrid connection that leads to a target, ready for use.

        See `Namespace.hybrid_connection`.
        """
        __tracebackhide__ = True
        making = self._namespace.hybrid_connection(
            target,
            name=name,
            requires_client_authorization=requires_client_authorization,
            agent=agent,
            client=client,
        )
        return BackgroundHybridConnection(self._loop.run(making), self._loop)

    def leaks(self) -> list[Leak]:
        """What is open now besides agents and clients."""
        return self._loop.call(self._namespace.leaks)

    def end(self, *, leak_seconds: float | None = LEAK_SECONDS) -> list[Leak]:
        """End it; give what was left open. See `Namespace.end`."""
        return self._loop.run(self._namespace.end(leak_seconds=leak_seconds))

    def __enter__(self) -> Self:
        __tracebackhide__ = True
        self._loop.run(self._namespace.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        self._loop.run(self._namespace.__aexit__(kind, error, trace))


class BackgroundHybridConnection(Located):
    """A hybrid connection. Made by `BackgroundNamespace.hybrid_connection`."""

    def __init__(self, hybrid_connection: HybridConnection, loop: Loop) -> None:
        super().__init__(hybrid_connection.coordinates)
        self._made = hybrid_connection
        self._loop = loop

    @property
    def local_address(self) -> tuple[str, int]:
        """See `HybridConnection.local_address`."""
        return self._made.local_address

    @property
    def host(self) -> str:
        """Host of `local_address`."""
        return self._made.host

    @property
    def port(self) -> int:
        """Port of `local_address`."""
        return self._made.port

    @property
    def agent(self) -> BackgroundAgent:
        """See `HybridConnection.agent`."""
        return BackgroundAgent(self._made.agent, self._loop)

    @property
    def open_connections(self) -> int:
        """See `HybridConnection.open_connections`."""
        return self._loop.call(lambda: self._made.open_connections)

    def sever(self, *, close: bool = True) -> int:
        """See `HybridConnection.sever`."""
        return self._loop.call(partial(self._made.sever, close=close))

    def refuse(self, status: int = REFUSED_STATUS, reason: str = REFUSED_REASON) -> Undo:
        """See `HybridConnection.refuse`."""
        with hinted():
            self._loop.call(partial(self._made.refuse, status, reason))
        return Undo(self.admit)

    def admit(self) -> None:
        """See `HybridConnection.admit`."""
        self._loop.call(self._made.admit)

    def stall(self) -> Undo:
        """See `HybridConnection.stall`."""
        self._loop.call(self._made.stall)
        return Undo(self.resume)

    def resume(self) -> None:
        """See `HybridConnection.resume`."""
        self._loop.call(self._made.resume)

    def expire_tokens(self) -> int:
        """See `HybridConnection.expire_tokens`."""
        return self._loop.call(self._made.expire_tokens)


HybridConnectionFactory = Callable[..., BackgroundHybridConnection]
"""What the fixture ``hybrid_connection`` gives: `BackgroundNamespace.hybrid_connection`."""


class BackgroundAgent:
    """The agent of a hybrid connection. See `Agent`."""

    def __init__(self, agent: Agent, loop: Loop) -> None:
        self._agent = agent
        self._loop = loop

    @property
    def is_connected(self) -> bool:
        """See `Agent.is_connected`."""
        return self._loop.call(lambda: self._agent.is_connected)

    def start(self) -> None:
        """See `Agent.start`."""
        self._loop.run(self._agent.start())

    def stop(self) -> None:
        """See `Agent.stop`."""
        self._loop.run(self._agent.stop())

    def wait_connected(self, seconds: float = CONNECT_SECONDS) -> None:
        """See `Agent.wait_connected`."""
        self._loop.run(self._agent.wait_connected(seconds))
