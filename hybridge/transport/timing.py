"""How long our own ends wait for what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Waits of a listener or sender, in seconds. The defaults fit real Azure as well."""

    open_timeout_seconds: float = 20.0
    """For name, TCP, TLS and the listener's own handshake with the relay."""

    connect_timeout_seconds: float = 45.0
    """For a sender's whole way to an accepted rendezvous: the relay itself gives up after 30 s."""

    ping_interval_seconds: float = 15.0
    """From one ping to the next, on every leg."""

    pong_timeout_seconds: float = 10.0
    """After a ping, something inbound is due within this."""

    stalled_peer_timeout_seconds: float = 600.0
    """A peer that is blocked and silent for this long is dropped."""

    close_timeout_seconds: float = 10.0
    """For the other end's part of an orderly end."""
