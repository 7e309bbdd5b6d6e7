"""HTTP responses that the relay itself writes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.utils import formatdate

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


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
    head = serialize_head(
        f"HTTP/1.1 {status} {reason}",
        [
            ("Date", formatdate(now, usegmt=True)),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            *headers,
        ],
    )
    return head if is_head else head + body


def switching_protocols(
    accept: Iterable[tuple[str, str]], *, tracking_id: str, subprotocol: str | None = None
) -> bytes:
    """Write the 101 of a WebSocket handshake: no extension, each header once (clause 42)."""
    headers = [*accept, ("TrackingId", tracking_id)]
    if subprotocol is not None:
        headers.append(("Sec-WebSocket-Protocol", subprotocol))
    return serialize_head("HTTP/1.1 101 Switching Protocols", headers)


def serialize_head(first: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Write a response's head: one line each for the status and every header, and an empty one.

    Control characters in the first line and in values become blanks, and what Latin-1 does not have
    is written as UTF-8: whatever the texts, nobody reads another line into them.

    Raises:
        ValueError: The name of a header is none that HTTP knows.
    """
    lines = [first]
    for name, value in headers:
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"{name!r} is not the name of a header")
        lines.append(f"{name}: {value}")
    return b"".join(_encoded(line) + b"\r\n" for line in lines) + b"\r\n"


def _encoded(line: str) -> bytes:
    line = _CONTROLS.sub(" ", line)
    try:
        return line.encode("latin-1")
    except UnicodeEncodeError:
        return line.encode("utf-8", "replace")
