"""HTTP responses that the relay itself writes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.utils import formatdate

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


def response(
    status: int,
    reason: str,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    *,
    now: float,
    is_head: bool = False,
) -> bytes:
    """Write a whole response that ends the connection.

    Args:
        status: Any status of three digits, registered or not.
        reason: Reason phrase; control characters become blanks, and what Latin-1 does not have is
            written as UTF-8.
        headers: Further headers.
        body: Content.
        now: Unix time in seconds, for ``Date``.
        is_head: Whether it answers HEAD, so that the content stays away.
    """
    lines = [
        f"HTTP/1.1 {status} {_CONTROLS.sub(' ', reason)}",
        f"Date: {formatdate(now, usegmt=True)}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {_CONTROLS.sub(' ', value)}" for name, value in headers),
    ]
    head = b"".join(_encoded(line) + b"\r\n" for line in lines) + b"\r\n"
    return head if is_head else head + body


def switching_protocols(
    accept: Iterable[tuple[str, str]], *, tracking_id: str, subprotocol: str | None = None
) -> bytes:
    """Write the 101 of a WebSocket handshake: no extension, each header once (clause 42)."""
    headers = [*accept, ("TrackingId", tracking_id)]
    if subprotocol is not None:
        headers.append(("Sec-WebSocket-Protocol", _CONTROLS.sub(" ", subprotocol)))
    lines = ["HTTP/1.1 101 Switching Protocols", *(f"{n}: {v}" for n, v in headers)]
    return b"".join(_encoded(line) + b"\r\n" for line in lines) + b"\r\n"


def _encoded(line: str) -> bytes:
    try:
        return line.encode("latin-1")
    except UnicodeEncodeError:
        return line.encode("utf-8", "replace")
