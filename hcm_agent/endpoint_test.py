"""``hcm test``: one try to reach a target by TCP, or a namespace by HTTPS."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h11

from hybridge.program.advice import advice
from hybridge.program.host_port import format_host_port, parse_host, parse_host_port
from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import HandshakeRefused, RelayError, TargetTimedOut
from hybridge.transport.dialer import Dialer
from hybridge.transport.http_exchange import exchange
from hybridge.transport.tcp import dial_tcp

if TYPE_CHECKING:
    from pathlib import Path

    from hcm_agent.allow_list import AllowList
    from hcm_agent.target_dialer import DialTcp
    from hybridge.protocol.proxies import ProxyChoice

TRY_SECONDS = 10.0
"""How long an endpoint may take to answer."""

HTTPS_PORT = 443
_SETTING = "endpoint"
_SCHEMES = ("https://", "sb://")


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayRoute:
    """How a namespace is reached, and which targets may be."""

    ca: Path | None = None
    connect_to: tuple[str, int] | None = None
    proxy: ProxyChoice = None
    allow_list: AllowList | None = None
    dial: DialTcp = dial_tcp
    """To targets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What one try said."""

    endpoint: str
    kind: str
    """``TCP`` or ``HTTPS``."""

    milliseconds: float
    status: int | None = None
    """Of HTTP."""

    error: str = ""
    """Empty where it worked."""

    hint: str = ""

    def to_fields(self) -> dict[str, object]:
        """Give it for JSON."""
        return {
            "Endpoint": self.endpoint,
            "Kind": self.kind,
            "Reachable": not self.error,
            "HttpStatus": self.status,
            "Milliseconds": self.milliseconds,
            "Error": self.error,
            "Hint": self.hint,
        }


async def try_endpoint(
    endpoint: str, route: RelayRoute, *, timeout_seconds: float = TRY_SECONDS
) -> Trial:
    """Connect to ``host:port`` and leave, or GET ``https://namespace/``, which must be 2xx.

    Args:
        endpoint: ``db.corp.local:5432``; ``contoso.servicebus.windows.net``, also with ``https://``
            in front and a port behind.
        route: How a namespace is reached.
        timeout_seconds: For the whole try.

    Raises:
        InvalidSetting: It is neither.
    """
    text = endpoint.strip()
    bare = text
    for scheme in _SCHEMES:
        bare = bare.removeprefix(scheme)
    is_namespace = bare != text or ":" not in bare
    bare = bare.rstrip("/")
    if ":" in bare:
        host, port = parse_host_port(bare, setting=_SETTING, lowest_port=1)
    else:
        host, port = parse_host(bare, setting=_SETTING), HTTPS_PORT
    started = time.monotonic()
    status: int | None = None
    problem: RelayError | None = None
    try:
        async with asyncio.timeout(timeout_seconds):
            if is_namespace:
                status = await _get(host, port, route)
            else:
                admit = None if route.allow_list is None else route.allow_list.check(host, port)
                (await route.dial(host, port, admit=admit)).abort()
    except TimeoutError:
        problem = TargetTimedOut(f"{bare} did not answer within {timeout_seconds:g} s")
    except RelayError as error:
        problem = error
        status = error.status if isinstance(error, HandshakeRefused) else None
    return Trial(
        endpoint=format_host_port(host, port),
        kind="HTTPS" if is_namespace else "TCP",
        milliseconds=round((time.monotonic() - started) * 1_000, 1),
        status=status,
        error=str(problem or ""),
        hint=advice(problem, claim=Claim.LISTEN) if problem else "",
    )


async def _get(host: str, port: int, route: RelayRoute) -> int:
    authority = host if port == HTTPS_PORT else format_host_port(host, port)
    request = h11.Request(
        method="GET", target="/", headers=[("Host", authority), ("Connection", "close")]
    )
    dialer = Dialer(host, ca=route.ca, connect_to=route.connect_to, proxy=route.proxy)
    wire = await dialer.dial(host, port)
    try:
        response, _ = await exchange(wire, request)
    finally:
        wire.abort()
    if not 200 <= response.status_code < 300:
        reason = bytes(response.reason).decode(errors="replace")
        raise HandshakeRefused(response.status_code, reason)
    return response.status_code
