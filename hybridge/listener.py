"""`Listener`: keep a control channel open, and yield the connections that senders ask for."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from hybridge.control_channel import ControlChannel, open_control_channel
from hybridge.exchange import Surroundings
from hybridge.incoming_connection import IncomingConnection
from hybridge.incoming_request import IncomingRequest
from hybridge.multiplex_intake import MultiplexIntake
from hybridge.outgoing_response import RESPONSE_FLUSH_SECONDS
from hybridge.protocol import address, messages
from hybridge.protocol.backoff import Backoff
from hybridge.protocol.connection_string import ConnectionString, parse, token_for
from hybridge.protocol.errors import (
    ConnectionLost,
    MalformedConnectionString,
    RelayError,
    Stopping,
)
from hybridge.protocol.proxies import Proxy
from hybridge.protocol.secret import Secret
from hybridge.request_intake import MAX_REQUESTS, RequestHandler, RequestIntake
from hybridge.transport.dialer import Dialer
from hybridge.transport.ending import Ending
from hybridge.transport.pause import pause
from hybridge.transport.timing import Timing

_logger = logging.getLogger(__name__)

TOKEN_LIFETIME_SECONDS = 3600.0
"""How long a listener's token is good."""

RENEW_AT = 0.75
"""Share of the token's life after which it is renewed: well before expiry, on everybody's clock."""

LEAVE_SECONDS = 2.0
"""How long the relay's part of an orderly leave is waited for."""

ANSWER_SECONDS = 1.0
"""How long running handlers may still answer by the control channel, when the listener leaves."""

MAX_WAITING_CONNECTIONS = 1_000
"""Accepts that wait to be taken by the iteration; more are dropped, and their senders time out."""

WARN_SECONDS = 10.0
"""From one warning that senders are dropped to the next."""


class Listener:
    """Keeps one listener registered at a hybrid connection, and yields its senders.

    Enter it, then iterate over those that want a connection::

        async with Listener(connection_string) as listener:
            async for connection in listener:
                stream = await connection.accept()

    Those that send an HTTP request are served by a handler, several at a time::

        async def hello(request):
            await request.respond(200, b"hello", headers={"Content-Type": "text/plain"})

        async with Listener(connection_string, request_handler=hello) as listener:
            await listener.wait_closed()

    or, instead of a handler, by iterating over `requests`. Without either they get 501.

    It reconnects for ever, with full jitter, and renews its token before expiry. `is_online` and
    `last_error` tell how things stand; `on_change` is called when they change.

    Args:
        connection_string: From a rule with Listen.
        ca: PEM file of further trusted authorities.
        connect_to: TCP address to dial instead of the namespace's.
        proxy: The proxy on the way: ``http://[USER:PASSWORD@]HOST:PORT``, ``socks5://...``, or
            ``"none"``. None: as the environment says (``HTTPS_PROXY``, ``ALL_PROXY``,
            ``NO_PROXY``); a loopback address is then dialled directly.
        timing: Waits, in seconds.
        token_lifetime_seconds: How long each token is good.
        request_handler: Answers HTTP requests. Where it raises, the sender gets 500, or a response
            that breaks off, and the error goes to the log.
        max_requests: Most requests at a time; more are answered 503.
        response_flush_seconds: When a response that was begun and is not complete leaves in part.
        is_multiplexing: Whether senders of ours may send several connections over one rendezvous.
            Each is yielded like any other.

    Raises:
        MalformedConnectionString: The text is none, names no hybrid connection, or has no key.
        InvalidSetting: The CA file, or the address of a proxy, cannot be used.
    """

    def __init__(
        self,
        connection_string: ConnectionString | str,
        *,
        ca: Path | None = None,
        connect_to: tuple[str, int] | None = None,
        proxy: Proxy | str | None = None,
        timing: Timing | None = None,
        token_lifetime_seconds: float = TOKEN_LIFETIME_SECONDS,
        request_handler: RequestHandler | None = None,
        max_requests: int = MAX_REQUESTS,
        response_flush_seconds: float = RESPONSE_FLUSH_SECONDS,
        is_multiplexing: bool = False,
    ) -> None:
        if isinstance(connection_string, str):
            connection_string = parse(connection_string)
        self.address = connection_string
        self._path = connection_string.required_path()
        if self.address.is_anonymous:
            raise MalformedConnectionString(
                "SharedAccessKeyName and SharedAccessKey are missing, and a listener needs them",
                hint="use a connection string of a rule that grants Listen",
            )
        self.id = str(uuid.uuid4())
        """Names this listener at the relay, for as long as it lives."""
        self.is_online = False
        self.online_since: float | None = None
        """Unix time of the last registration."""
        self.last_error: RelayError | None = None
        self.on_change: Callable[[], None] | None = None
        self._timing = timing or Timing()
        self._dialer = Dialer(
            self.address.host, ca=ca, connect_to=connect_to, proxy=proxy, timing=self._timing
        )
        self._token_lifetime = token_lifetime_seconds
        self._waiting: asyncio.Queue[IncomingConnection | None] = asyncio.Queue()
        self._quiet_until = 0.0
        self._settled = asyncio.Event()
        self._stopping = asyncio.Event()
        self._awake = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._runner: asyncio.Task[None] | None = None
        self._ending = Ending()
        self._intake = RequestIntake(
            Surroundings(
                dialer=self._dialer,
                timing=self._timing,
                tasks=self._tasks,
                tracker=f"{self.address.host}:{self._path}",
                flush_seconds=response_flush_seconds,
            ),
            max_requests=max_requests,
        )
        self._intake.handler = request_handler
        self._shared = (
            MultiplexIntake(
                tasks=self._tasks,
                timing=self._timing,
                give=self._give,
                labels={"hybrid_connection": self._path, "namespace": self.address.host},
            )
            if is_multiplexing
            else None
        )

    @property
    def request_handler(self) -> RequestHandler | None:
        """Answers HTTP requests; may be exchanged at any time, for those to come."""
        return self._intake.handler

    @request_handler.setter
    def request_handler(self, handler: RequestHandler | None) -> None:
        self._intake.handler = handler

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._runner = self._tasks.create_task(self._run(), name=f"listener {self.address.path}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._runner is not None:
            self._runner.cancel()
        self._intake.cancel()
        if self._shared is not None and error is None:
            self._shared.close()
        elif self._shared is not None:
            self._shared.cancel()
        if isinstance(error, asyncio.CancelledError):
            await self._tasks.__aexit__(kind, error, trace)
        else:
            # The block's own error goes on as it is: the group would wrap it.
            await self._tasks.__aexit__(None, None, None)

    def __aiter__(self) -> AsyncIterator[IncomingConnection]:
        return self

    async def __anext__(self) -> IncomingConnection:
        while True:
            connection = await self._waiting.get()
            if connection is None:
                self._waiting.put_nowait(None)
                raise StopAsyncIteration
            if not connection.has_left:
                return connection

    def requests(self) -> AsyncIterator[IncomingRequest]:
        """Give the HTTP requests that come from now on, one by one, instead of a handler.

        Each must be answered by whoever takes it; ``async with request`` makes sure of that.
        """
        return self._intake.iterate()

    async def wait_online(self) -> None:
        """Wait for the first registration.

        Raises:
            RelayError: The first attempt failed, for this reason. Attempts go on.
        """
        await self._settled.wait()
        if not self.is_online and self.last_error is not None:
            raise self.last_error

    def retry(self) -> None:
        """Try at once to reconnect, where it waits for the time of its next try."""
        self._awake.set()

    async def stop_accepting(self) -> None:
        """Leave the relay in order. The iterations end.

        Accepted connections live on, and so do requests that are being answered: their answers
        go by a rendezvous from now on.
        """
        self._stopping.set()
        self._awake.set()
        self._ending.begin()  # A relay that says nothing is not waited for.
        if self._shared is not None:
            self._shared.end()
        if self._runner is not None:
            await asyncio.wait([self._runner])

    async def wait_closed(self) -> None:
        """Wait until `stop_accepting` has been called, and every handler has come to its end."""
        await self._stopping.wait()
        if self._runner is not None:
            await asyncio.wait([self._runner])
        await self._intake.wait_idle()

    # --- the control channel ------------------------------------------------------------------

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff(random.SystemRandom().uniform)
        try:
            while not self._stopping.is_set():
                self._awake.clear()
                if await pause(backoff.next_delay(loop.time()), until=self._awake):
                    # The machine has slept: there may be another network now.
                    backoff.start_afresh()
                    backoff.next_delay(loop.time())
                if self._stopping.is_set():
                    return
                opened: float | None = None
                try:
                    async with self._ending.grace():
                        channel = await self._open()
                    async with channel:
                        opened = loop.time()
                        self._change(online=True, error=None)
                        await self._serve(channel)
                        error: RelayError = ConnectionLost("the relay closed the control channel")
                except Stopping:
                    return
                except RelayError as problem:
                    error = problem
                if self._shared is not None:
                    self._shared.leave()
                if opened is not None:
                    backoff.worked(loop.time() - opened)
                self._change(online=False, error=None if self._stopping.is_set() else error)
        finally:
            self._waiting.put_nowait(None)
            self._intake.end()

    def _change(self, *, online: bool, error: RelayError | None) -> None:
        self.is_online = online
        self.last_error = error
        if online:
            self.online_since = time.time()
        self._settled.set()
        if self.on_change is not None:
            self.on_change()

    def _token(self) -> str:
        token = token_for(self.address, expires_at=int(time.time() + self._token_lifetime))
        if token is None:
            raise AssertionError("a listener has credentials")
        return token

    async def _open(self) -> ControlChannel:
        target = self.address
        return await open_control_channel(
            address.listen_url(target.host, target.port, self._path, listener_id=self.id),
            token=self._token(),
            target=target,
            dialer=self._dialer,
            timing=self._timing,
        )

    async def _serve(self, channel: ControlChannel) -> None:
        """Read commands until the channel closes; renew the token meanwhile.

        Raises:
            ConnectionLost: The relay closed the channel, or it broke.
        """
        closed: ConnectionLost | None = None
        async with asyncio.TaskGroup() as tasks:
            helpers = [
                tasks.create_task(self._renew(channel), name="renew token"),
                tasks.create_task(self._leave(channel), name="leave"),
                tasks.create_task(channel.write(), name="write commands"),
                tasks.create_task(channel.keep_alive(self._timing), name="pings"),
            ]
            try:
                async for command, body in channel.commands():
                    self._take(command, body, channel)
            except ConnectionLost as error:
                closed = error
            for helper in helpers:
                helper.cancel()
        if closed is not None:
            raise closed
        if not self._stopping.is_set():
            raise ConnectionLost(channel.describe_end())

    async def _leave(self, channel: ControlChannel) -> None:
        await self._stopping.wait()
        await self._intake.leave(ANSWER_SECONDS)
        await channel.close(LEAVE_SECONDS)

    async def _renew(self, channel: ControlChannel) -> None:
        if self.address.token is not None:
            return  # A ready-made token cannot be renewed; the relay closes when it is over.
        while True:
            await asyncio.sleep(self._token_lifetime * RENEW_AT)
            try:
                await channel.send(messages.RenewToken(token=Secret(self._token())))
            except ConnectionLost:
                return

    def _take(
        self,
        command: messages.Accept | messages.Request,
        body: bytes | None,
        channel: ControlChannel,
    ) -> None:
        if isinstance(command, messages.Request):
            self._intake.take(command, body, channel)
        else:
            connection = IncomingConnection(command, self._dialer, self._timing)
            if self._shared is not None and self._shared.wants(connection):
                self._shared.take(connection)
            elif self._shared is not None and self._shared.moves(connection):
                self._shared.take_move(connection)
            else:
                self._give(connection)

    def _give(self, connection: IncomingConnection) -> None:
        if self._waiting.qsize() >= MAX_WAITING_CONNECTIONS:
            now = asyncio.get_running_loop().time()
            if now >= self._quiet_until:
                self._quiet_until = now + WARN_SECONDS
                _logger.warning("dropped a sender: %d are waiting", MAX_WAITING_CONNECTIONS)
            connection.abandon()
        else:
            self._waiting.put_nowait(connection)
