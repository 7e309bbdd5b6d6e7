"""The far end of the load generator: a TCP server in a process of its own.

Echoes of small messages are answered by one loop, without a thread per connection, so that
thousands of idle connections cost nothing; each bulk transfer gets a thread with a blocking socket,
which runs without the interpreter's lock. ``python -m benchmarks.target`` prints its port.
"""

from __future__ import annotations

import contextlib
import select
import selectors
import socket
import threading
import time

from benchmarks.wire import (
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


def serve(listener: socket.socket) -> None:
    """Serve for ever."""
    listener.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ, None)
    while True:
        for key, _ in selector.select():
            if key.data is None:
                _accept(listener, selector)
                continue
            conversation: Conversation = key.data
            with contextlib.suppress(BlockingIOError):
                conversation.readable(selector)


def _accept(listener: socket.socket, selector: selectors.BaseSelector) -> None:
    with contextlib.suppress(OSError):
        while True:
            sock, _ = listener.accept()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(sock, selectors.EVENT_READ, Conversation(sock))


class Conversation:
    """One connection, from its order to its end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._order = b""
        self._echoes = False

    def readable(self, selector: selectors.BaseSelector) -> None:
        """Read what there is: the order, then bytes to echo."""
        try:
            if not self._echoes:
                data = self._sock.recv(ORDER_BYTES - len(self._order))
                self._order += data
                if len(self._order) == ORDER_BYTES:
                    self._begin(Order.parse(self._order), selector)
            else:
                data = self._sock.recv(ECHO_BYTES)
                _send(self._sock, data)
        except BlockingIOError:
            raise
        except (OSError, ValueError):
            data = b""
        if not data:
            selector.unregister(self._sock)
            self._sock.close()

    def _begin(self, order: Order, selector: selectors.BaseSelector) -> None:
        if order.kind is Kind.ECHO:
            self._echoes = True
            return
        selector.unregister(self._sock)
        # From here on the socket is the thread's, which closes it.
        threading.Thread(target=_transfer, args=(self._sock, order), daemon=True).start()


def _send(sock: socket.socket, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[sock.send(view) :]
        except BlockingIOError:
            select.select([], [sock], [])


def _transfer(sock: socket.socket, order: Order) -> None:
    with sock, contextlib.suppress(OSError):
        sock.setblocking(True)
        if order.pause_ms:
            time.sleep(order.pause_ms / 1_000)
        if order.kind is Kind.DOWN:
            send_pattern(sock, order.size)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(1)
        else:
            check = PatternCheck() if order.kind is Kind.CHECK else None
            complete = receive(sock, order.size, check)
            right = complete and (check is None or check.is_right)
            sock.sendall(DONE if right else WRONG)


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
