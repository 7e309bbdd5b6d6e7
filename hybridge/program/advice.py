"""What to try next when the relay says no, for whoever reads the log of an agent or a client."""

from __future__ import annotations

from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import (
    HandshakeRefused,
    RelayError,
    TargetTimedOut,
    Unreachable,
    UntrustedCertificate,
)
from hybridge.protocol.refusals import authorization_hint


def advice(error: RelayError, *, claim: Claim) -> str:
    """Give the next step after an error, one line.

    The error's own hint wins. Otherwise it follows from what the relay answered.

    Args:
        error: What happened.
        claim: What the connection string must grant: Listen for an agent, Send for a client.
    """
    if error.hint:
        return error.hint
    if isinstance(error, UntrustedCertificate):
        return "give the relay's authority with --ca, and connect to a name in its certificate"
    if isinstance(error, HandshakeRefused):
        return _after_refusal(error, claim)
    if isinstance(error, TargetTimedOut):
        return "check the route and the firewalls on the way"
    if isinstance(error, Unreachable):
        return "check that the relay is running and that this machine reaches its host and port"
    return _after_status(error.status or 0, claim)


def _after_refusal(error: HandshakeRefused, claim: Claim) -> str:
    reason = error.reason.lower()
    if error.status == 404 and "listener" in reason:
        return "start an agent for this hybrid connection: hcm run"
    if error.status == 403 and "allow-list" in reason:
        return "let whoever runs the agent allow this target: hcm run --allow-target"
    if error.status == 401:
        return authorization_hint(reason, claim=str(claim))
    return _after_status(error.status or 0, claim)


def _after_status(status: int, claim: Claim) -> str:
    match status:
        case 401 | 403:
            return authorization_hint("", claim=str(claim))
        case 404:
            return "check the host in Endpoint and the name in EntityPath"
        case 429:
            return "end other connections, or raise the relay's limit"
        case 502:
            return "check that the target service is running and reachable from the agent"
        case 503:
            return "try again: the relay or the agent is at its limit or stopping"
        case 504:
            return "check the route and the firewalls between the agent and the target"
        case _:
            return "look into the relay's log for the TrackingId"
