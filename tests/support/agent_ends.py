"""What an agent and a client see of the world, scripted: listeners, waiting senders, TCP pairs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

from hybridge.protocol.errors import RelayError, Unreachable
from hybridge.protocol.messages import RemoteEndpoint
from hybridge.request_intake import RequestHandler
from hybridge.transport.listening import open_sockets
from hybridge.transport.stream import Stream
from hybridge.transport.tcp import TcpStream

KEY = "dGhpcyBpcyBhIHNlY3JldCBrZXkgb2YgMzIgYnl0ZXM="
"""A key that must never be seen in a log, an error or a repr."""


def connection_string(name: str, *, host: str = "ns1.example.test", rule: str = "rule") -> str:
    """A connection string with `KEY`."""
    return (
        f"Endpoint=sb://{host}/;SharedAccessKeyName={rule};SharedAccessKey={KEY};EntityPath={name}"
    )


def sockets_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one real TCP connection over loopback: a reset can be seen."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


def tcp_pair() -> tuple[TcpStream, TcpStream]:
    """Two streams at the ends of one real TCP connection."""
    near, far = sockets_pair()
    return TcpStream(near), TcpStream(far)


async def receive_all(stream: Stream) -> bytes:
    """Everything up to the orderly end."""
    received = bytearray()
    while data := await stream.receive():
        received += data
    return bytes(received)


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


class Target:
    """A TCP service on loopback: hands out what connects to it."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._sockets = open_sockets(host, 0, flag="--port")
        self.port: int = self._sockets[0].getsockname()[1]
        self.accepted = 0

    async def accept(self) -> TcpStream:
        """The next connection."""
        sock, _ = await asyncio.get_running_loop().sock_accept(self._sockets[0])
        self.accepted += 1
        return TcpStream(sock)

    def has_visitor(self) -> bool:
        """Whether somebody has connected and was not accepted yet."""
        try:
            sock, _ = self._sockets[0].accept()
        except BlockingIOError:
            return False
        sock.close()
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for sock in self._sockets:
            sock.close()


class ScriptedSender:
    """A sender that waits at a rendezvous, as the agent sees it."""

    def __init__(self, connection_id: str = "11111111-2222-3333-4444-555555555555_G1") -> None:
        self.id = connection_id
        self.remote_endpoint: RemoteEndpoint | None = RemoteEndpoint(address="192.0.2.7", port=5151)
        self.prepare_error: RelayError | None = None
        self.accept_error: RelayError | None = None
        self.reject_error: RelayError | None = None
        self.may_prepare = asyncio.Event()
        self.may_prepare.set()
        self.prepared = asyncio.Event()
        self.rejected: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self.accepted: asyncio.Future[TcpStream] = asyncio.get_running_loop().create_future()
        self.abandoned = asyncio.Event()
        self.decided = asyncio.Event()

    async def prepare(self) -> None:
        await self.may_prepare.wait()
        self.prepared.set()
        if self.prepare_error is not None:
            raise self.prepare_error

    async def accept(self) -> TcpStream:
        if self.accept_error is not None:
            raise self.accept_error
        agent_end, sender_end = tcp_pair()
        self.accepted.set_result(sender_end)
        self.decided.set()
        return agent_end

    async def reject(self, status: int, description: str) -> None:
        self.rejected.set_result((status, description))
        self.decided.set()
        if self.reject_error is not None:
            raise self.reject_error

    def abandon(self) -> None:
        self.abandoned.set()


class ScriptedListener:
    """A listener whose control channel does what the test says."""

    def __init__(self) -> None:
        self.is_online = False
        self.last_error: RelayError | None = None
        self.on_change: Callable[[], None] | None = None
        self.request_handler: RequestHandler | None = None
        self.entered = asyncio.Event()
        self.stopped = asyncio.Event()
        self.retried = asyncio.Event()
        self.closed = asyncio.Event()
        self._senders: asyncio.Queue[ScriptedSender | Exception | None] = asyncio.Queue()

    def offer(self, sender: ScriptedSender) -> ScriptedSender:
        """Let a sender wait."""
        self._senders.put_nowait(sender)
        return sender

    def fail(self, bug: Exception) -> None:
        """Let the iteration raise, as only a bug can."""
        self._senders.put_nowait(bug)

    def go_online(self) -> None:
        self._change(online=True, error=None)

    def go_offline(self, error: RelayError | None = None) -> None:
        self._change(online=False, error=error or Unreachable("the relay cannot be reached"))

    def _change(self, *, online: bool, error: RelayError | None) -> None:
        self.is_online = online
        self.last_error = error
        assert self.on_change is not None
        self.on_change()

    def retry(self) -> None:
        self.retried.set()

    async def stop_accepting(self) -> None:
        self.stopped.set()
        self._senders.put_nowait(None)

    async def wait_closed(self) -> None:
        await self.stopped.wait()

    def __aiter__(self) -> AsyncIterator[ScriptedSender]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[ScriptedSender]:
        while (sender := await self._senders.get()) is not None:
            if isinstance(sender, Exception):
                raise sender
            yield sender

    async def __aenter__(self) -> Self:
        self.entered.set()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closed.set()
