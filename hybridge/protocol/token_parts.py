"""A token's parts, read as far as they can be: also of one that no relay would take."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from hybridge.protocol import sas
from hybridge.protocol.errors import InvalidAudience, MalformedToken
from hybridge.protocol.token_faults import Fault, Part, Refusal

FIELDS = ("sr", "sig", "se", "skn")
"""The fields that a token must have, once each."""

FIRST_SENSIBLE_EXPIRY = 1_000_000_000
"""September 2001. An earlier expiry is no time, but something else in its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenParts:
    """What could be read of a Shared Access Signature."""

    fields: dict[str, str] = field(repr=False)
    """By name in lower case, as they came; of a field that is there twice, the first."""

    resource: str
    """What it opens (``sr``), decoded once; empty if there is none."""

    key_name: str
    """The rule (``skn``), decoded once; empty if there is none."""

    expires_at: int | None
    """Unix time in seconds (``se``), or None if it cannot be read."""

    opened: sas.Resource | None
    """`resource` taken apart, or None if it opens nothing."""

    token: sas.Token | None = field(repr=False)
    """For checking the signature; None if a field for it is missing."""


def read_parts(text: str) -> tuple[TokenParts, tuple[Fault, ...]]:
    """Read the fields of a token, and say why the relay would not.

    Args:
        text: What begins with ``SharedAccessSignature``.

    Returns:
        What could be read, and the faults for which the relay says MalformedToken: none exactly
        if `sas.parse` takes the text. No fault shows a value.
    """
    faults: list[Fault] = []
    if len(text) > sas.MAX_TOKEN_BYTES:
        faults.append(_malformed(f"it is longer than {sas.MAX_TOKEN_BYTES} bytes", "shorten 'sr'"))
    if not text.isascii():
        faults.append(
            _malformed("it has characters outside ASCII", "URL-encode the values of the fields")
        )
    fields: dict[str, str] = {}
    for piece in text[len(sas.PREFIX) :].split("&"):
        name, equals, value = piece.partition("=")
        name = name.strip().lower()
        if name in fields:
            faults.append(_malformed(f"{_shown(name)} is there twice", "keep one of them"))
        elif equals:
            fields[name] = value
    missing = [name for name in FIELDS if not fields.get(name)]
    if missing:
        faults.append(_missing(missing))
    expires_at = _expiry(fields["se"], faults) if fields.get("se") else None
    try:
        parsed = sas.parse(text)
    except MalformedToken as error:
        if not faults:
            faults.append(_malformed(_lowered(str(error)), _MALFORMED_HINT))
        parsed = None
    else:
        faults.clear()
    if parsed is None and fields.get("sr") and fields.get("sig") and fields.get("se"):
        parsed = _as_far_as_it_goes(fields)
    resource = parsed.resource if parsed else sas.decode(fields.get("sr", ""))
    try:
        opened = sas.parse_resource(resource)
    except InvalidAudience:
        opened = None
    return TokenParts(
        fields=fields,
        resource=resource,
        key_name=sas.decode(fields.get("skn", "")),
        expires_at=expires_at,
        opened=opened,
        token=parsed,
    ), tuple(faults)


def _as_far_as_it_goes(fields: dict[str, str]) -> sas.Token:
    return sas.Token(
        resource_quoted=fields["sr"],
        resource=sas.decode(fields["sr"]),
        signature=sas.decode(fields["sig"].replace("+", "%2B")),
        expires_at=0,
        key_name=sas.decode(fields.get("skn", "")),
        signed_text=f"{fields['sr']}\n{fields['se']}",
    )


def _expiry(text: str, faults: list[Fault]) -> int | None:
    if re.fullmatch(r"[0-9]{1,20}", text) and int(text) <= sas.LAST_EXPIRY:
        return int(text)
    problem, remedy = "'se' is no time in Unix seconds", "write whole seconds since 1970, UTC"
    if re.fullmatch(r"[0-9]{13}", text):
        problem, remedy = "'se' is in milliseconds", "divide it by 1000, and sign again"
    elif re.fullmatch(r"[0-9]{1,15}\.[0-9]*", text):
        problem, remedy = "'se' has a fraction", "write whole seconds, and sign again"
    elif re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        problem = "'se' is a date"
    faults.append(
        Fault(part=Part.EXPIRY, refusal=Refusal.MALFORMED, problem=problem, remedy=remedy)
    )
    return None


def _missing(names: list[str]) -> Fault:
    if len(names) == len(FIELDS):
        return _malformed("it has none of the fields of a token", _MALFORMED_HINT)
    several = len(names) > 1
    listed = " and ".join(f"'{name}'" for name in names)
    return _malformed(
        f"{listed} {'are' if several else 'is'} missing or empty",
        "copy the whole token, up to the rule's name: it may have been cut off, or split at '&'",
    )


_MALFORMED_HINT = "write SharedAccessSignature sr=...&sig=...&se=...&skn=..., each field once"


def _malformed(problem: str, remedy: str) -> Fault:
    return Fault(part=Part.FORM, refusal=Refusal.MALFORMED, problem=problem, remedy=remedy)


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def _shown(name: str) -> str:
    # A name that we do not know could be part of a key.
    return f"'{name}'" if name in FIELDS else "a field"


# --- What it opens, and who writes so -------------------------------------------------------------


def describe_opened(resource: sas.Resource) -> str:
    """Say what a token for a resource opens."""
    if not resource.segments:
        return f"every hybrid connection of {resource.host}"
    path = "/".join(resource.segments)
    if resource.query:
        return (
            f"requests to {resource.host} whose path begins with /{path}; the query is not compared"
        )
    return f"the hybrid connection '{path}' of {resource.host}, and what is below it"


def recognise_writer(fields: dict[str, str]) -> str:
    """Name the library that writes tokens this way, by the form of ``sr`` (section 3.2).

    Returns:
        One line, or nothing for a form that is not known. Others may write so too.
    """
    sr = fields.get("sr", "")
    resource = sas.decode(sr)
    if re.search(r"%[0-9]?[a-f]", sr):
        return "lower-case %xx, as Microsoft's examples in several languages have it"
    for pattern, writer in _WRITERS:
        if pattern.fullmatch(resource):
            return writer
    return ""


_WRITERS = tuple(
    (re.compile(pattern), writer)
    for pattern, writer in (
        (r"http://[^/?:]+:443/.+", "Microsoft's Node libraries, for listening and WebSockets"),
        (
            r"http://[^/?:]+/",
            "the root of a namespace, as Microsoft's Node and .NET libraries write it",
        ),
        (r"http://[^/?:A-Z]+(?::[0-9]+)?/[^?]+/", "Microsoft's .NET library, or Hybridge"),
        (r"http://[^/?:]+/[^?]*[^/]", "Microsoft's Node libraries, for HTTP"),
        (r"sb://[^/?]+/?", "Microsoft's Java library, as a sender: it leaves the path out"),
        (r"sb://[^/?]+/.+", "Microsoft's Java library, as a listener"),
        (
            r"https://.+",
            "a full request address, as the tests of Microsoft's Java library write it",
        ),
    )
)


# --- A JSON Web Token, which only Azure takes -----------------------------------------------------


def describe_json_web_token(text: str) -> tuple[tuple[str, str], ...]:
    """Read the claims of a JSON Web Token that say for whom and until when it is.

    Returns:
        Names and values, as text; nothing for a token that cannot be read.
    """
    payload = text.rpartition(" ")[2].split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return ()
    if not isinstance(claims, dict):
        return ()
    rows = [("audience", claims.get("aud")), ("issuer", claims.get("iss"))]
    rows += [(word, _time(claims.get(name))) for word, name in (("from", "nbf"), ("until", "exp"))]
    return tuple((word, str(value)) for word, value in rows if value)


def _time(value: object) -> str:
    if not isinstance(value, int | float) or not 0 < value <= sas.LAST_EXPIRY:
        return ""
    return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
