"""May this token do this here, now? Sections 3.3 to 3.5 and 8 of the specification."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hybridge.protocol import sas
from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import (
    ClaimMissing,
    ExpiredToken,
    InvalidAudience,
    InvalidSignature,
    MalformedToken,
    MissingToken,
)
from hybridge.protocol.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relay.namespace import AuthorizationRule, HybridConnection, Namespace


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token gave its bearer."""

    rule: str
    """The rule that signed it; empty for an anonymous sender."""

    expires_at: int
    """Unix time in seconds."""

    @property
    def is_anonymous(self) -> bool:
        """Whether no token was asked for."""
        return not self.rule


ANONYMOUS = Grant("", sas.LAST_EXPIRY)


def authorize(
    namespace: Namespace,
    hybrid_connection: HybridConnection | None,
    token: str | None,
    *,
    claim: Claim,
    path_segments: Sequence[str],
    now: float,
    any_claim: bool = False,
) -> Grant:
    """Decide whether a token opens a path for an action. Clauses 20 to 35, 40.

    Signature, audience, expiry and claim are looked at in this order. The rule is looked for in
    the hybrid connection and then, if none is there or its keys did not sign, in the namespace.
    There is no allowance for clocks that differ.

    Args:
        namespace: The one that the request's ``Host`` names.
        hybrid_connection: The one that the path leads to. None if there is none: authorization
            comes before existence, so a stranger learns nothing about names.
        token: As it came; None or empty if there is none.
        claim: What the action needs: `Claim.LISTEN` or `Claim.SEND`.
        path_segments: The whole path asked for, decoded, suffix included. Of a listener's, the
            name of the hybrid connection counts.
        now: Unix time in seconds.
        any_claim: Take any claim instead, as for runtime information.

    Returns:
        The rule and when the token expires; `ANONYMOUS` for a sender where none is needed.

    Raises:
        MissingToken: There is no token.
        MalformedToken: It cannot be read.
        InvalidSignature: No key of such a rule made it; also for a rule that does not exist.
        InvalidAudience: It is for another namespace or path.
        ExpiredToken: Its time is over.
        ClaimMissing: The rule does not grant the claim.
    """
    if (
        claim == Claim.SEND
        and not any_claim
        and hybrid_connection is not None
        and not hybrid_connection.requires_client_authorization
    ):
        return ANONYMOUS
    if not token:
        raise MissingToken("MissingToken: The request contains no authorization header.")
    try:
        parsed = sas.parse(token)
    except MalformedToken as error:
        raise MalformedToken(f"MalformedToken: {error}") from None

    rule = _signer(namespace, hybrid_connection, parsed)
    if rule is None:
        raise InvalidSignature("InvalidSignature: The token has an invalid signature.")
    if claim == Claim.LISTEN and hybrid_connection is not None:
        # A listener gets the whole hybrid connection, whatever follows its name in the address.
        path_segments = path_segments[: hybrid_connection.name.count("/") + 1]
    if not sas.covers(parsed, namespace.hosts, path_segments):
        raise InvalidAudience(
            "InvalidAudience: The authorization header contains a token with a wrong audience."
        )
    if now >= parsed.expires_at:
        expiry = datetime.fromtimestamp(parsed.expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        raise ExpiredToken(f"ExpiredToken: The token is expired. Expiration time: '{expiry}'.")
    if not any_claim and not rule.claims.grants(claim):
        raise ClaimMissing(f"Authorization failed for specified action: {claim}.")
    return Grant(rule.name, parsed.expires_at)


def _signer(
    namespace: Namespace, hybrid_connection: HybridConnection | None, token: sas.Token
) -> AuthorizationRule | None:
    key_name = token.key_name.lower()
    for level in (hybrid_connection, namespace):
        rule = None if level is None else level.rules.get(key_name)
        # A level without the rule costs the same two signatures as one where its keys are others:
        # how long a refusal takes says nothing of which rules and hybrid connections there are.
        keys = _NO_KEYS if rule is None else rule.keys
        if sas.has_valid_signature(token, keys) and rule is not None:
            return rule
    return None


_NO_KEYS = (Secret("no key".ljust(43, "x") + "="), Secret("no other key".ljust(43, "x") + "="))
