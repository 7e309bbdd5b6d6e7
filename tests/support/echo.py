"""A target in threads of its own that sends back what it gets: for tests that block."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Iterator

POLL_SECONDS = 0.01
"""How often the server looks whether it shall end."""


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := self.request.recv(65_536):
                self.request.sendall(data)


@contextlib.contextmanager
def echo_target() -> Iterator[tuple[str, int]]:
    """Give host and port of a target that runs for the length of the block."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,))
        thread.start()
        try:
            yield ("127.0.0.1", server.server_address[1])
        finally:
            server.shutdown()
            thread.join()
