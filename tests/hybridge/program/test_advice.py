"""What to try next, by what the relay said."""

from __future__ import annotations

import pytest

from hybridge.program.advice import advice
from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import (
    AuthorizationFailed,
    EndpointNotFound,
    HandshakeRefused,
    RelayError,
    TargetTimedOut,
    Unreachable,
    UntrustedCertificate,
)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Unreachable("no route", hint="its own hint"), "its own hint"),
        (UntrustedCertificate("self-signed"), "--ca"),
        (AuthorizationFailed("401 ExpiredToken: The token is expired."), "rule"),
        (HandshakeRefused(401, "ExpiredToken: The token is expired."), "clock"),
        (HandshakeRefused(401, "InvalidSignature: ... an invalid signature."), "copy"),
        (HandshakeRefused(401, "InvalidAudience: ... a wrong audience."), "EntityPath"),
        (HandshakeRefused(401, "Authorization failed for specified action: Listen."), "Listen"),
        (HandshakeRefused(403, "Forbidden"), "Listen"),
        (HandshakeRefused(403, "The agent's allow-list does not have ..."), "--allow-target"),
        (HandshakeRefused(404, "There are no listeners connected for the endpoint."), "hcm run"),
        (HandshakeRefused(404, "Endpoint does not exist."), "EntityPath"),
        (EndpointNotFound("404"), "EntityPath"),
        (HandshakeRefused(429, "QuotaExceeded"), "limit"),
        (HandshakeRefused(502, "The target refused the connection."), "target service"),
        (HandshakeRefused(503, "busy"), "try again"),
        (HandshakeRefused(504, "The target did not answer."), "firewalls"),
        (HandshakeRefused(500, "InternalServerError."), "TrackingId"),
        (TargetTimedOut("no answer"), "route"),
        (Unreachable("no route"), "relay is running"),
    ],
)
def test_each_refusal_has_a_next_step(error: RelayError, words: str) -> None:
    assert words in advice(error, claim=Claim.LISTEN)


def test_it_names_the_claim_that_the_program_needs() -> None:
    refusal = HandshakeRefused(401, "Authorization failed for specified action: Send.")

    assert "Send" in advice(refusal, claim=Claim.SEND)
