"""The relay's doorstep: who comes, and TLS with them."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time

from hybridge.protocol.messages import RemoteEndpoint
from hybridge.transport.readiness import wait_readable
from hybridge.transport.stream import Wire
from hybridge.transport.tls import open_tls
from relay.responses import response
from relay.settings import RelaySettings

_logger = logging.getLogger(__name__)

_TLS_HANDSHAKE = 0x16
_RECORD_HEADER_BYTES = 5
_MAX_RECORD_BYTES = 16_384 + _RECORD_HEADER_BYTES

_PLAIN_HTTP = "This port speaks TLS: use https:// or wss://."


class Entrance:
    """Does TLS with whoever connects, a bounded number at a time.

    Args:
        settings: Waits and limits.
    """

    def __init__(self, settings: RelaySettings) -> None:
        self._settings = settings
        self._handshakes = asyncio.Semaphore(settings.max_handshakes)

    async def secured(self, sock: socket.socket, context: ssl.SSLContext) -> Wire | None:
        """Do TLS; None where the peer sends nothing, or nothing that is TLS."""
        try:
            async with asyncio.timeout(self._settings.tls_timeout_seconds):
                # Who is silent, or drips, holds no place among those that shake hands.
                first = await _first_byte(sock)
                if first != _TLS_HANDSHAKE:
                    await self._answer_plaintext(sock, first)
                    return None
                await _first_record(sock)
                async with self._handshakes:
                    return await open_tls(sock, context, is_server=True)
        except (OSError, TimeoutError) as error:
            # A port scan, a health check, a client that does not trust us: news for debugging only.
            _logger.debug("no TLS: %s", error)
            return None

    async def _answer_plaintext(self, sock: socket.socket, first: int | None) -> None:
        if first is None or not chr(first).isalpha():
            return
        body = f"{_PLAIN_HTTP}\n".encode()
        answer = response(400, _PLAIN_HTTP, [("Content-Type", "text/plain")], body, now=time.time())
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, answer)
        sock.shutdown(socket.SHUT_WR)
        # Read what was sent, so that closing does not reset the connection under our answer.
        while await loop.sock_recv(sock, 65_536):
            pass


def remote_endpoint(sock: socket.socket) -> RemoteEndpoint:
    """Say where a connection comes from."""
    try:
        name = sock.getpeername()
    except OSError:
        return RemoteEndpoint(address="0.0.0.0", port=0)  # noqa: S104 - gone already
    host = str(name[0]).split("%")[0]
    # Microsoft's Java SDK wants plain IPv4 where it is IPv4 (5.1).
    return RemoteEndpoint(address=host.removeprefix("::ffff:"), port=int(name[1]))


async def _first_byte(sock: socket.socket) -> int | None:
    """Wait until the peer has sent something; give its first byte, None where it left."""
    while True:
        try:
            data = sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            await wait_readable(sock.fileno())
        else:
            return data[0] if data else None


async def _first_record(sock: socket.socket) -> None:
    """Wait until the first TLS record is there; also return where the peer left."""
    try:
        for size in (_RECORD_HEADER_BYTES, None):
            seen = sock.recv(_RECORD_HEADER_BYTES, socket.MSG_PEEK)
            needed = size or _RECORD_HEADER_BYTES + int.from_bytes(seen[3:5], "big")
            needed = min(needed, _MAX_RECORD_BYTES)
            if len(sock.recv(needed, socket.MSG_PEEK)) < needed:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, needed)
                await wait_readable(sock.fileno())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    except OSError as error:
        _logger.debug("the first record was not waited for: %s", error)
