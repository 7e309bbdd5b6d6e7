"""A listener's control channel: commands with their bodies, whole and in order, both ways."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket_client
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from hybridge.control_channel_errors import describe_close, refusal_of
from hybridge.protocol import messages
from hybridge.protocol.connection_string import ConnectionString
from hybridge.protocol.errors import ConnectionLost, MalformedMessage
from hybridge.protocol.redaction import one_line
from hybridge.transport.dialer import Dialer
from hybridge.transport.pause import pause
from hybridge.transport.timing import Timing
from hybridge.transport.untrusted import untrusted

_logger = logging.getLogger(__name__)

MAX_COMMAND_BYTES = 65_536
"""Longest control-channel message (section 4.4)."""

MAX_WAITING_COMMANDS = 64
"""Commands that wait to be written; who has more to say waits for one of them."""

Command = tuple[messages.Accept | messages.Request, bytes | None]
"""What the relay says, and the body that came with it."""


class _WebSocketClient(open_websocket_client):
    """The library's client, but for redirects: a token is for one host, and goes nowhere else."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def open_control_channel(
    url: str, *, token: str, target: ConnectionString, dialer: Dialer, timing: Timing
) -> ControlChannel:
    """Register a listener.

    Args:
        url: From `hybridge.protocol.address.listen_url`.
        token: Of a rule with Listen.
        target: The hybrid connection, for the texts of errors.
        dialer: Of its namespace.
        timing: Waits, in seconds.

    Raises:
        RelayError: It was refused, or the relay cannot be reached; see
            `hybridge.control_channel_errors.refusal_of`.
    """
    connect = partial(dialer.connect, target.host, target.port)
    try:
        async with asyncio.timeout(timing.open_timeout_seconds):
            socket = await _WebSocketClient(
                url,
                sock=await connect(),
                ssl=dialer.tls.context,
                additional_headers={"ServiceBusAuthorization": token},
                compression=None,
                proxy=None,
                max_size=MAX_COMMAND_BYTES,
                open_timeout=None,
                # The library's own pings would wait for a Close after them, from one who is gone.
                ping_interval=None,
                close_timeout=timing.close_timeout_seconds,
            )
    except ssl.SSLCertVerificationError as error:
        raise await untrusted(error, target.host, connect) from error
    except (InvalidStatus, InvalidHandshake, InvalidURI, OSError, TimeoutError) as error:
        raise refusal_of(error, target) from error
    return ControlChannel(socket)


@dataclass(slots=True)
class _Waiting:
    """A command that is to be written, and who waits for that."""

    text: str
    body: bytes | None
    written: asyncio.Future[None]


class ControlChannel:
    """An open control channel.

    One task writes: a command and its body are never parted, whoever else wants to write, and
    whoever is cancelled meanwhile (clause 117).
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._commands: deque[_Waiting] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Semaphore(MAX_WAITING_COMMANDS)
        self._error: ConnectionLost | None = None
        self._silence = ""

    @property
    def is_open(self) -> bool:
        """Whether commands can still be written."""
        return self._error is None

    # --- the relay's commands -----------------------------------------------------------------

    async def commands(self) -> AsyncIterator[Command]:
        """Give each ``accept`` and ``request``, until the relay closes in order.

        Raises:
            ConnectionLost: The channel broke, or was closed with an error.
        """
        expecting: messages.Request | None = None
        try:
            async for received in self._socket:
                if isinstance(received, bytes):
                    request, expecting = expecting, None
                    if request is None:
                        _logger.debug("ignored a binary message on the control channel")
                    else:
                        yield request, received
                    continue
                if expecting is not None:
                    _logger.warning("dropped request %s: its body did not come", expecting.id)
                    expecting = None
                command = _parse(received)
                if isinstance(command, messages.Request) and command.body:
                    expecting = command
                elif command is not None:
                    yield command, None
        except ConnectionClosed as error:
            why = self._silence or describe_close(error)
            raise ConnectionLost(f"the control channel closed: {why}") from error

    async def keep_alive(self, timing: Timing) -> None:
        """Ping the relay, until the channel closes; break it when an answer does not come in time.

        After the machine has slept the next ping comes at once.
        """
        seconds = timing.pong_timeout_seconds
        while True:
            await pause(timing.ping_interval_seconds)
            try:
                async with asyncio.timeout(seconds):
                    await (await self._socket.ping())
            except TimeoutError:
                self._silence = f"the relay did not answer a ping within {seconds:g} s"
                self._socket.transport.abort()
                return
            except ConnectionClosed:
                return

    def describe_end(self) -> str:
        """Say how the relay closed the channel, one line."""
        code, reason = self._socket.close_code, self._socket.close_reason
        return one_line(f"the relay closed the control channel: {code} {reason}")

    # --- our own ------------------------------------------------------------------------------

    async def send(self, message: messages.Message, body: bytes | None = None) -> None:
        """Send a command, and the body that it announces directly behind it.

        Raises:
            ConnectionLost: The channel has closed; whether the command arrived is unknown.
            MalformedMessage: It is too large.
        """
        text = messages.serialize(message)
        async with self._room:
            if self._error is not None:
                raise self._error
            written = asyncio.get_running_loop().create_future()
            self._commands.append(_Waiting(text, body, written))
            self._changed.set()
            await written

    async def write(self) -> None:
        """Write what `send` gives, until cancelled or the channel closes."""
        try:
            while True:
                while not self._commands:
                    self._changed.clear()
                    await self._changed.wait()
                command = self._commands[0]
                if not command.written.cancelled():
                    await self._socket.send(command.text)
                    if command.body is not None:
                        await self._socket.send(command.body)
                self._commands.popleft()
                if not command.written.done():
                    command.written.set_result(None)
        except ConnectionClosed as error:
            self._fail(f"the control channel closed: {describe_close(error)}")
        finally:
            self._fail("the control channel closed")

    def _fail(self, why: str) -> None:
        if self._error is None:
            self._error = ConnectionLost(why)
        for command in self._commands:
            if not command.written.done():
                command.written.set_exception(self._error)
        self._commands.clear()

    async def close(self, seconds: float) -> None:
        """Leave the relay in order; after ``seconds`` without its answer, TCP is dropped."""
        try:
            async with asyncio.timeout(seconds):
                await self._socket.close()
        except TimeoutError:
            self._socket.transport.abort()

    async def __aenter__(self) -> ControlChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._socket.close()


def _parse(text: str) -> messages.Accept | messages.Request | None:
    try:
        message = messages.parse(text)
    except MalformedMessage as error:
        _logger.warning("ignored a message of the relay: %s", one_line(str(error)))
        return None
    if isinstance(message, messages.Accept | messages.Request):
        return message
    _logger.debug("ignored a command of the relay")
    return None
