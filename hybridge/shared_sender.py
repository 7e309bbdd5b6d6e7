"""`SharedSender`: several connections over few rendezvous, where the listener is one of ours."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

from hybridge.protocol.errors import ConnectionLost, RelayError, Unreachable
from hybridge.protocol.multiplex import (
    MOVE_HEADER,
    MOVE_SUBPROTOCOL,
    PLAIN_SUBPROTOCOL,
    SUBPROTOCOL,
)
from hybridge.sender import TOKEN_LIFETIME_SECONDS
from hybridge.transport.multiplex import Multiplex
from hybridge.transport.multiplexed_stream import MultiplexedStream
from hybridge.transport.stream import RelayedStream
from hybridge.transport.timing import Timing

_logger = logging.getLogger(__name__)

OFFER = (PLAIN_SUBPROTOCOL, SUBPROTOCOL)
"""In this order: a listener of somebody else's that echoes the first one offered stays plain."""

MOVE_OFFER = (PLAIN_SUBPROTOCOL, MOVE_SUBPROTOCOL)
"""For the rendezvous that a connection moves to."""

MAX_MOVES = 32
"""Connections that move at a time; others wait until they have carried as much again."""

MAX_RENDEZVOUS = 4
"""Most rendezvous that are shared at a time."""

FIRST_SECONDS = 5.0
"""How long others wait for the first rendezvous, to share it. A listener that is not one of ours
accepts it when its target has answered, and nobody else's connection is to wait for that."""

BUSY_STREAMS = 16
"""With so many connections on each rendezvous, another one is opened beside them."""

KEEP_SECONDS = 600.0
"""How long a rendezvous without a connection is kept for the next one."""

MAX_AGE_SECONDS = float(TOKEN_LIFETIME_SECONDS)
"""A rendezvous takes no new connections after this, so that a key that was taken back is missed,
and the relay's choice of a listener is asked for again."""


class Opening(Protocol):
    """The part of `hybridge.sender.Sender` that is needed here."""

    async def connect(
        self,
        *,
        connection_id: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        subprotocols: Sequence[str] = (),
    ) -> RelayedStream: ...


class SharedSender:
    """Opens connections through one hybrid connection, as `Sender` does, and faster.

    The first one offers the sub-protocols `OFFER`. A listener of ours takes up `hybridge.mux`: the
    rendezvous then carries further connections too, each set up in one round trip, and one that
    carries much moves to a rendezvous of its own. Any other listener gets a rendezvous for each
    connection, as ever. Enter it; leaving it breaks what its rendezvous still carry.

    Args:
        sender: Opens each rendezvous.
        timing: Waits, in seconds.
        labels: What each log line carries, besides an id.
    """

    def __init__(
        self,
        sender: Opening,
        *,
        timing: Timing | None = None,
        labels: Mapping[str, object] | None = None,
    ) -> None:
        self._sender = sender
        self._labels = dict(labels or {})
        self._timing = timing or Timing()
        self._shared: dict[Multiplex, float] = {}
        """Each with the time of the event loop when it was opened."""
        self._running: set[asyncio.Task[None]] = set()
        self._tasks = asyncio.TaskGroup()
        self._first: asyncio.Future[None] | None = None
        self._is_plain = False
        self._moving: set[asyncio.Task[None]] = set()
        self._growth: asyncio.Task[None] | None = None
        self._is_entered = asyncio.Event()
        self._is_left = False
        self._is_retired = False
        self._connecting = 0
        self._unused = asyncio.Event()
        self._unused.set()

    async def run(self, retired: asyncio.Event) -> None:
        """Be entered until ``retired`` is set, and then for as long as it has connections.

        Nobody may ask for a connection then; those that are being opened are.
        """
        async with self:
            await retired.wait()
            self._is_retired = True
            self._say_unused()
            await self._unused.wait()
            while runs := self._running - self._moving - {self._growth}:
                await asyncio.wait(runs)

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._is_entered.set()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_left = True
        for task in [*self._moving, *filter(None, [self._growth])]:
            task.cancel()
        if error is None:
            for multiplex in self._shared:
                multiplex.close()
        else:
            for task in self._running:
                task.cancel()
        if isinstance(error, asyncio.CancelledError):
            await self._tasks.__aexit__(kind, error, trace)
        else:
            # The block's own error goes on as it is: the group would wrap it.
            await self._tasks.__aexit__(None, None, None)

    async def connect(self, *, connection_id: str | None = None) -> RelayedStream:
        """Open one connection, and wait until a listener has accepted it.

        Args:
            connection_id: Names the connection in everybody's logs; made if not given.

        Raises:
            HandshakeRefused: The relay or the listener refused; with status and reason.
            UntrustedCertificate: The relay's certificate is not trusted.
            Unreachable: The relay cannot be reached, or there was no answer in time.
            ConnectionLost: The rendezvous broke, twice, before there was an answer.
        """
        self._connecting += 1
        self._unused.clear()
        try:
            await self._is_entered.wait()
            return await self._connect(connection_id or str(uuid.uuid4()))
        finally:
            self._connecting -= 1
            self._say_unused()

    def _say_unused(self) -> None:
        if self._connecting:
            return
        self._unused.set()
        if self._is_retired:
            for multiplex in self._shared:
                multiplex.leave()

    async def _connect(self, name: str) -> RelayedStream:
        for is_last in (False, True):
            try:
                opened = self._choose() or await self._dial(name)
                if not isinstance(opened, Multiplex):
                    return opened
                async with asyncio.timeout(self._timing.connect_timeout_seconds):
                    return await opened.open(name)
            except TimeoutError as error:
                raise Unreachable(
                    "the listener did not answer in time",
                    hint="check the agent, and its way to the target",
                ) from error
            except ConnectionLost:
                # Nothing was accepted, so nothing was sent: another rendezvous may do.
                if is_last:
                    raise
        raise AssertionError("the last try returns or raises")

    @property
    def _is_over(self) -> bool:
        """Whether nobody asks for a connection any more."""
        return self._is_retired and not self._connecting

    def _choose(self) -> Multiplex | None:
        """Give the least busy rendezvous that takes a connection; open another if all are busy."""
        oldest = asyncio.get_running_loop().time() - MAX_AGE_SECONDS
        usable = [each for each, since in self._shared.items() if each.can_open and since > oldest]
        if not usable:
            return None
        chosen = min(usable, key=lambda each: each.open_streams)
        if chosen.open_streams >= BUSY_STREAMS and len(self._shared) < MAX_RENDEZVOUS:
            self._grow()
        return chosen

    def _grow(self) -> None:
        if self._growth is None and not self._is_retired:
            self._growth = self._start(self._open_another(), "open another rendezvous")

    async def _open_another(self) -> None:
        try:
            opened = await self._open(str(uuid.uuid4()))
            if not isinstance(opened, Multiplex):
                opened.abort()  # Somebody else's listener, and nobody waits for a connection.
        except RelayError as error:
            _logger.debug("no other rendezvous: %s", error)
        finally:
            self._growth = None

    async def _dial(self, name: str) -> Multiplex | RelayedStream:
        """Open a rendezvous; while it is not known what the listener is, one first, then all."""
        if self._is_plain:
            return await self._open(name)
        if self._first is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_SECONDS):
                    await asyncio.shield(self._first)
            return self._choose() or await self._open(name)
        first = self._first = asyncio.get_running_loop().create_future()
        try:
            return await self._open(name)
        finally:
            self._first = None
            first.set_result(None)

    async def _open(self, name: str) -> Multiplex | RelayedStream:
        stream = await self._sender.connect(connection_id=name, subprotocols=OFFER)
        if stream.subprotocol != SUBPROTOCOL:
            self._is_plain = True
            return stream
        self._is_plain = False
        multiplex = Multiplex(
            stream,
            is_opener=True,
            timing=self._timing,
            labels={**self._labels, "id": name},
            on_heavy=self._start_move,
        )
        self._shared[multiplex] = asyncio.get_running_loop().time()
        self._start(self._run(multiplex), f"shared {name}")
        try:
            async with asyncio.timeout(self._timing.open_timeout_seconds):
                await multiplex.wait_ready()
        except TimeoutError as error:
            multiplex.abort()
            raise Unreachable(
                "the listener agreed to share a rendezvous, and says nothing",
                hint="turn off Multiplex in the client's settings, and report this",
            ) from error
        except BaseException:
            multiplex.abort()
            raise
        return multiplex

    def _start_move(self, stream: MultiplexedStream) -> None:
        if len(self._moving) < MAX_MOVES and not self._is_left:
            task = self._start(self._move(stream), "move")
            self._moving.add(task)
            task.add_done_callback(self._moving.discard)

    async def _move(self, stream: MultiplexedStream) -> None:
        """Open a rendezvous for one connection; where that fails it stays where it is."""
        stream.begin_move()
        try:
            own = await self._sender.connect(
                headers=[(MOVE_HEADER, stream.token)], subprotocols=MOVE_OFFER
            )
        except RelayError as error:
            # Another listener got it, or the connection has ended.
            _logger.debug("a connection stays on its shared rendezvous: %s", error)
            stream.give_up_move(error)
            return
        if own.subprotocol != MOVE_SUBPROTOCOL:
            stream.give_up_move(ConnectionLost("the other rendezvous led elsewhere"))
            own.abort()
        elif stream.can_move:
            stream.move_to(own)
        else:
            own.abort()

    def _start(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        task = self._tasks.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _run(self, multiplex: Multiplex) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                closing = tasks.create_task(self._close_in_time(multiplex), name="close in time")
                await multiplex.run()
                closing.cancel()
        finally:
            del self._shared[multiplex]

    async def _close_in_time(self, multiplex: Multiplex) -> None:
        """Close a rendezvous that carries nothing and is not kept for more."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError):
            # Whoever opened it has not had his turn yet.
            async with asyncio.timeout(self._timing.open_timeout_seconds):
                while not (multiplex.open_streams or multiplex.is_gone or self._is_over):
                    await multiplex.wait_change()
        while not multiplex.is_gone:
            if multiplex.open_streams:
                await multiplex.wait_change()
                continue
            keep_until = min(
                multiplex.idle_since + KEEP_SECONDS, self._shared[multiplex] + MAX_AGE_SECONDS
            )
            is_spare = multiplex.is_left or len(self._shared) > MAX_RENDEZVOUS
            if is_spare or self._is_retired or loop.time() >= keep_until:
                multiplex.close()
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(keep_until):
                    await multiplex.wait_change()
