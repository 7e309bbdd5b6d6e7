"""Why a WebSocket closes: the codes of RFC 6455 and how they travel."""

from __future__ import annotations

import enum

MAX_REASON_BYTES = 123
"""A Close frame holds at most 125 bytes, two of them for the code."""


class CloseCode(enum.IntEnum):
    """A registered close code; `meaning` puts it into words."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS = 1005
    ABNORMAL = 1006
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MISSING_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_FAILED = 1015

    @property
    def meaning(self) -> str:
        """What the code says, in a few words."""
        return _MEANINGS[self]


_MEANINGS = {
    CloseCode.NORMAL: "finished",
    CloseCode.GOING_AWAY: "going away",
    CloseCode.PROTOCOL_ERROR: "protocol error",
    CloseCode.UNSUPPORTED_DATA: "unsupported data",
    CloseCode.NO_STATUS: "closed without a code",
    CloseCode.ABNORMAL: "connection lost",
    CloseCode.INVALID_DATA: "invalid data",
    CloseCode.POLICY_VIOLATION: "not allowed, or the token expired",
    CloseCode.MESSAGE_TOO_BIG: "message too big",
    CloseCode.MISSING_EXTENSION: "extension missing",
    CloseCode.INTERNAL_ERROR: "error in the service",
    CloseCode.SERVICE_RESTART: "service restarting",
    CloseCode.TRY_AGAIN_LATER: "try again later",
    CloseCode.BAD_GATEWAY: "bad gateway",
    CloseCode.TLS_FAILED: "TLS failed",
}

_NEVER_SENT = frozenset({CloseCode.NO_STATUS, CloseCode.ABNORMAL, CloseCode.TLS_FAILED})


def is_clean(code: int | None) -> bool:
    """Whether a Close with this code ends a direction in order; None is a Close without a code."""
    return code in (None, CloseCode.NORMAL, CloseCode.GOING_AWAY, CloseCode.NO_STATUS)


def valid_on_wire(code: int) -> bool:
    """Whether a Close frame may carry the code (RFC 6455, section 7.4)."""
    if 3000 <= code <= 4999:
        return True
    return code in _MEANINGS and code not in _NEVER_SENT


def describe(code: int | None) -> str:
    """Put a code into words, for a log line: ``"1001 going away"``."""
    if code is None:
        return _MEANINGS[CloseCode.NO_STATUS]
    meaning = _MEANINGS.get(code)  # type: ignore[call-overload]  # an int equals its IntEnum
    return f"{code} {meaning}" if meaning else str(code)


def reason_bytes(text: str) -> bytes:
    """Give the reason for a Close frame: UTF-8, at most `MAX_REASON_BYTES`, no character cut."""
    data = text.encode("utf-8", "replace")
    if len(data) <= MAX_REASON_BYTES:
        return data
    return data[:MAX_REASON_BYTES].decode("utf-8", "ignore").encode()
