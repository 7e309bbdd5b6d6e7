"""Reach a relay through an HTTP or SOCKS5 proxy: a tunnel as a connected socket."""

from __future__ import annotations

import asyncio
import re
import socket

import h11

from hybridge.protocol.errors import ProxyUnreachable, Unreachable
from hybridge.protocol.proxies import (
    Proxy,
    ProxyScheme,
    broke_off,
    garbled,
    http_refusal,
)
from hybridge.transport.readiness import wait_readable
from hybridge.transport.sockets import describe, show_address
from hybridge.transport.tcp import dial_socket

MAX_HEAD_BYTES = 16_384
"""Longest head of a proxy's answer."""

_END_OF_HEAD = re.compile(rb"\n\r?\n")
_HTTP = b"HTTP/1."


async def open_tunnel(proxy: Proxy, host: str, port: int, *, seconds: float) -> socket.socket:
    """Ask a proxy for a connection to ``host:port``; the proxy resolves the name.

    Args:
        proxy: Whom to ask.
        host: A name or an IP address.
        port: Its port.
        seconds: How long the whole may take.

    Returns:
        A connected, non-blocking socket. All that comes through the tunnel is still in it, also
        what the proxy sent together with its answer.

    Raises:
        ProxyUnreachable: The proxy cannot be reached, or did not answer in time.
        ProxyCredentialsRefused: It wants a user name and a password, or others.
        ProxyRefused: It does not lead there, or cannot.
        ProxyGarbled: What answered is no such proxy, or broke off.
    """
    try:
        async with asyncio.timeout(seconds):
            sock = await _dial(proxy)
            try:
                if proxy.scheme is ProxyScheme.HTTP:
                    await _connect_http(sock, proxy, host, port)
                else:
                    # Its library takes its time to import.
                    from hybridge.transport.socks import connect_socks

                    await connect_socks(sock, proxy, host, port)
            except BaseException:
                sock.close()
                raise
            return sock
    except TimeoutError:
        raise ProxyUnreachable(
            f"the proxy {proxy} did not answer within {seconds:g} s",
            hint=f"check scheme, host and port in {proxy.setting}, and the firewalls on the way",
        ) from None


async def _dial(proxy: Proxy) -> socket.socket:
    try:
        return await dial_socket(proxy.host, proxy.port)
    except Unreachable as error:
        raise ProxyUnreachable(
            f"the proxy {proxy} cannot be reached: {error}",
            hint=f"check that {proxy.setting} names a proxy that is running",
        ) from error


# --- HTTP ----------------------------------------------------------------------------------------


async def _connect_http(sock: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    to = show_address(host, port)
    headers = [("Host", to), ("User-Agent", "hybridge")]
    if proxy.credentials is not None:
        headers.append(("Proxy-Authorization", f"Basic {proxy.credentials.basic()}"))
    request = h11.Request(method="CONNECT", target=to, headers=headers)
    head = (http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b"")
    try:
        await asyncio.get_running_loop().sock_sendall(sock, head)
        while True:
            http.receive_data(await _read_head(sock, proxy))
            event = http.next_event()
            if isinstance(event, h11.Response):
                break
            if not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
                raise garbled(proxy, "it answered with no head of a response")
    except h11.RemoteProtocolError as error:
        raise garbled(proxy, str(error)) from error
    except OSError as error:
        raise broke_off(proxy, describe(error)) from error
    if not 200 <= event.status_code < 300:
        raise http_refusal(
            proxy,
            host,
            port,
            status=event.status_code,
            reason=bytes(event.reason).decode("latin-1"),
            offered=tuple(
                value.decode("latin-1").partition(" ")[0].rstrip(",")
                for name, value in event.headers
                if name == b"proxy-authenticate"
            ),
        )


async def _read_head(sock: socket.socket, proxy: Proxy) -> bytes:
    """Read one head, and not a byte behind it: what follows belongs to the tunnel."""
    head = bytearray()
    while True:
        await wait_readable(sock.fileno())
        try:
            seen = sock.recv(MAX_HEAD_BYTES - len(head), socket.MSG_PEEK)
        except BlockingIOError:
            continue
        if not seen:
            raise broke_off(proxy, "it closed the connection")
        begin = len(head)
        head += seen
        end = _END_OF_HEAD.search(head, max(0, begin - 2))
        if end is not None:
            del head[end.end() :]
        sock.recv(len(head) - begin)
        if not _HTTP.startswith(head[: len(_HTTP)]):
            raise garbled(proxy, "its answer does not begin with HTTP/1")
        if end is not None:
            return bytes(head)
        if len(head) >= MAX_HEAD_BYTES:
            raise garbled(proxy, f"the head of its answer is longer than {MAX_HEAD_BYTES} bytes")
