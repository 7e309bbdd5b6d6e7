"""A local UDP port that leads to a target, as azbridge's do: a connection for each local peer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import uuid
from functools import partial
from typing import Literal

from app_client.azbridge import ask_for_port
from app_client.forwarder import Connecting, Outside, log_refusal
from app_client.local_port import LocalAddress
from app_client.settings import ClientSettings, Forward
from hybridge.program.datagrams import Conversation, carry_datagrams
from hybridge.program.host_port import format_host_port
from hybridge.protocol.azbridge import Mode, default_port_name
from hybridge.protocol.errors import RelayError, Stopping, Unreachable
from hybridge.transport.ending import Ending
from hybridge.transport.listening import bound_address, open_sockets
from hybridge.transport.stream import Stream
from hybridge.transport.udp import ROOM_BYTES, Peer, UdpSocket
from hybridge.transport.unix_listening import UnixAddress

logger = logging.getLogger(__name__)

MAX_PEERS = 1_000
"""Local peers of one port at a time; datagrams of further ones are lost."""

MAX_WAITING_DATAGRAMS = 16
"""Datagrams of one peer that are held while the relay is dialled; more are lost."""

MAX_WAITING_BYTES = 65_536
"""Bytes of one peer that are held meanwhile."""

REST_SECONDS = 1.0
"""After a refusal, how long a peer's datagrams are lost before the relay is dialled again."""

WARN_SECONDS = 10.0
"""From one warning that there is no room for a peer to the next."""


class _Route:
    """One local peer: its datagrams wait, or are carried."""

    def __init__(self, sock: UdpSocket, peer: Peer) -> None:
        self.socket = sock
        self.peer = peer
        self.waiting: list[bytes] = []
        self.waiting_bytes = 0
        self.is_resting = False
        self.conversation: Conversation | None = None

    @property
    def is_over(self) -> bool:
        """Whether its connection ends: the next datagram opens another."""
        return self.conversation is not None and self.conversation.is_over

    def take(self, buffer: memoryview, start: int, end: int) -> None:
        size = end - start
        if self.conversation is not None:
            self.conversation.send(buffer, start, end)
        elif (
            not self.is_resting
            and len(self.waiting) < MAX_WAITING_DATAGRAMS
            and self.waiting_bytes + size <= MAX_WAITING_BYTES
        ):
            self.waiting.append(bytes(buffer[start:end]))
            self.waiting_bytes += size

    def rest(self) -> None:
        self.is_resting = True
        self.waiting.clear()

    def begin(self, conversation: Conversation) -> None:
        self.conversation = conversation
        for datagram in self.waiting:
            room = memoryview(bytearray(ROOM_BYTES + len(datagram)))
            room[ROOM_BYTES:] = datagram
            conversation.send(room, ROOM_BYTES, ROOM_BYTES + len(datagram))
        self.waiting.clear()

    def deliver(self, datagram: bytes) -> bool:
        return self.socket.send(datagram, self.peer)


class UdpForwarder:
    """One local UDP port: each peer that sends to it gets a connection of its own.

    A connection ends when no datagram has come either way for `datagram_idle_seconds`, or when the
    other end finishes. The next datagram opens another.

    Args:
        forward: Where to listen, and where it leads.
        settings: What all ports of the process have in common.
        max_connections: Connections that the process has room for; at most `MAX_PEERS` are used.
        outside: The relay.
    """

    protocol: Literal["tcp", "udp", "unix"] = "udp"

    def __init__(
        self,
        forward: Forward,
        settings: ClientSettings,
        *,
        max_connections: int,
        outside: Outside,
    ) -> None:
        self._forward = forward
        self._outside = outside
        self.settings = settings
        self._max_peers = min(MAX_PEERS, max_connections)
        self._sockets: list[socket.socket] = []
        self._routes: dict[tuple[int, Peer], _Route] = {}
        self._labels: dict[str, object] = {
            "hybrid_connection": forward.name,
            "namespace": forward.namespace,
        }
        self._port_name = forward.port_name
        self._quiet_until = 0.0
        self._is_stopping = False
        self._all_ended = asyncio.Event()
        self._ending = Ending()
        self.address: tuple[str, int] | None = None
        """Local host and port, once it is open."""
        self.target = forward.target
        """Host and port behind the agent, once they are known."""
        self.open_connections = 0
        """Those that are being opened or closed, too."""

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
        self._settings = settings
        self._sender: Connecting = self._outside.open_sender(self._forward, settings)

    def open(self, listen: LocalAddress | UnixAddress) -> LocalAddress:
        """Open the local port.

        Returns:
            The local host and port.

        Raises:
            AddressUnusable: The port is in use, or the address cannot be used.
            InvalidSetting: The host has no address.
        """
        if isinstance(listen, UnixAddress):
            raise AssertionError("udp:// stands in front of a host and a port")
        flag = self._forward.listen_setting
        self._sockets = open_sockets(*listen, flag=flag, kind=socket.SOCK_DGRAM)
        self.address = bound_address(self._sockets[0])
        return self.address

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve the port until ``stopping``, then until the last conversation has ended."""
        async with asyncio.TaskGroup() as tasks:
            receiving = [
                tasks.create_task(
                    each.receive(partial(self._take, tasks, index, each)), name=f"{self.name} udp"
                )
                for index, each in enumerate(map(UdpSocket, self._sockets))
            ]
            await stopping.wait()
            self._is_stopping = True
            while self.open_connections:
                self._all_ended.clear()
                await self._all_ended.wait()
            for task in receiving:
                task.cancel()

    def stop_listening(self) -> None:
        """Take no new peers. Conversations need the port on, until they fall silent."""
        self._is_stopping = True

    def stop_dialling(self) -> None:
        """Give up what the relay has not joined; conversations end when they fall silent."""
        self._ending.begin()

    def close(self) -> None:
        """Give the port back."""
        for sock in self._sockets:
            sock.close()

    # --- datagrams of local peers -------------------------------------------------------------

    def _take(
        self,
        tasks: asyncio.TaskGroup,
        index: int,
        sock: UdpSocket,
        buffer: memoryview,
        start: int,
        end: int,
        peer: Peer,
    ) -> None:
        key = (index, peer)
        route = self._routes.get(key)
        if route is None or route.is_over:
            if self._is_stopping:
                return
            if self.open_connections >= self._max_peers:
                self._warn_full()
                return
            self._routes[key] = route = _Route(sock, peer)
            self.open_connections += 1
            serving = tasks.create_task(self._serve(route), name=f"{self.name} datagrams")
            serving.add_done_callback(partial(self._ended, key, route))
        route.take(buffer, start, end)

    def _ended(self, key: tuple[int, Peer], route: _Route, task: asyncio.Task[None]) -> None:
        if self._routes.get(key) is route:
            del self._routes[key]
        self.open_connections -= 1
        if not self.open_connections:
            self._all_ended.set()

    def _warn_full(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            self._quiet_until = now + WARN_SECONDS
            logger.warning(
                "%d peers have a connection: datagrams of further ones are lost",
                self._max_peers,
                extra={"event": "no_room", **self._labels},
            )

    # --- one peer -----------------------------------------------------------------------------

    async def _serve(self, route: _Route) -> None:
        """Lead one peer's datagrams through the relay. Its errors end here."""
        connection_id = str(uuid.uuid4())
        peer = format_host_port(str(route.peer[0]), route.peer[1])
        labels = {**self._labels, "id": connection_id, "peer": peer}
        try:
            stream = await self._dial(connection_id)
            conversation = Conversation(
                stream,
                route.deliver,
                idle_seconds=self._settings.datagram_idle_seconds,
                ends_with_stream=True,
            )
            route.begin(conversation)
            await carry_datagrams(conversation, self._ending, is_towards_target=True, labels=labels)
        except Stopping as error:
            logger.info("%s", error, extra={"event": "connection_abandoned", **labels})
        except RelayError as error:
            log_refusal(error, labels)
            route.rest()
            with contextlib.suppress(Stopping):
                async with self._ending.grace():
                    await asyncio.sleep(REST_SECONDS)
        except Exception:
            logger.exception("error in a connection", extra={"event": "bug", **labels})

    async def _dial(self, connection_id: str) -> Stream:
        """Connect through the relay, and ask for the port.

        Raises:
            Stopping: The client stops.
            RelayError: The relay or the other end refused, or did not answer in time.
        """
        seconds = self._settings.timing.connect_timeout_seconds
        if self.address is None:
            raise AssertionError("datagrams come through an open port only")
        name = self._port_name or default_port_name(self.address[1], Mode.DATAGRAM)
        try:
            async with self._ending.grace(), asyncio.timeout(seconds):
                stream = await self._sender.connect(connection_id=connection_id)
                return await ask_for_port(stream, name, Mode.DATAGRAM)
        except TimeoutError:
            raise Unreachable(
                f"no answer within {seconds:g} s",
                hint="check the relay, and that the other end speaks azbridge",
            ) from None
