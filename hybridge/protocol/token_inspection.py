"""The token workbench: what a token says, and what is wrong with it. Section 3.

Knows no clock and no network. What only the relay can say, `hybridge.protocol.token_questions` has.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hybridge.protocol import sas, signature_mistakes, token_parts, token_text
from hybridge.protocol.errors import InvalidAudience
from hybridge.protocol.secret import Secret
from hybridge.protocol.token_faults import Fault, Part, Refusal, in_order
from hybridge.protocol.token_text import Kind

if TYPE_CHECKING:
    from hybridge.protocol.connection_string import ConnectionString
    from hybridge.protocol.token_parts import TokenParts

LONG_LIFE_SECONDS = 366 * 86_400
"""A token that is good for longer is remarked on: only a new key of its rule takes it back."""


class State(enum.Enum):
    """What is known about one part of a token."""

    RIGHT = "ok"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One part of a token, checked."""

    part: Part
    state: State

    says: str
    """Why, one line; empty where nothing need be said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """A token, taken apart and checked as far as the keys at hand allow."""

    kind: Kind
    """What the text is. Only of a Shared Access Signature there are `parts`."""

    text: Secret
    """The token itself, without what stood around it. Empty if there is none."""

    parts: TokenParts | None

    claims: tuple[tuple[str, str], ...]
    """Of a JSON Web Token: for whom and until when it is."""

    checks: tuple[Check, ...]
    """Rule, audience, signature, expiry and right, in this order; empty if there are no parts."""

    faults: tuple[Fault, ...]
    """All that is wrong; the first is what the relay names."""

    @property
    def is_valid(self) -> bool | None:
        """Whether the token would be taken; None if its signature could not be checked."""
        if self.faults:
            return False
        unsure = (Part.SIGNATURE, Part.RULE)
        return (
            None
            if any(c.part in unsure and c.state is State.UNKNOWN for c in self.checks)
            else True
        )


def inspect(
    text: str, *, now: float, connection_string: ConnectionString | None = None
) -> Inspection:
    """Take a token apart, and say what is wrong with it.

    Args:
        text: The token as it was pasted, with whatever stands around it.
        now: Unix time in seconds.
        connection_string: What the token should open, and the key that should have signed it. One
            without a key or ``EntityPath`` says less. Without it only form and expiry are checked.

    Returns:
        The parts, one check for each, and all faults, each with what would be right.
    """
    unwrapped = token_text.unwrap(text)
    faults = list(unwrapped.faults)
    parts: TokenParts | None = None
    checks: list[Check] = []
    if unwrapped.kind is Kind.SHARED_ACCESS_SIGNATURE:
        parts, malformed = token_parts.read_parts(unwrapped.text)
        faults += malformed
        for check, fault in (
            _rule(parts, connection_string),
            _audience(parts, connection_string),
            _signature(parts, connection_string),
            _expiry(parts, now),
        ):
            checks.append(check)
            if fault is not None:
                faults.append(fault)
        checks.append(
            Check(
                part=Part.CLAIM,
                state=State.UNKNOWN,
                says="only a relay knows what a rule grants: give --relay",
            )
        )
    claims: tuple[tuple[str, str], ...] = ()
    if unwrapped.kind is Kind.JWT:
        claims = token_parts.describe_json_web_token(unwrapped.text)
    is_token = unwrapped.kind in (Kind.SHARED_ACCESS_SIGNATURE, Kind.JWT)
    return Inspection(
        kind=unwrapped.kind,
        text=Secret(unwrapped.text if is_token else ""),
        parts=parts,
        claims=claims,
        checks=tuple(checks),
        faults=in_order(faults),
    )


_Checked = tuple[Check, Fault | None]


def _right(part: Part, says: str = "") -> _Checked:
    return Check(part=part, state=State.RIGHT, says=says), None


def _unknown(part: Part, says: str) -> _Checked:
    return Check(part=part, state=State.UNKNOWN, says=says), None


def _wrong(part: Part, refusal: Refusal, problem: str, remedy: str) -> _Checked:
    fault = Fault(part=part, refusal=refusal, problem=problem, remedy=remedy)
    return Check(part=part, state=State.WRONG, says=problem), fault


# --- Rule and signature ---------------------------------------------------------------------------


def _rule(parts: TokenParts, connection_string: ConnectionString | None) -> _Checked:
    if not parts.key_name:
        return _unknown(Part.RULE, "the token names none")
    if connection_string is None or connection_string.key_name is None:
        return _unknown(Part.RULE, "no rule to compare with: give --connection-string")
    expected = connection_string.key_name
    if parts.key_name.lower() == expected.lower():
        return _right(Part.RULE)
    given = _name(parts.key_name)
    key = connection_string.key
    if parts.token is not None and key and sas.has_valid_signature(parts.token, [key]):
        return _wrong(
            Part.RULE,
            Refusal.SIGNATURE,
            f"it is signed with the key of rule '{expected}' and names rule {given}",
            f"write skn={expected}",
        )
    return _wrong(
        Part.RULE,
        Refusal.SIGNATURE,
        f"it names rule {given}, and the connection string is of rule '{expected}'",
        f"give the connection string of rule {given}, or make a token from this one",
    )


def _signature(parts: TokenParts, connection_string: ConnectionString | None) -> _Checked:
    token = parts.token
    if token is None:
        return _unknown(Part.SIGNATURE, "it cannot be checked: a field is missing")
    odd = signature_mistakes.describe(token.signature)
    key = None if connection_string is None else connection_string.key
    if key is None or connection_string is None:
        if odd:
            return _wrong(Part.SIGNATURE, Refusal.SIGNATURE, f"it {odd}", _SIGN_AGAIN)
        return _unknown(Part.SIGNATURE, "no key to check it with: give --connection-string")
    if sas.has_valid_signature(token, [key]):
        return _right(Part.SIGNATURE)
    mistake = signature_mistakes.find_mistake(token, key)
    if mistake is not None:
        return _wrong(Part.SIGNATURE, Refusal.SIGNATURE, mistake.problem, mistake.remedy)
    if odd:
        return _wrong(Part.SIGNATURE, Refusal.SIGNATURE, f"it {odd}", _SIGN_AGAIN)
    expected = connection_string.key_name or ""
    if parts.key_name.lower() != expected.lower():
        return _unknown(Part.SIGNATURE, f"the key at hand is that of rule '{expected}'")
    return _wrong(
        Part.SIGNATURE,
        Refusal.SIGNATURE,
        "this key did not make it, or 'sr' or 'se' was changed afterwards",
        f"take the connection string of rule '{expected}' anew and sign again; a rule has two "
        "keys, and this may be the other one",
    )


_SIGN_AGAIN = "sign again: base64 of the HMAC-SHA256, 44 characters, URL-encoded once"


def _name(key_name: str) -> str:
    if token_text.looks_like_key(key_name):
        return "'***' (it looks like a key: 'skn' is the name of the rule)"
    return f"'{key_name}'"


# --- Audience -------------------------------------------------------------------------------------


def _audience(parts: TokenParts, connection_string: ConnectionString | None) -> _Checked:
    if not parts.resource:
        return _unknown(Part.AUDIENCE, "the token names none")
    right = "" if connection_string is None else _right_resource(connection_string)
    try:
        resource = sas.parse_resource(parts.resource)
    except InvalidAudience as error:
        problem = str(error)[:1].lower() + str(error)[1:].rstrip(".")
        if "%3a%2f%2f" in parts.resource.lower():
            problem = "'sr' is URL-encoded twice"
        return _wrong(Part.AUDIENCE, Refusal.AUDIENCE, problem, right or _ANY_RESOURCE)
    if connection_string is None:
        return _unknown(Part.AUDIENCE, "nothing to compare with: give --connection-string")
    if resource.host != connection_string.host:
        return _wrong(
            Part.AUDIENCE,
            Refusal.AUDIENCE,
            f"it is for {resource.host}, and the connection string for {connection_string.host}",
            f"{right}; or connect to {resource.host}, if that is a name of the namespace too",
        )
    path = tuple((connection_string.path or "").split("/")) if connection_string.path else ()
    if not path or resource.opens(path):
        return _right(Part.AUDIENCE)
    if resource.opens_only_below(path):
        return _right(Part.AUDIENCE, "for requests below this path only, not for listening")
    given, expected = "/".join(resource.segments), connection_string.path
    problem = f"it is for '{given}', and the connection string for '{expected}'"
    if resource.segments[0].lower() == "$hc":
        problem = "its path begins with '$hc', which belongs into addresses only"
    return _wrong(Part.AUDIENCE, Refusal.AUDIENCE, problem, right)


_ANY_RESOURCE = "sign an address such as http://HOST/NAME/"


def _right_resource(connection_string: ConnectionString) -> str:
    resource = sas.resource_of(connection_string.host, connection_string.path or "")
    return f"sign {resource}"


# --- Expiry ---------------------------------------------------------------------------------------


def _expiry(parts: TokenParts, now: float) -> _Checked:
    expires_at = parts.expires_at
    if expires_at is None:
        return _unknown(Part.EXPIRY, "it cannot be read")
    if now < expires_at:
        is_long = expires_at - now > LONG_LIFE_SECONDS
        return _right(Part.EXPIRY, "a long life: only a new key ends it early" if is_long else "")
    if expires_at < token_parts.FIRST_SENSIBLE_EXPIRY:
        return _wrong(
            Part.EXPIRY,
            Refusal.EXPIRED,
            f"'se' is {expires_at}, which is {moment(expires_at)}",
            "'se' is the time when it ends, in Unix seconds, and not how long it is good",
        )
    return _wrong(
        Part.EXPIRY,
        Refusal.EXPIRED,
        f"it ended {distance(expires_at, now)}, at {moment(expires_at)}",
        "make a new one; if it should still be good, compare 'date -u' on both machines",
    )


def moment(expires_at: float) -> str:
    """Write a time: ``2026-01-01 00:00:00 UTC``."""
    return datetime.fromtimestamp(expires_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def distance(expires_at: float, now: float) -> str:
    """Write how far a time is away: ``in 59 min``, ``3 days ago``."""
    seconds = abs(int(expires_at - now))
    if seconds < 120:
        text = f"{seconds} s"
    elif seconds < 7_200:
        text = f"{seconds // 60} min"
    elif seconds < 172_800:
        text = f"{seconds // 3_600} h"
    elif seconds < 2 * 31_557_600:
        text = f"{seconds // 86_400} days"
    else:
        text = f"{seconds // 31_557_600} years"
    return f"in {text}" if expires_at > now else f"{text} ago"
