"""An HTTP sender that knows nothing of relays: the standard library's client."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from tests.interop.relay_on_443 import HOST, PORT, InteropRelay
from tests.support.raw import DEADLINE_SECONDS

_threads = ThreadPoolExecutor(max_workers=32, thread_name_prefix="http sender")
"""Not the event loop's own few: those look up names for the listener that is to answer."""


@dataclass(frozen=True)
class Response:
    """All of a response."""

    status: int
    reason: str
    headers: Mapping[str, str]
    """By name in lower case."""

    body: bytes


class HttpSender(http.client.HTTPSConnection):
    """One connection, kept alive. Use as ``with``."""

    def __init__(self, relay: InteropRelay) -> None:
        self._tls = ssl.create_default_context(cafile=str(relay.ca))
        super().__init__(HOST, PORT, context=self._tls, timeout=DEADLINE_SECONDS)

    def __enter__(self) -> HttpSender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self) -> None:
        plain = socket.create_connection(("127.0.0.1", PORT), timeout=DEADLINE_SECONDS)
        self.sock = self._tls.wrap_socket(plain, server_hostname=HOST)

    def ask(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Response:
        """Send a request and read its response; an iterable body is sent chunked."""
        chunked = body is not None and not isinstance(body, bytes)
        all_headers = dict(headers or {})
        if chunked:
            all_headers["Transfer-Encoding"] = "chunked"
        self.request(method, target, body=body, headers=all_headers, encode_chunked=chunked)
        with self.getresponse() as response:
            read = response.read()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Response(response.status, response.reason, named, read)


async def ask(
    sender: HttpSender,
    method: str,
    target: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | Iterable[bytes] | None = None,
) -> Response:
    """`HttpSender.ask`, beside what the event loop does meanwhile."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(
        _threads, partial(sender.ask, method, target, headers=headers, body=body)
    )
