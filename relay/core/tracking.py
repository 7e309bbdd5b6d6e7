"""TrackingIds, and the texts in which the relay says why it refused. Sections 4.2 and 7.8."""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime
from typing import Final

MAX_SHOWN_PATH_CHARACTERS: Final = 320
"""Longest part of a path that a reason phrase repeats; a hybrid connection's name always fits."""

_TRACKING_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:_G[0-9]{1,6}){0,8}", re.I)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NOT_VISIBLE = re.compile(r"[^!-~]")

_CODES: Final = {
    400: "BadRequest",
    401: "TokenMissingOrInvalid",
    403: "Forbidden",
    404: "EndpointNotFound",
    429: "QuotaExceeded",
    500: "InternalServerError",
    501: "NotImplemented",
    502: "BadGateway",
    503: "ServerBusy",
    504: "GatewayTimeout",
}


def new_tracking_id(client_id: str | None, suffix: int) -> str:
    """Make the TrackingId of a handshake or request. Clause 62.

    Args:
        client_id: The ``sb-hc-id`` that came with it, or None. Kept if it is a GUID, with or
            without the ``_G<n>`` of gateways passed before.
        suffix: The number of this gateway.

    Returns:
        ``<guid>_G<suffix>``; a new GUID unless the client brought one.
    """
    if client_id is None or _TRACKING_ID.fullmatch(client_id) is None:
        client_id = str(uuid.uuid4())
    return f"{client_id}_G{suffix}"


def phrase(
    message: str, *, tracking_id: str, host: str, path: str, now: float, http: bool = False
) -> str:
    """Give the reason phrase of a refusal, or the reason of a Close. Clause 45.

    Args:
        message: What happened, with its full stop.
        tracking_id: From `new_tracking_id`.
        host: Namespace host.
        path: Path of the hybrid connection that was asked for, quoted or not.
        now: Unix time in seconds.
        http: Whether it answers relayed HTTP, where Azure writes the tracker differently.

    Returns:
        ``<message> TrackingId:..., SystemTracker:..., Timestamp:yyyy-MM-ddTHH:mm:ss``, safe in a
        status line whatever the arguments held: no control characters.
    """
    shown = shown_path(path)
    tracker = f"{host}:{shown}" if http else f"sb://{host}/{shown}"
    timestamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    text = f"{message} TrackingId:{tracking_id}, SystemTracker:{tracker}, Timestamp:{timestamp}"
    return _CONTROLS.sub(" ", text)


def shown_path(path: str) -> str:
    """Make a path that anybody wrote fit to be shown: visible characters, and not too many."""
    return _NOT_VISIBLE.sub("_", path.strip("/"))[:MAX_SHOWN_PATH_CHARACTERS]


def error_code(status: int) -> str:
    """Give the word that stands for an HTTP status in errors (section 7.8) and in metrics."""
    return _CODES.get(status, _CODES[500] if status >= 500 else _CODES[400])


def error_body(status: int, message: str) -> bytes:
    """Give the JSON body of an error that the service itself answers. Section 7.8, clause 115.

    Args:
        status: HTTP status; it decides the ``code``.
        message: The reason phrase, from `phrase`.
    """
    error = {"error": {"code": error_code(status), "message": message}}
    return json.dumps(error, separators=(",", ":")).encode()
