"""Requests and tokens as they stand on the wire, written without the project's own code."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from urllib.parse import quote

import pytest

from tests.support.raw import PING, PONG, TEXT, RawPeer, RelayPeers, frame
from tests.support.relay import KEY, LAST_EXPIRY

TRACKED = re.compile(
    r"(?P<message>.+) TrackingId:(?P<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:_G\d+)+), "
    r"SystemTracker:(?P<tracker>\S+), Timestamp:(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)"
)
"""Clause 45: how the service says why it refused."""

CONTINUATION = 0
"""Opcode of a fragment that is not the first."""


def http_request(target: str, host: str, *headers: tuple[str, str], method: str = "GET") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{k}: {v}" for k, v in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def command(name: str, **fields: object) -> bytes:
    """Write a command of a control channel, as one frame."""
    return frame(TEXT, json.dumps({name: fields}).encode())


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
    """A wall clock that stands still until it is moved, put in place of the relay's own.

    Timers go on as ever: one that fires before its time by this clock is set again.
    """

    def __init__(self, patch: pytest.MonkeyPatch, *modules: str) -> None:
        self.now = time.time()
        for module in modules:
            patch.setattr(f"{module}.time", self)

    def time(self) -> float:
        return self.now


async def listener_count(peers: RelayPeers, token: str, path: str = "hc1") -> int:
    """Ask the relay how many listeners are online, as management does (section 9.1)."""
    headers = [("X-PROCESS-AT", "ServiceBus"), ("Authorization", token)]
    target = f"/{path}?api-version=2016-07"
    async with await peers.dial() as peer:
        await peer.send(http_request(target, peers.host, *headers))
        answer = await peer.answer()
    found = re.search(rb"<ListenerCount>(\d+)</ListenerCount>", answer.body)
    assert found is not None, answer
    return int(found[1])


async def is_alive(control_channel: RawPeer) -> bool:
    """Whether a control channel answers a ping, and has said nothing else before."""
    await control_channel.send(frame(PING, b"still there?"))
    answer = await control_channel.frame()
    return (answer.opcode, answer.payload) == (PONG, b"still there?")
