"""Requests and tokens as they stand on the wire, written without the project's own code."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from urllib.parse import quote

import pytest

from tests.support.raw import RawPeer, RelayPeers
from tests.support.relay import KEY, LAST_EXPIRY

TRACKED = re.compile(
    r"(?P<message>.+) TrackingId:(?P<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:_G\d+)+), "
    r"SystemTracker:(?P<tracker>\S+), Timestamp:(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)"
)
"""Clause 45: how the service says why it refused."""


def http_request(target: str, host: str, *headers: tuple[str, str], method: str = "GET") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{k}: {v}" for k, v in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def quoted(resource: str) -> str:
    return quote(resource, safe="")


def sas_token(
    sr: str, *, key_name: str = "sendrule", key: str = KEY, expires_at: int = LAST_EXPIRY
) -> str:
    """Sign ``sr``, which is quoted already, in the way that clause 20 describes."""
    digest = hmac.new(key.encode(), f"{sr}\n{expires_at}".encode(), hashlib.sha256).digest()
    sig = quoted(base64.b64encode(digest).decode())
    return f"SharedAccessSignature sr={sr}&sig={sig}&se={expires_at}&skn={key_name}"


async def accept_of(listener: RawPeer) -> dict[str, object]:
    """Read the next ``accept`` of a control channel."""
    accept = (await listener.command())["accept"]
    assert isinstance(accept, dict)
    return accept


async def address_for(
    peers: RelayPeers, listener: RawPeer, target: str, *headers: tuple[str, str]
) -> str:
    """Start a sender, and give the address that the listener is told; the sender then leaves."""
    async with await peers.start_sender(target, *headers):
        return str((await accept_of(listener))["address"])


class Clock:
    """Unix time that begins at a chosen moment, goes at its own pace, and can be moved on.

    It stands for the wall clock in the relay's modules, so that a token expires when a test wants.
    """

    def __init__(self, patch: pytest.MonkeyPatch, *modules: str) -> None:
        self._offset = time.time() - time.monotonic()
        for module in modules:
            patch.setattr(f"{module}.time", self)

    def time(self) -> float:
        return time.monotonic() + self._offset

    def move_to(self, now: float) -> None:
        self._offset = now - time.monotonic()
