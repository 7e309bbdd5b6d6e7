"""Ask a SOCKS5 proxy for a way to a relay."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from python_socks import ProxyError, ProxyType
from python_socks.async_.asyncio import Proxy as SocksProxy

from hybridge.protocol.errors import ProxyFailed
from hybridge.protocol.proxies import (
    Proxy,
    broke_off,
    credentials_refused,
    garbled,
    socks_refusal,
)
from hybridge.transport.sockets import describe

_NO_DEADLINE = 86_400.0
"""Seconds: the caller's own deadline is the sooner one."""

# What the library says, and has no code for.
_LOGIN_WANTED = ("No acceptable authentication methods", "Unexpected SOCKS authentication method")
_LOGIN_REFUSED = ("Username and password authentication failure",)


class _Dialled(SocksProxy):
    """Stands for the way to the proxy: the library is given a socket that we have dialled."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(ProxyType.SOCKS5, "", 0, loop=asyncio.get_running_loop())
        self._sock = sock

    async def connect(self, *_: Any, **__: Any) -> socket.socket:
        return self._sock


async def connect_socks(sock: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Ask a SOCKS5 proxy for a connection to ``host:port``. A deadline is the caller's.

    Args:
        sock: Connected to the proxy, non-blocking. Not a byte behind the answer is read.
        proxy: Who is asked.
        host: A name, which the proxy resolves, or an IP address.
        port: Its port.

    Raises:
        ProxyCredentialsRefused: It wants a user name and a password, or others.
        ProxyRefused: It does not lead there, or cannot.
        ProxyGarbled: What answered is no such proxy, or broke off.
    """
    login = proxy.credentials
    socks = SocksProxy(
        ProxyType.SOCKS5,
        proxy.host,
        proxy.port,
        username=None if login is None else login.user.reveal(),
        password=None if login is None else login.password.reveal(),
        rdns=True,
        forward=_Dialled(sock),
        loop=asyncio.get_running_loop(),
    )
    try:
        await socks.connect(host, port, timeout=_NO_DEADLINE)
    except ProxyError as error:
        raise _socks_failure(error, proxy, host, port) from error
    except OSError as error:
        raise broke_off(proxy, describe(error)) from error
    except UnicodeError as error:
        raise ProxyFailed(
            f"the proxy {proxy} cannot be asked for {host!r}: no name may be so",
            hint="check the name of the namespace",
        ) from error


def _socks_failure(error: ProxyError, proxy: Proxy, host: str, port: int) -> ProxyFailed:
    text = str(error)
    if error.error_code is not None:
        return socks_refusal(proxy, host, port, code=int(error.error_code), text=text)
    if text.startswith(_LOGIN_WANTED + _LOGIN_REFUSED):
        return credentials_refused(proxy, f"{text[:1].lower()}{text[1:]}")
    if "closed" in text:
        return broke_off(proxy, "it closed the connection")
    return garbled(proxy, f"{text[:1].lower()}{text[1:]}")
