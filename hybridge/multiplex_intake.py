"""`MultiplexIntake`: the rendezvous that a listener's senders share, from join to end."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Coroutine, Mapping

from hybridge.incoming_connection import IncomingConnection
from hybridge.multiplexed_connection import MultiplexedConnection
from hybridge.protocol.errors import RelayError
from hybridge.protocol.multiplex import (
    MOVE_HEADER,
    MOVE_SUBPROTOCOL,
    PLAIN_SUBPROTOCOL,
    SUBPROTOCOL,
)
from hybridge.transport.multiplex import Multiplex
from hybridge.transport.multiplexed_stream import MultiplexedStream
from hybridge.transport.timing import Timing

_logger = logging.getLogger(__name__)

MAX_SHARED_RENDEZVOUS = 128
"""Rendezvous that a listener shares at a time; further senders get one for each connection."""

MAX_MOVES = 128
"""Connections that move at a time; more stay where they are."""


class MultiplexIntake:
    """Joins senders that offer `hybridge.mux`, and gives each connection that they ask for.

    Args:
        tasks: Of the listener; its rendezvous run there.
        timing: Waits, in seconds.
        give: Takes each connection, to be accepted or rejected.
        labels: What each log line carries, besides an id.
    """

    def __init__(
        self,
        *,
        tasks: asyncio.TaskGroup,
        timing: Timing,
        give: Callable[[MultiplexedConnection], None],
        labels: Mapping[str, object],
    ) -> None:
        self._tasks = tasks
        self._timing = timing
        self._give = give
        self._labels = labels
        self._sharing: set[asyncio.Task[None]] = set()
        self._moving: set[asyncio.Task[None]] = set()
        self._shared: dict[Multiplex, asyncio.Task[object] | None] = {}
        """With the task that runs each."""
        self._leaving = asyncio.Event()
        self._is_over = False

    def wants(self, connection: IncomingConnection) -> bool:
        """Whether a sender is one of ours that would share its rendezvous, and may."""
        offered = connection.subprotocols
        return (
            SUBPROTOCOL in offered
            and PLAIN_SUBPROTOCOL in offered
            and not self._is_over
            and len(self._sharing) < MAX_SHARED_RENDEZVOUS
        )

    def take(self, connection: IncomingConnection) -> None:
        """Join a sender that would share its rendezvous."""
        self._start(self._run(connection), f"shared {connection.id}", self._sharing)

    def moves(self, connection: IncomingConnection) -> bool:
        """Whether a sender of ours moves a connection to a rendezvous of its own."""
        return MOVE_SUBPROTOCOL in connection.subprotocols and bool(_token(connection))

    def take_move(self, connection: IncomingConnection) -> None:
        """Join the rendezvous that a connection moves to."""
        if len(self._moving) < MAX_MOVES:
            self._start(self._move(connection), f"move {connection.id}", self._moving)

    def _start(
        self, work: Coroutine[object, object, None], name: str, running: set[asyncio.Task[None]]
    ) -> None:
        task = self._tasks.create_task(work, name=name)
        running.add(task)
        task.add_done_callback(running.discard)

    def leave(self) -> None:
        """Let each rendezvous take no new connections, and end with the last that it carries.

        When the control channel is gone, that is: who wants a connection now shall hear from the
        relay whether there is a listener.
        """
        self._leaving.set()
        self._leaving = asyncio.Event()

    def end(self) -> None:
        """Share no rendezvous from now on; those that there are `leave`."""
        self._is_over = True
        self.leave()

    def close(self) -> None:
        """End every rendezvous in order, what it held first; what it still carries breaks."""
        self.end()
        for multiplex in self._shared:
            multiplex.close()
        for task in self._moving | self._sharing.difference(self._shared.values()):
            task.cancel()

    def cancel(self) -> None:
        """Drop every rendezvous, with what it carries."""
        for task in self._moving | self._sharing:
            task.cancel()

    async def _run(self, connection: IncomingConnection) -> None:
        labels = {**self._labels, "id": connection.id}
        leaving = self._leaving
        try:
            carrier = await connection.accept(SUBPROTOCOL)
        except RelayError as error:
            _logger.warning("%s", error, extra={"event": "connection_failed", **labels})
            return

        def asked(stream: MultiplexedStream, name: str) -> None:
            # Not at once: who gives up in the same breath takes nobody's place.
            asyncio.get_running_loop().call_soon(self._pass_on, stream, name, connection)

        multiplex = Multiplex(
            carrier, is_opener=False, on_asked=asked, timing=self._timing, labels=labels
        )
        self._shared[multiplex] = asyncio.current_task()
        try:
            async with asyncio.TaskGroup() as tasks:
                helpers = [
                    tasks.create_task(self._greet(multiplex, labels), name="hello"),
                    tasks.create_task(self._end_when_leaving(multiplex, leaving), name="leave"),
                ]
                await multiplex.run()
                for helper in helpers:
                    helper.cancel()
        finally:
            del self._shared[multiplex]

    def _pass_on(
        self, stream: MultiplexedStream, name: str, rendezvous: IncomingConnection
    ) -> None:
        if stream.is_gone:
            return
        if self._is_over:
            stream.abort()  # It crossed our GOAWAY. The sender tries another rendezvous.
            return
        connection_id = name or str(uuid.uuid4())
        self._give(
            MultiplexedConnection(stream, connection_id=connection_id, rendezvous=rendezvous)
        )

    async def _move(self, connection: IncomingConnection) -> None:
        stream = self._find(_token(connection))
        try:
            if stream is None:
                await connection.reject(410, "The connection is not here, or has ended.")
                return
            stream.begin_move()
            own = await connection.accept(MOVE_SUBPROTOCOL)
        except RelayError as error:
            _logger.debug("no move: %s", error, extra={"id": connection.id})
            if stream is not None:
                stream.give_up_move(error)
            return
        if stream.can_move:
            stream.move_to(own)
        else:
            own.abort()

    def _find(self, token: str) -> MultiplexedStream | None:
        """Give the connection that may move by this token."""
        found = (multiplex.find(token) for multiplex in self._shared)
        return next((stream for stream in found if stream and stream.can_move), None)

    async def _greet(self, multiplex: Multiplex, labels: Mapping[str, object]) -> None:
        try:
            async with asyncio.timeout(self._timing.open_timeout_seconds):
                await multiplex.wait_ready()
        except TimeoutError:
            _logger.warning(
                "a sender that wants to share its rendezvous says nothing",
                extra={"event": "multiplex_violation", **labels},
            )
            multiplex.abort()
        except RelayError:
            pass  # It is gone.

    async def _end_when_leaving(self, multiplex: Multiplex, leaving: asyncio.Event) -> None:
        await leaving.wait()
        multiplex.leave()
        await multiplex.wait_idle()
        multiplex.close()


def _token(connection: IncomingConnection) -> str:
    """Read which connection moves; empty where that is not said."""
    for name, value in connection.connect_headers.items():
        if name.lower() == MOVE_HEADER.lower():
            return value
    return ""
