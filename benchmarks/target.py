"""The far end of the load generator: a TCP server in a process of its own.

Echoes of small messages are answered by one loop, without a thread per connection, so that
thousands of idle connections cost nothing; each bulk transfer gets a thread with a blocking socket,
which runs without the interpreter's lock. ``python -m benchmarks.target`` prints its port.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator

from benchmarks.wire import (
    COUNT,
    DONE,
    ORDER_BYTES,
    PATTERN,
    READ_BYTES,
    WRONG,
    Kind,
    Order,
    PatternCheck,
)
from hybridge.program.limits import raise_descriptor_limit

ECHO_BYTES = 65_536
"""Most bytes that are echoed in one go."""

COUNT_SECONDS = 5.0
"""How long a count is waited for that somebody asks for."""


def serve(listener: socket.socket) -> None:
    """Serve for ever."""
    listener.setblocking(False)
    loop = select.epoll()
    loop.register(listener.fileno(), select.EPOLLIN)
    conversations: dict[int, Conversation] = {}
    counts = Counts()
    while True:
        for descriptor, _ in loop.poll():
            if descriptor == listener.fileno():
                for sock in _accepted(listener):
                    conversations[sock.fileno()] = Conversation(sock, counts)
                    loop.register(sock.fileno(), select.EPOLLIN)
            elif not conversations[descriptor].readable():
                loop.unregister(descriptor)
                conversations.pop(descriptor).leave()


def _accepted(listener: socket.socket) -> Iterator[socket.socket]:
    with contextlib.suppress(OSError):
        while True:
            sock, _ = listener.accept()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield sock


class Counts:
    """How many bytes came after the target had ended its side, by the number of the order."""

    def __init__(self) -> None:
        self._bytes: dict[int, int] = {}
        self._changed = threading.Condition()

    def set(self, number: int, size: int) -> None:
        """Tell what came in all."""
        with self._changed:
            self._bytes[number] = size
            self._changed.notify_all()

    def take(self, number: int) -> int:
        """Wait a little for a count, and forget it; 0 where none comes."""
        with self._changed:
            self._changed.wait_for(lambda: number in self._bytes, timeout=COUNT_SECONDS)
            return self._bytes.pop(number, 0)


class Conversation:
    """One connection, from its order to its end."""

    def __init__(self, sock: socket.socket, counts: Counts) -> None:
        self._sock = sock
        self._counts = counts
        self._order = b""
        self._given: Order | None = None

    def readable(self) -> bool:
        """Read what there is: the order, then bytes to echo; tell if the loop is to go on."""
        try:
            if self._given is not None:
                return _echo(self._sock)
            data = self._sock.recv(ORDER_BYTES - len(self._order))
            self._order += data
            if len(self._order) == ORDER_BYTES:
                self._given = Order.parse(self._order)
                return self._given.kind is Kind.ECHO
        except BlockingIOError:
            return True
        except (OSError, ValueError):
            return False
        return bool(data)

    def leave(self) -> None:
        """The loop is done with it: a thread goes on with the socket, or it is closed."""
        given = self._given
        if given is None or given.kind is Kind.ECHO:
            self._sock.close()
            return
        arguments = (self._sock, given, self._counts)
        threading.Thread(target=_transfer, args=arguments, daemon=True).start()


_echoed = memoryview(bytearray(ECHO_BYTES))


def _echo(sock: socket.socket) -> bool:
    count = sock.recv_into(_echoed)
    _send(sock, _echoed[:count])
    return count > 0


def _send(sock: socket.socket, view: memoryview) -> None:
    while view:
        try:
            view = view[sock.send(view) :]
        except BlockingIOError:
            select.select([], [sock], [])


def _transfer(sock: socket.socket, order: Order, counts: Counts) -> None:
    with sock, contextlib.suppress(OSError):
        sock.setblocking(True)
        if order.pause_ms:
            time.sleep(order.pause_ms / 1_000)
        match order.kind:
            case Kind.DOWN:
                send_pattern(sock, order.size)
                sock.shutdown(socket.SHUT_WR)
                sock.recv(1)
            case Kind.AFTER_END:
                count_to_end(sock)
                send_pattern(sock, order.size)
            case Kind.ENDS_FIRST:
                sock.sendall(DONE)
                sock.shutdown(socket.SHUT_WR)
                counts.set(order.size, count_to_end(sock))
            case Kind.COUNTED:
                sock.sendall(COUNT.pack(counts.take(order.size)))
            case _:
                check = PatternCheck() if order.kind is Kind.CHECK else None
                complete = receive(sock, order.size, check)
                right = complete and (check is None or check.is_right)
                sock.sendall(DONE if right else WRONG)


def count_to_end(sock: socket.socket) -> int:
    """Read a blocking socket to the end of its stream; give how many bytes came."""
    total = 0
    buffer = bytearray(READ_BYTES)
    while count := sock.recv_into(buffer):
        total += count
    return total


def send_pattern(sock: socket.socket, size: int) -> None:
    """Send ``size`` bytes of the pattern on a blocking socket."""
    view = memoryview(PATTERN)
    while size > 0:
        sock.sendall(view[: min(size, len(view))])
        size -= len(view)


def receive(sock: socket.socket, size: int, check: PatternCheck | None = None) -> bool:
    """Read ``size`` bytes from a blocking socket, and tell whether they all came."""
    buffer = memoryview(bytearray(READ_BYTES))
    while size > 0:
        count = sock.recv_into(buffer, min(size, READ_BYTES))
        if not count:
            return False
        if check is not None:
            check.feed(buffer[:count])
        size -= count
    return True


def main() -> None:
    """Listen on a free port of the loopback, and say which."""
    raise_descriptor_limit(descriptors_per_connection=1)
    listener = socket.create_server(("127.0.0.1", 0), backlog=4_096)
    print(f"port {listener.getsockname()[1]}", flush=True)
    serve(listener)


if __name__ == "__main__":
    main()
