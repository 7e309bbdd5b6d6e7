"""`connect`: one byte stream through a hybrid connection."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from types import TracebackType

from hybridge.protocol import address
from hybridge.protocol.connection_string import ConnectionString, parse, token_for
from hybridge.protocol.errors import Unreachable
from hybridge.protocol.proxies import Proxy
from hybridge.transport.dialer import Dialer
from hybridge.transport.timing import Timing
from hybridge.transport.websocket import WebSocketStream, open_websocket

TOKEN_LIFETIME_SECONDS = 3600
"""How long a sender's token is good; it matters only while the connection is made."""


class Sender:
    """Opens connections through one hybrid connection; TLS sessions are resumed between them.

    Args:
        connection_string: From a rule with Send; without a key where senders need none.
        ca: PEM file of further trusted authorities.
        connect_to: TCP address to dial instead of the namespace's.
        proxy: The proxy on the way: ``http://[USER:PASSWORD@]HOST:PORT``, ``socks5://...``, or
            ``"none"``. None: as the environment says (``HTTPS_PROXY``, ``ALL_PROXY``,
            ``NO_PROXY``); a loopback address is then dialled directly.
        timing: Waits, in seconds.

    Raises:
        MalformedConnectionString: The text is none, or names no hybrid connection.
        InvalidSetting: The CA file, or the address of a proxy, cannot be used.
    """

    def __init__(
        self,
        connection_string: ConnectionString | str,
        *,
        ca: Path | None = None,
        connect_to: tuple[str, int] | None = None,
        proxy: Proxy | str | None = None,
        timing: Timing | None = None,
    ) -> None:
        if isinstance(connection_string, str):
            connection_string = parse(connection_string)
        self.address = connection_string
        self._path = connection_string.required_path()
        self._timing = timing or Timing()
        self._dialer = Dialer(
            self.address.host, ca=ca, connect_to=connect_to, proxy=proxy, timing=self._timing
        )

    async def connect(
        self,
        *,
        connection_id: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        subprotocols: Sequence[str] = (),
        suffix: str = "",
        query: str = "",
    ) -> WebSocketStream:
        """Open one connection, and wait until a listener has accepted it.

        Args:
            connection_id: A GUID that names the connection in everybody's logs; made if not given.
            headers: Further HTTP headers, which the listener sees.
            subprotocols: WebSocket sub-protocols to offer, best first.
            suffix: What follows the hybrid connection in the address, percent-encoded.
            query: The listener's own query, without ``?``.

        Returns:
            A stream; its `subprotocol` is the listener's choice, or None.

        Raises:
            HandshakeRefused: The relay or the listener refused; with status and reason.
            UntrustedCertificate: The relay's certificate is not trusted.
            ProxyFailed: The proxy on the way opened no tunnel.
            Unreachable: The relay cannot be reached, or did not answer in time.
        """
        target = self.address
        url = address.connect_url(
            target.host,
            target.port,
            self._path,
            connection_id=connection_id or str(uuid.uuid4()),
            suffix=suffix,
            query=query,
        )
        token = token_for(target, expires_at=int(time.time()) + TOKEN_LIFETIME_SECONDS)
        all_headers = [*headers]
        if token is not None:
            all_headers.append(("ServiceBusAuthorization", token))
        try:
            async with asyncio.timeout(self._timing.connect_timeout_seconds):
                async with asyncio.timeout(self._timing.open_timeout_seconds):
                    wire = await self._dialer.dial(target.host, target.port)
                try:
                    return await open_websocket(
                        wire,
                        url,
                        headers=all_headers,
                        subprotocols=subprotocols,
                        timing=self._timing,
                    )
                except BaseException:
                    wire.abort()
                    raise
        except TimeoutError as error:
            raise Unreachable(
                f"the relay {target.host} did not answer in time",
                hint="check the route to it, and whether a proxy stands in between",
            ) from error


class connect(AbstractAsyncContextManager[WebSocketStream]):  # noqa: N801 - used as a function
    """Open one stream through a hybrid connection.

    Await it for the stream, or enter it: ``async with connect(text) as stream``. Takes what
    `Sender` and `Sender.connect` take, and raises what they raise.
    """

    def __init__(
        self,
        connection_string: ConnectionString | str,
        *,
        ca: Path | None = None,
        connect_to: tuple[str, int] | None = None,
        proxy: Proxy | str | None = None,
        timing: Timing | None = None,
        connection_id: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        subprotocols: Sequence[str] = (),
        suffix: str = "",
        query: str = "",
    ) -> None:
        sender = Sender(connection_string, ca=ca, connect_to=connect_to, proxy=proxy, timing=timing)
        self._opening = partial(
            sender.connect,
            connection_id=connection_id,
            headers=headers,
            subprotocols=subprotocols,
            suffix=suffix,
            query=query,
        )
        self._stream: WebSocketStream | None = None

    async def open(self) -> WebSocketStream:
        """Open the stream; the same as awaiting this."""
        return await self._opening()

    def __await__(self) -> Generator[object, None, WebSocketStream]:
        return self._opening().__await__()

    async def __aenter__(self) -> WebSocketStream:
        self._stream = await self._opening()
        return await self._stream.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._stream is not None:
            await self._stream.__aexit__(kind, error, trace)
