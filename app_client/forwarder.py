"""A local TCP port that leads to a target."""

from __future__ import annotations

import asyncio
import logging
import socket
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from app_client.azbridge import ask_for_port
from app_client.local_port import LocalAddress
from app_client.reset_watch import ResetWatch
from app_client.send_right import may_send
from app_client.settings import ClientSettings, Forward
from app_client.target_lookup import Metadata
from hybridge.management import runtime_information
from hybridge.program.advice import advice
from hybridge.program.carrying import carry
from hybridge.protocol.azbridge import Mode, default_port_name
from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import RelayError, Stopping, Unreachable
from hybridge.sender import Sender
from hybridge.shared_sender import SharedSender
from hybridge.transport.accept import accept_connections, give_back
from hybridge.transport.ending import Ending
from hybridge.transport.listening import bound_address, open_sockets
from hybridge.transport.sockets import peer_address
from hybridge.transport.stream import Stream
from hybridge.transport.tcp import open_tcp
from hybridge.transport.unix_listening import UnixAddress, UnixListening

logger = logging.getLogger(__name__)


class Connecting(Protocol):
    """The part of `hybridge.sender.Sender` that is needed here."""

    async def connect(self, *, connection_id: str | None = None) -> Stream: ...


def open_sender(forward: Forward, settings: ClientSettings) -> Connecting:
    """Make the SDK's sender for a hybrid connection."""
    sender = Sender(
        forward.connection_string,
        ca=settings.ca,
        connect_to=settings.connect_to,
        proxy=settings.proxy,
        timing=settings.timing,
    )
    if forward.is_azbridge or not settings.is_multiplexing:
        return sender
    labels = {"hybrid_connection": forward.name, "namespace": forward.namespace}
    return SharedSender(sender, timing=settings.timing, labels=labels)


async def read_metadata(forward: Forward, settings: ClientSettings) -> Metadata:
    """Ask the relay what it knows about a hybrid connection."""
    return await runtime_information(
        forward.connection_string,
        ca=settings.ca,
        connect_to=settings.connect_to,
        proxy=settings.proxy,
        timing=settings.timing,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What a client needs of the world beyond its local ports; tests script it."""

    open_sender: Callable[[Forward, ClientSettings], Connecting] = open_sender
    read_metadata: Callable[[Forward, ClientSettings], Awaitable[Metadata]] = read_metadata
    may_send: Callable[[Forward, ClientSettings], Awaitable[bool | None]] = may_send


class LocalReset(RelayError):
    """The application gave up before the relay had answered."""


class Forwarder:
    """One local port: each connection to it goes through one hybrid connection.

    Args:
        forward: Where to listen, and where it leads.
        settings: What all forwarders of the process have in common.
        max_connections: Connections beyond this wait in the kernel's backlog.
        outside: The relay.
    """

    def __init__(
        self,
        forward: Forward,
        settings: ClientSettings,
        *,
        max_connections: int,
        outside: Outside,
    ) -> None:
        self._forward = forward
        self._max_connections = max_connections
        self._outside = outside
        self._senders: asyncio.TaskGroup | None = None
        """As long as it runs: whatever senders have to do beside their connections."""
        self._replaced = asyncio.Event()
        self.settings = settings
        self._sockets: list[socket.socket] = []
        self._unix: UnixListening | None = None
        self._labels: dict[str, object] = {
            "hybrid_connection": forward.name,
            "namespace": forward.namespace,
        }
        self.protocol: Literal["tcp", "udp", "unix"] = "tcp"
        self.address: LocalAddress | None = None
        """Local host and port, or the path of a Unix socket and 0, once it listens."""
        self.target = forward.target
        """Host and port behind the agent, once they are known."""
        self.open_connections = 0
        self.connections: dict[str, tuple[str, int]] = {}
        """By its id, where each open connection comes from."""
        self._ending = Ending()

    @property
    def name(self) -> str:
        """Name of the hybrid connection."""
        return self._forward.name

    @property
    def settings(self) -> ClientSettings:
        """What all ports of the process have in common; may be replaced for later connections."""
        return self._settings

    @settings.setter
    def settings(self, settings: ClientSettings) -> None:
        self._sender = self._outside.open_sender(self._forward, settings)
        self._settings = settings
        self._replaced.set()
        self._run_sender()

    def _run_sender(self) -> None:
        """Let it share rendezvous until it is replaced, and its connections have ended."""
        self._replaced = asyncio.Event()
        if self._senders is not None and isinstance(self._sender, SharedSender):
            running = self._sender.run(self._replaced)
            self._senders.create_task(running, name=f"{self.name} sender")

    def open(self, listen: LocalAddress | UnixAddress) -> LocalAddress:
        """Listen there.

        Returns:
            The local host and port, or the path of a Unix socket and 0.

        Raises:
            AddressUnusable: It is in use, or cannot be used.
            InvalidSetting: The host has no address.
        """
        flag = self._forward.listen_setting
        if isinstance(listen, UnixAddress):
            self._unix = UnixListening(listen, flag=flag)
            self._sockets = [self._unix.socket]
            self.protocol = "unix"
            self.address = (str(listen.path), 0)
        else:
            self._sockets = open_sockets(*listen, flag=flag)
            self.address = bound_address(self._sockets[0])
        return self.address

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve the port until ``stopping``, then until the last connection has ended."""
        async with asyncio.TaskGroup() as self._senders:
            self._run_sender()
            try:
                await accept_connections(
                    self._sockets,
                    self._serve,
                    max_connections=self._max_connections,
                    name=self.name,
                    stopping=stopping,
                )
            finally:
                self._senders = None
                self._replaced.set()

    def stop_listening(self) -> None:
        """Take nothing new, so that the port is free for others at once."""
        give_back(self._sockets)
        if self._unix is not None:
            self._unix.remove()

    def stop_dialling(self) -> None:
        """Give up what the relay has not joined: only what carries bytes goes on."""
        self._ending.begin()

    def close(self) -> None:
        """Give the port back. Running connections go on."""
        for sock in self._sockets:
            sock.close()
        if self._unix is not None:
            self._unix.remove()

    # --- one connection -----------------------------------------------------------------------

    async def _serve(self, sock: socket.socket) -> None:
        """Lead one local connection through the relay. Its errors end here."""
        connection_id = str(uuid.uuid4())
        labels = {**self._labels, "id": connection_id}
        local = await open_tcp(sock)
        self.open_connections += 1
        self.connections[connection_id] = peer_address(sock)
        try:
            remote = await self._dial(sock, connection_id)
            await carry(local, remote, labels=labels)
        except (LocalReset, Stopping) as error:
            local.abort()
            logger.info("%s", error, extra={"event": "connection_abandoned", **labels})
        except RelayError as error:
            # At once, and before the log: the application shall see what a direct connection shows.
            local.abort()
            log_refusal(error, labels)
        except Exception:
            logger.exception("error in a connection", extra={"event": "bug", **labels})
        finally:
            local.abort()
            self.open_connections -= 1
            del self.connections[connection_id]

    async def _dial(self, sock: socket.socket, connection_id: str) -> Stream:
        """Connect through the relay, unless the application gives up before.

        Raises:
            LocalReset: It did.
            Stopping: The client stops.
            RelayError: The relay or the agent refused, or did not answer in time.
        """
        loop = asyncio.get_running_loop()
        seconds = self._settings.timing.connect_timeout_seconds
        watch: ResetWatch | None = None
        try:
            async with self._ending.grace(), asyncio.timeout(seconds) as deadline:
                with ResetWatch(sock, lambda: deadline.reschedule(loop.time())) as watch:
                    stream = await self._sender.connect(connection_id=connection_id)
                    return await self._open_port(stream)
        except TimeoutError:
            if watch is not None and watch.was_reset:
                raise LocalReset("the application gave up before the relay had answered") from None
            raise Unreachable(
                f"no answer within {seconds:g} s",
                hint="check the relay, and the agent's way to the target",
            ) from None

    async def _open_port(self, stream: Stream) -> Stream:
        if not self._forward.is_azbridge or self.address is None:
            return stream
        name = self._forward.port_name or default_port_name(self.address[1], Mode.STREAM)
        return await ask_for_port(stream, name, Mode.STREAM)


def log_refusal(error: RelayError, labels: dict[str, object]) -> None:
    """Log why a connection did not come about, and what to do."""
    logger.warning(
        "refused: %s",
        error,
        extra={
            "event": "connection_refused",
            **labels,
            "status": error.status,
            "hint": advice(error, claim=Claim.SEND),
        },
    )
