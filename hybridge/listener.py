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

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket_client
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from hybridge.control_channel_errors import describe_close, refusal_of
from hybridge.protocol import address, messages
from hybridge.protocol.backoff import Backoff
from hybridge.protocol.connection_string import ConnectionString, parse, token_for
from hybridge.protocol.errors import (
    ConnectionLost,
    HandshakeRefused,
    MalformedAddress,
    MalformedConnectionString,
    MalformedMessage,
    RelayError,
    Stopping,
    Unreachable,
)
from hybridge.protocol.redaction import one_line
from hybridge.protocol.secret import Secret
from hybridge.transport.dialer import Dialer
from hybridge.transport.ending import Ending
from hybridge.transport.stream import Wire
from hybridge.transport.timing import Timing
from hybridge.transport.websocket import WebSocketStream, open_websocket

_logger = logging.getLogger(__name__)

TOKEN_LIFETIME_SECONDS = 3600.0
"""How long a listener's token is good."""

RENEW_AT = 0.75
"""Share of the token's life after which it is renewed: well before expiry, on everybody's clock."""

LEAVE_SECONDS = 2.0
"""How long the relay's part of an orderly leave is waited for."""

MAX_WAITING_CONNECTIONS = 1_000
"""Accepts that wait to be taken by the iteration; more are dropped, and their senders time out."""

MAX_COMMAND_BYTES = 65_536
"""Longest control-channel message (section 4.4)."""


class _ControlChannel(open_websocket_client):
    """The library's client, but for redirects: a token is for one host, and goes nowhere else."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class Listener:
    """Keeps one listener registered at a hybrid connection, and yields its senders.

    Enter it, then iterate::

        async with Listener(connection_string) as listener:
            async for connection in listener:
                stream = await connection.accept()

    It reconnects for ever, with full jitter, and renews its token before expiry. `is_online` and
    `last_error` tell how things stand; `on_change` is called when they change.

    Args:
        connection_string: From a rule with Listen.
        ca: PEM file of further trusted authorities.
        connect_to: TCP address to dial instead of the namespace's.
        timing: Waits, in seconds.
        token_lifetime_seconds: How long each token is good.

    Raises:
        MalformedConnectionString: The text is none, names no hybrid connection, or has no key.
        InvalidSetting: The CA file cannot be used.
    """

    def __init__(
        self,
        connection_string: ConnectionString | str,
        *,
        ca: Path | None = None,
        connect_to: tuple[str, int] | None = None,
        timing: Timing | None = None,
        token_lifetime_seconds: float = TOKEN_LIFETIME_SECONDS,
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
        self._dialer = Dialer(self.address.host, ca=ca, connect_to=connect_to)
        self._timing = timing or Timing()
        self._token_lifetime = token_lifetime_seconds
        self._waiting: asyncio.Queue[IncomingConnection | None] = asyncio.Queue()
        self._settled = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._runner: asyncio.Task[None] | None = None
        self._ending = Ending()

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
        await self._tasks.__aexit__(kind, error, trace)

    def __aiter__(self) -> AsyncIterator[IncomingConnection]:
        return self

    async def __anext__(self) -> IncomingConnection:
        connection = await self._waiting.get()
        if connection is None:
            self._waiting.put_nowait(None)
            raise StopAsyncIteration
        return connection

    async def wait_online(self) -> None:
        """Wait for the first registration.

        Raises:
            RelayError: The first attempt failed, for this reason. Attempts go on.
        """
        await self._settled.wait()
        if not self.is_online and self.last_error is not None:
            raise self.last_error

    async def stop_accepting(self) -> None:
        """Leave the relay in order. Accepted connections live on; the iteration ends."""
        self._stopping.set()
        self._ending.begin()  # A relay that says nothing is not waited for.
        if self._runner is not None:
            await asyncio.wait([self._runner])

    # --- the control channel ------------------------------------------------------------------

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff(random.SystemRandom().uniform)
        try:
            while not self._stopping.is_set():
                if await self._stopped_within(backoff.next_delay(loop.time())):
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
                if opened is not None:
                    backoff.worked(loop.time() - opened)
                self._change(online=False, error=None if self._stopping.is_set() else error)
        finally:
            self._waiting.put_nowait(None)

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True

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

    async def _open(self) -> ClientConnection:
        target = self.address
        url = address.listen_url(target.host, target.port, self._path, listener_id=self.id)
        host, port = self._dialer.peer(target.host, target.port)
        try:
            return await _ControlChannel(
                url,
                host=host,
                port=port,
                ssl=self._dialer.tls.context,
                additional_headers={"ServiceBusAuthorization": self._token()},
                compression=None,
                proxy=None,
                max_size=MAX_COMMAND_BYTES,
                open_timeout=self._timing.open_timeout_seconds,
                ping_interval=self._timing.ping_interval_seconds,
                ping_timeout=self._timing.pong_timeout_seconds,
                close_timeout=self._timing.close_timeout_seconds,
            )
        except (InvalidStatus, InvalidHandshake, InvalidURI, OSError, TimeoutError) as error:
            raise refusal_of(error, target) from error

    async def _serve(self, channel: ClientConnection) -> None:
        """Read commands until the channel closes; renew the token meanwhile.

        Raises:
            ConnectionLost: The relay closed the channel, or it broke.
        """
        closed: ConnectionLost | None = None
        async with asyncio.TaskGroup() as tasks:
            renewing = tasks.create_task(self._renew(channel), name="renew token")
            leaving = tasks.create_task(self._leave(channel), name="leave")
            try:
                async for text in channel:
                    self._take(text)
            except ConnectionClosed as error:
                closed = ConnectionLost(f"the control channel closed: {describe_close(error)}")
            renewing.cancel()
            leaving.cancel()
        if closed is not None:
            raise closed
        if not self._stopping.is_set():
            code = channel.close_code
            raise ConnectionLost(
                one_line(f"the relay closed the control channel: {code} {channel.close_reason}")
            )

    async def _leave(self, channel: ClientConnection) -> None:
        await self._stopping.wait()
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await channel.close()
        except TimeoutError:
            channel.transport.abort()

    async def _renew(self, channel: ClientConnection) -> None:
        if self.address.token is not None:
            return  # A ready-made token cannot be renewed; the relay closes when it is over.
        while True:
            await asyncio.sleep(self._token_lifetime * RENEW_AT)
            message = messages.RenewToken(token=Secret(self._token()))
            try:
                await channel.send(messages.serialize(message))
            except ConnectionClosed:
                return

    def _take(self, text: str | bytes) -> None:
        if isinstance(text, bytes):
            _logger.debug("ignored a binary message on the control channel")
            return
        try:
            message = messages.parse(text)
        except MalformedMessage as error:
            _logger.warning("ignored a message of the relay: %s", one_line(str(error)))
            return
        match message:
            case messages.Accept():
                if self._waiting.qsize() >= MAX_WAITING_CONNECTIONS:
                    _logger.warning("dropped a sender: %d are waiting", MAX_WAITING_CONNECTIONS)
                    return
                self._waiting.put_nowait(IncomingConnection(message, self._dialer, self._timing))
            case _:
                _logger.debug("ignored a command of the relay")


class IncomingConnection:
    """A sender that waits at a rendezvous address, for this listener to accept or reject it."""

    def __init__(self, accept: messages.Accept, dialer: Dialer, timing: Timing) -> None:
        self.id = accept.id
        """Names the connection in everybody's logs."""
        self.address = accept.address
        self.connect_headers = accept.connect_headers
        """The sender's HTTP headers, spelled as they came."""
        self.remote_endpoint = accept.remote_endpoint
        """The sender's address as the relay saw it, or None."""
        self._dialer = dialer
        self._timing = timing
        self._wire: Wire | None = None

    @property
    def subprotocols(self) -> tuple[str, ...]:
        """WebSocket sub-protocols that the sender offered, best first."""
        for name, value in self.connect_headers.items():
            if name.lower() == "sec-websocket-protocol":
                return tuple(part.strip() for part in value.split(",") if part.strip())
        return ()

    async def prepare(self) -> None:
        """Open TCP and TLS to the rendezvous, to save its time later. May be left out.

        Raises:
            MalformedAddress: The address leads outside the namespace, and is not followed.
            UntrustedCertificate: See `accept`.
            Unreachable: See `accept`.
        """
        self.abandon()
        self._wire = await self._dial()

    async def _dial(self) -> Wire:
        dial = address.parse_url(self.address)
        if not address.may_follow(dial.host, self._dialer.host):
            raise MalformedAddress(
                f"the relay named a rendezvous at {dial.host}, outside {self._dialer.host}",
                hint="a relay names its own host or one beside it; do not trust this one",
            )
        try:
            async with asyncio.timeout(self._timing.open_timeout_seconds):
                return await self._dialer.dial(dial.host, dial.port)
        except TimeoutError as error:
            raise Unreachable(f"the rendezvous at {dial.host} did not answer in time") from error

    async def accept(self, subprotocol: str | None = None) -> WebSocketStream:
        """Join the sender.

        Args:
            subprotocol: The offered sub-protocol to speak, or None.

        Raises:
            HandshakeRefused: The relay refused: the sender has gone, or it was too late.
            MalformedAddress: The address leads outside the namespace.
            UntrustedCertificate: The certificate there is not trusted.
            Unreachable: The rendezvous cannot be reached, or did not answer in time.
        """
        return await self._visit(self.address, () if subprotocol is None else (subprotocol,))

    async def reject(self, status: int, description: str) -> None:
        """Refuse the sender, whose handshake then fails with this status and description.

        Raises:
            HandshakeRefused: The relay answered something else than 410.
            MalformedAddress: See `accept`.
            UntrustedCertificate: See `accept`.
            Unreachable: See `accept`.
        """
        url = address.reject_url(self.address, status, description)
        try:
            stream = await self._visit(url, ())
        except HandshakeRefused as answer:
            if answer.status != 410:
                raise
        else:
            stream.abort()
            raise HandshakeRefused(101, "the relay took a rejection for an acceptance")

    async def _visit(self, url: str, subprotocols: tuple[str, ...]) -> WebSocketStream:
        wire, self._wire = self._wire, None
        if wire is None or not _is_usable(wire):
            if wire is not None:
                wire.abort()
            wire = await self._dial()
        try:
            async with asyncio.timeout(self._timing.open_timeout_seconds):
                return await open_websocket(
                    wire, url, subprotocols=subprotocols, timing=self._timing
                )
        except TimeoutError as error:
            wire.abort()
            raise Unreachable("the rendezvous did not answer in time") from error
        except BaseException:
            wire.abort()
            raise

    def abandon(self) -> None:
        """Drop what `prepare` opened."""
        if self._wire is not None:
            self._wire.abort()
            self._wire = None


def _is_usable(wire: Wire) -> bool:
    """Whether nothing came on a connection on which nothing was asked: then it has not ended."""
    return wire.is_open and not wire.has_input()
