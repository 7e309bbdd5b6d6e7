"""Ask a namespace about a hybrid connection: the runtime-information GET (section 9.1)."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import h11

from hybridge.protocol.address import authority
from hybridge.protocol.connection_string import ConnectionString, parse, token_for
from hybridge.protocol.errors import (
    AuthorizationFailed,
    EndpointNotFound,
    HandshakeRefused,
    MalformedConnectionString,
    MalformedMessage,
    Unreachable,
)
from hybridge.protocol.proxies import Proxy
from hybridge.protocol.redaction import one_line
from hybridge.protocol.refusals import authorization_hint
from hybridge.protocol.token_questions import API_VERSION
from hybridge.protocol.user_metadata import parse_target
from hybridge.transport.dialer import Dialer
from hybridge.transport.http_exchange import Head, exchange
from hybridge.transport.timing import Timing

TOKEN_LIFETIME_SECONDS = 600

_ATOM = "{http://www.w3.org/2005/Atom}"
_CONNECT = "{http://schemas.microsoft.com/netservices/2010/10/servicebus/connect}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeInformation:
    """What a namespace says of a hybrid connection."""

    created_at: str
    """UTC, as the relay writes it."""

    updated_at: str
    """UTC, as the relay writes it."""

    requires_client_authorization: bool
    """Whether senders need a token."""

    user_metadata: str
    """Free text; the Hybrid Connection Manager keeps the target in it."""

    listener_count: int
    """Listeners that are online, 0 to 25."""

    @property
    def target(self) -> tuple[str, int] | None:
        """The target host and port that the metadata names, or None."""
        return parse_target(self.user_metadata)


async def runtime_information(
    connection_string: ConnectionString | str,
    *,
    ca: Path | None = None,
    connect_to: tuple[str, int] | None = None,
    proxy: Proxy | str | None = None,
    timing: Timing | None = None,
) -> RuntimeInformation:
    """Ask for a hybrid connection's runtime information.

    ``connection_string`` is that of a rule with Manage; Hybridge takes any valid key. ``ca``,
    ``connect_to``, ``proxy`` and ``timing`` are as for `hybridge.Listener`.

    Raises:
        AuthorizationFailed: 401, with the relay's reason.
        EndpointNotFound: 404, 204, or a feed instead of an entry: it does not exist.
        HandshakeRefused: Another status.
        MalformedConnectionString: The text is none, or has no path or no key.
        InvalidSetting: The CA file, or the address of a proxy, cannot be used.
        MalformedMessage: The answer is no Atom entry of a hybrid connection.
        ProxyFailed: The proxy on the way opened no tunnel.
        Unreachable: The namespace cannot be reached, or did not answer in time.
    """
    target = parse(connection_string) if isinstance(connection_string, str) else connection_string
    token = token_for(target, expires_at=int(time.time()) + TOKEN_LIFETIME_SECONDS)
    if not target.path or token is None:
        raise MalformedConnectionString(
            "a hybrid connection and a key are needed to ask about it",
            hint="use a connection string with SharedAccessKeyName, SharedAccessKey and EntityPath",
        )
    request = h11.Request(
        method="GET",
        target=f"/{quote(target.path)}?api-version={API_VERSION}",
        headers=[
            ("Host", authority(target.host, target.port)),
            ("X-PROCESS-AT", "ServiceBus"),
            ("Authorization", token),
            ("Connection", "close"),
        ],
    )
    timing = timing or Timing()
    dialer = Dialer(target.host, ca=ca, connect_to=connect_to, proxy=proxy, timing=timing)
    try:
        async with asyncio.timeout(timing.open_timeout_seconds):
            wire = await dialer.dial(target.host, target.port)
            try:
                response, body = await exchange(wire, request)
            finally:
                wire.abort()
    except TimeoutError as error:
        raise Unreachable(f"the relay {target.host} did not answer in time") from error
    return _read(response, body)


def _read(response: Head, body: bytes) -> RuntimeInformation:
    reason = bytes(response.reason).decode(errors="replace")
    status = response.status_code
    if status == 401:
        raise AuthorizationFailed(one_line(f"401 {reason}"), hint=authorization_hint(reason))
    if status in (404, 204):
        raise EndpointNotFound(
            one_line(f"{status} {reason}"), hint="check the name of the hybrid connection"
        )
    if status != 200:
        raise HandshakeRefused(status, reason)
    try:
        # Expat bounds what entities may grow to, and the body is bounded above.
        entry = ElementTree.fromstring(body)  # noqa: S314
    except ElementTree.ParseError as error:
        raise MalformedMessage(f"the runtime information is not XML: {error}") from error
    if entry.tag != f"{_ATOM}entry":
        raise EndpointNotFound(
            "the hybrid connection does not exist", hint="check the name of the hybrid connection"
        )
    description = entry.find(f"{_ATOM}content/{_CONNECT}HybridConnectionDescription")
    if description is None:
        raise MalformedMessage("the runtime information describes no hybrid connection")

    def text(name: str) -> str:
        return description.findtext(f"{_CONNECT}{name}") or ""

    count = text("ListenerCount")
    return RuntimeInformation(
        created_at=text("CreatedAt"),
        updated_at=text("UpdatedAt"),
        requires_client_authorization=text("RequiresClientAuthorization").lower() != "false",
        user_metadata=text("UserMetadata"),
        listener_count=int(count) if count.isascii() and count.isdigit() else 0,
    )
