"""The dialling side's WebSocket handshake, on a stream of our own.

It is the `websockets` library's; only a refusal is read here. Section 5 of the specification.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from hybridge.protocol.errors import HandshakeRefused, Unreachable
from hybridge.protocol.redaction import one_line
from hybridge.transport.http_head import HeadReader
from hybridge.transport.stream import Wire

MAX_RESPONSE_HEAD_BYTES = 32_768
"""Longest head of a handshake response."""

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: ([^\r\n]*))?\r\n")


async def shake_hands(
    wire: Wire,
    url: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    subprotocols: Sequence[str] = (),
) -> tuple[bytes, str | None]:
    """Do the dialling side's handshake, whatever speaks on the WebSocket afterwards.

    Returns:
        What came behind the handshake's answer already, and the sub-protocol that was agreed on.

    Raises:
        HandshakeRefused: The relay answered another status than 101; it carries status and reason.
        Unreachable: What came was no HTTP, or the connection ended.
    """
    offered = [Subprotocol(name) for name in subprotocols] or None
    protocol = ClientProtocol(parse_uri(url), subprotocols=offered)
    request = protocol.connect()
    for name, value in headers:
        request.headers[name] = value
    protocol.send_request(request)
    for chunk in protocol.data_to_send():
        wire.send_now(chunk)
    reader = HeadReader(wire, max_bytes=MAX_RESPONSE_HEAD_BYTES)
    head = await reader.read()
    if head is None:
        wire.abort()
        raise Unreachable(
            "the relay closed the connection during the WebSocket handshake",
            hint="check that this address is a relay's, and what its log says",
        )
    refusal = _refusal(head)
    if refusal is not None:
        wire.abort()
        raise refusal
    protocol.receive_data(head)
    _check(wire, protocol)
    return reader.rest, protocol.subprotocol


def _refusal(head: bytes) -> HandshakeRefused | None:
    """Read a status other than 101; None where it is that, or no HTTP.

    Not by the library: it knows no status above 599, and a listener may reject with 999 (section
    5.3). A body says nothing that the reason does not, so it is not waited for.
    """
    found = _STATUS_LINE.match(head)
    if found is None or found[1] == b"101":
        return None
    return HandshakeRefused(int(found[1]), _text(found[2] or b""))


def _check(wire: Wire, protocol: ClientProtocol) -> None:
    if protocol.handshake_exc is not None:
        wire.abort()
        if isinstance(protocol.handshake_exc, InvalidHandshake):
            problem = one_line(str(protocol.handshake_exc))
        else:
            problem = "what came is no HTTP response"
        raise Unreachable(
            f"the WebSocket handshake failed: {problem}",
            hint="check that this address is a relay's, and that no proxy is in the way",
        ) from protocol.handshake_exc


def _text(phrase: bytes) -> str:
    """Read a reason phrase as UTF-8 where it is that, else as Latin-1; nothing that steers."""
    try:
        text = phrase.decode()
    except UnicodeError:
        text = phrase.decode("latin-1")
    return "".join(each if each.isprintable() else " " for each in text).strip()
