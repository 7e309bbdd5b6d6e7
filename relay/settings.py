"""Everything the relay can be told from outside, apart from its namespaces."""

from __future__ import annotations

import dataclasses
import ipaddress
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hybridge.program.host_port import parse_host, parse_host_port
from hybridge.protocol.errors import InvalidSetting
from relay.state import default_state_dir

LOCALHOST = "localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """How the relay runs: where it listens, where it keeps things, how long it waits.

    In a configuration file they stand under ``UserConfig.Settings``, in PascalCase
    (``AcceptTimeoutSeconds``). Order: command line, environment, file, default.
    """

    host: str = LOCALHOST
    """Address to listen on. ``localhost``: both loopbacks, so that a try-out opens no door."""

    port: int = 8443
    """TLS port of every namespace. 0 takes a free one, the same on both loopbacks."""

    admin_host: str = LOCALHOST
    """Address of ``/health`` and ``/metrics``."""

    admin_port: int = 5300
    """Port of ``/health`` and ``/metrics``. 0 takes a free one."""

    public_host: str | None = None
    """``host[:port]`` in rendezvous addresses, where listeners reach the relay by another name than
    that of their control channel. None: the name they used."""

    state_dir: Path = field(default_factory=default_state_dir)
    """What must survive a restart: the CA, the server certificate, generated keys."""

    share_dir: Path | None = None
    """Where ``ca.pem`` and a connection string per rule are written for others. None: nowhere."""

    log_format: Literal["text", "json"] = "text"
    """Lines for people, or JSON for machines."""

    verbose: bool = False
    """Log every message too."""

    accept_timeout_seconds: float = 30.0
    """How long a sender waits for a listener to accept, and how long an address is good (72)."""

    tls_timeout_seconds: float = 10.0
    """How long a peer may take to finish TLS."""

    head_timeout_seconds: float = 15.0
    """How long a peer may take to send a request head."""

    keep_alive_seconds: float = 120.0
    """How long an HTTP sender's connection may be idle between two requests."""

    response_timeout_seconds: float = 60.0
    """How long a listener may take to answer an HTTP request (113)."""

    body_gap_seconds: float = 60.0
    """How long an HTTP body, either way, may pause; unless its receiver holds it up."""

    listener_return_seconds: float = 5.0
    """How long an HTTP request whose listener lost its control channel waits for it to come to the
    rendezvous address."""

    ping_interval_seconds: float = 15.0
    """How often every leg is pinged."""

    pong_timeout_seconds: float = 10.0
    """How long after a ping something must arrive, on a leg that is not blocked."""

    stalled_peer_timeout_seconds: float = 600.0
    """How long a leg may be blocked and silent."""

    half_close_idle_seconds: float = 60.0
    """How long the other direction may be silent after one side's Close."""

    drain_seconds: float = 30.0
    """How long running connections get after SIGTERM."""

    token_grace_seconds: float = 300.0
    """How long a control channel outlives its token, for a late renewal (48, 49)."""

    clock_skew_seconds: float = 0.0
    """How long after its expiry a token still opens something new, for clocks that differ."""

    close_forward_delay_seconds: float = 0.0
    """Wait before a Close is passed on: 0.05 for a race in Microsoft's Java client."""

    listen_handshake_delay_seconds: float = 0.0
    """Wait before a listener is answered: 0.1 for a test of Microsoft's Java client."""

    max_listeners: int = 25
    """Listeners per hybrid connection (57)."""

    max_connections: int = 5_000
    """Connections per namespace, control channels included."""

    max_pending_rendezvous: int = 1_000
    """Senders that wait for a listener, in the whole relay."""

    max_pending_requests: int = 5_000
    """HTTP requests that wait for their response or carry it, in the whole relay."""

    max_handshakes: int = 256
    """Peers in the middle of their TLS handshake, in the whole relay; more wait."""

    unknown_rendezvous_status: int = 403
    """Answer to an address that is unknown, used or expired. The documentation and Microsoft's own
    prototype (400) disagree."""

    listener_limit_status: int = 429
    """Answer to one listener too many."""

    no_listener_http_status: int = 404
    """Answer to an HTTP sender while nobody listens. The documentation says 502 and 503."""

    default_response_content_type: str = "application/octet-stream"
    """Content-Type of a relayed response that has none."""

    def __post_init__(self) -> None:
        parse_host(self.host, setting="Host")
        parse_host(self.admin_host, setting="AdminHost")
        if self.public_host is not None:
            public_name(self.public_host)
        for each in dataclasses.fields(self):
            _check(each.name, getattr(self, each.name))
        content_type = self.default_response_content_type
        if not (content_type and content_type.isascii() and content_type.isprintable()):
            raise InvalidSetting(
                "DefaultResponseContentType",
                f"{content_type!r} cannot stand in a header",
                hint="write a media type, such as application/octet-stream",
            )

    @property
    def is_loopback_only(self) -> bool:
        """Whether only this machine can reach the relay, its health endpoint included."""
        return is_loopback(self.host) and is_loopback(self.admin_host)


def is_loopback(host: str) -> bool:
    """Whether a bind address opens nothing to others. No name but localhost counts."""
    if host.lower() == LOCALHOST:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def public_name(public_host: str) -> str:
    """The host of `RelaySettings.public_host`, without its port.

    Raises:
        InvalidSetting: It is not ``host`` or ``host:port``.
    """
    name, colon, port = public_host.rpartition(":")
    if colon and port.isdigit() and (":" not in name or name.startswith("[")):
        return parse_host_port(public_host, setting="PublicHost", lowest_port=1)[0]
    return parse_host(public_host, setting="PublicHost")


def file_key(name: str) -> str:
    """A setting's key in a file: ``accept_timeout_seconds`` is ``AcceptTimeoutSeconds`` there."""
    return "".join(word.capitalize() for word in name.split("_"))


def _check(name: str, value: object) -> None:
    if name.endswith("_seconds") and isinstance(value, int | float):
        may_be_zero = name.endswith("_delay_seconds") or name in (
            "drain_seconds",
            "token_grace_seconds",
            "clock_skew_seconds",
        )
        if not math.isfinite(value) or value < 0 or (value == 0 and not may_be_zero):
            least = "0 or more" if may_be_zero else "more than 0"
            raise InvalidSetting(file_key(name), f"{value} is not {least} seconds", hint=_HINT)
    elif name.startswith("max_") and isinstance(value, int):
        if value < 1:
            raise InvalidSetting(file_key(name), f"{value} is less than 1", hint=_HINT)
    elif name.endswith("_status") and isinstance(value, int):
        if not 400 <= value <= 599:
            problem = f"{value} is not an HTTP error status"
            raise InvalidSetting(file_key(name), problem, hint="write a number from 400 to 599")
    elif name.endswith("port") and isinstance(value, int) and not 0 <= value <= 65_535:
        problem = f"{value} is not a port"
        raise InvalidSetting(file_key(name), problem, hint="write a number from 0 to 65535")


_HINT = "leave the key out for the default"
