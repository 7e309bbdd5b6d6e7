"""Sign and verify Shared Access Signature tokens.

A token is ``SharedAccessSignature sr=...&sig=...&se=...&skn=...``: a resource, a signature, an
expiry in Unix seconds and the name of the rule whose key signed it. Section 3 of the specification.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote, unquote_to_bytes

from hybridge.protocol.errors import InvalidAudience, MalformedToken
from hybridge.protocol.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

MAX_TOKEN_BYTES = 4_096
"""Longest token that is looked into."""

MAX_NAME_CHARACTERS = 256
"""Longest key name, and longest key."""

LAST_EXPIRY = 253_402_300_799
"""The end of the year 9999, in Unix seconds: the latest expiry a token can have."""

SCHEMES = frozenset({"http", "https", "sb", "ws", "wss"})
"""What the resource of a token may begin with, in lower case. Which one it is does not matter."""

PREFIX = "SharedAccessSignature "
"""What a token begins with, in any case."""

_PREFIX_LOWER = PREFIX.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token taken apart; nothing about it has been verified."""

    resource_quoted: str
    """What the token opens (``sr``), exactly as it came: this text was signed."""

    resource: str
    """The same, decoded once."""

    signature: str = field(repr=False)
    """Base64 of an HMAC-SHA256 (``sig``), decoded once."""

    expires_at: int
    """End of its life, Unix time in seconds (``se``)."""

    key_name: str
    """The rule that it claims to be signed with (``skn``)."""

    signed_text: str = field(repr=False)
    """What the signature is over: ``sr`` and ``se`` as they came, with a line feed between."""


def sign(resource: str, *, key_name: str, key: str, expires_at: int) -> str:
    """Make a Shared Access Signature token for a namespace or hybrid connection.

    Args:
        resource: What the token opens, in the clear, as an ``http`` address without a port:
            ``http://contoso.servicebus.windows.net/orders/``. A namespace address opens every
            hybrid connection in it. `resource_of` makes one.
        key_name: Name of the rule that holds the key (``skn``).
        key: The rule's key as the portal shows it. The protocol signs with its UTF-8 text, and
            does not decode it as base64.
        expires_at: Expiry as Unix time, UTC, in whole seconds (``se``).

    Returns:
        ``SharedAccessSignature sr=...&sig=...&se=...&skn=...``, ready for a header.

    Raises:
        ValueError: ``expires_at`` is not positive.

    Protocol:
        Clause 20; checked by tests/vectors/sas.json.
    """
    if expires_at <= 0:
        raise ValueError(f"expires_at is {expires_at}, and must be a time after 1970")
    quoted = quote(resource, safe="")
    signature = quote(_signature(key, f"{quoted}\n{expires_at}"), safe="")
    return f"{PREFIX}sr={quoted}&sig={signature}&se={expires_at}&skn={quote(key_name, safe='')}"


def resource_of(host: str, path: str = "") -> str:
    """Give the resource to sign for a hybrid connection, in the form of Microsoft's .NET SDK.

    Args:
        host: The namespace's host name, without a port.
        path: The hybrid connection's name, in the clear; empty for the whole namespace.

    Returns:
        ``http://host/path/``: host in lower case, no port, with the final slash.
    """
    host = host.lower()
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    path = quote(path.strip("/"), safe="/")
    return f"http://{host}/{path}/" if path else f"http://{host}/"


def parse(text: str) -> Token:
    """Take a token apart, without verifying it.

    Field names compare without case and come in any order; unknown fields are ignored.

    Raises:
        MalformedToken: Not a Shared Access Signature, over `MAX_TOKEN_BYTES`, a field is missing
            or there twice, or the expiry is no plain decimal number up to `LAST_EXPIRY`.
    """
    if len(text) > MAX_TOKEN_BYTES:
        raise MalformedToken(f"The token is longer than {MAX_TOKEN_BYTES} bytes.")
    if not text.isascii():
        raise MalformedToken("The token has characters outside ASCII.")
    text = text.strip(" ")
    if text[: len(PREFIX)].lower() != _PREFIX_LOWER:
        raise MalformedToken("The token does not begin with 'SharedAccessSignature'.")

    fields: dict[str, str] = {}
    for piece in text[len(PREFIX) :].split("&"):
        if not piece:
            continue
        name, equals, value = piece.partition("=")
        name = name.strip().lower()
        if not equals:
            raise MalformedToken("A field of the token has no '='.")
        if name in fields:
            raise MalformedToken("A field of the token is there twice.")
        fields[name] = value
    try:
        resource, signature = fields["sr"], fields["sig"]
        expiry, key_name = fields["se"], decode(fields["skn"])
    except KeyError as error:
        raise MalformedToken(f"The token has no field {error}.") from None

    if not resource or not signature or not key_name:
        raise MalformedToken("A field of the token is empty.")
    if len(key_name) > MAX_NAME_CHARACTERS:
        raise MalformedToken(f"The key name is longer than {MAX_NAME_CHARACTERS} characters.")
    if len(expiry) > 20 or not expiry.isdigit() or (expires_at := int(expiry)) > LAST_EXPIRY:
        raise MalformedToken("The expiry 'se' is not a time in Unix seconds.")
    return Token(
        resource_quoted=resource,
        resource=decode(resource),
        # Base64 has a plus sign, and no blank: one that a client forgot to quote is taken as meant.
        signature=_decoded(signature),
        expires_at=expires_at,
        key_name=key_name,
        signed_text=f"{resource}\n{expiry}",
    )


def has_valid_signature(token: Token, keys: Iterable[Secret | str]) -> bool:
    """Whether one of the keys made the token's signature. Says nothing of expiry or resource.

    All keys are tried, in a time that does not tell which one fits. An empty key never does.
    Clauses 20, 21, 32.
    """
    signature = token.signature.encode()
    is_valid = False
    for key in keys:
        text = key.reveal() if isinstance(key, Secret) else key
        matches = hmac.compare_digest(_signature(text, token.signed_text), signature)
        is_valid |= matches and bool(text)
    return is_valid


class Resource(NamedTuple):
    """What a token opens (``sr``), taken apart: an address whose path has one reading only."""

    scheme: str
    """``http``, ``https``, ``sb``, ``ws`` or ``wss``. Not compared."""

    host: str
    """Lower case, no port; an IPv6 address without brackets."""

    port: str
    """As it stands there, empty for none. Not compared."""

    segments: tuple[str, ...]
    """The path, split at the slashes and decoded; empty for a whole namespace."""

    query: str
    """Query and fragment, as they came. Not compared."""

    def opens(self, path_segments: Sequence[str]) -> bool:
        """Whether the path is a prefix of another one: whole segments, case ignored."""
        own = self.segments
        if len(own) > len(path_segments):
            return False
        for segment, asked in zip(own, path_segments, strict=False):
            if segment != asked and not _equal_ignoring_case(segment, asked):
                return False
        return True

    def opens_only_below(self, path_segments: Sequence[str]) -> bool:
        """Whether it names one request, below a path: it opens that, and not the path itself."""
        above = self._replace(segments=self.segments[: len(path_segments)])
        return len(self.segments) > len(path_segments) and above.opens(path_segments)


def parse_resource(text: str) -> Resource:
    """Take apart what a token opens. Section 3.3.

    Args:
        text: The resource, decoded once, as in `Token.resource`.

    Raises:
        InvalidAudience: It opens nothing: no address, or one that no honest client signs, with
            user information, dot segments, empty segments inside, an encoded slash, backslash or
            NUL, or bytes that are no UTF-8. The message says which, in one sentence.
    """
    scheme, mark, rest = text.partition("://")
    scheme = scheme.lower()
    if not mark or scheme not in SCHEMES:
        raise InvalidAudience("The resource does not begin with http://, https:// or sb://.")
    compared = rest.partition("#")[0].partition("?")[0]
    authority, _, path = compared.partition("/")
    host, port = _split_authority(authority)
    path = path.strip("/")
    segments = _segments(path) if path else ()
    return Resource(scheme, host, port, segments, rest[len(compared) :])


def covers(token: Token, hosts: Collection[str], path_segments: Sequence[str]) -> bool:
    """Whether the token's resource opens a path of a namespace. Clauses 22 to 29.

    Scheme, port, query and fragment are not compared. The resource's path must be a prefix of the
    asked one, whole segments, case ignored; the namespace's root is a prefix of every path.

    Args:
        token: A token from `parse`.
        hosts: The namespace's host names, in lower case, without ports or brackets.
        path_segments: The path asked for with its suffix, decoded.

    Returns:
        False also for a resource that `parse_resource` refuses.
    """
    try:
        resource = parse_resource(token.resource)
    except InvalidAudience:
        return False
    return resource.host in hosts and resource.opens(path_segments)


def _segments(path: str) -> tuple[str, ...]:
    segments = path.split("/")
    if "%" in path:
        segments = [unquote(segment) if "%" in segment else segment for segment in segments]
    for segment in segments:
        if segment in _NEVER_SEGMENTS:
            kind = "a dot segment" if segment else "an empty segment"
            raise InvalidAudience(f"The path of the resource has {kind}.")
        if not _NEVER_IN_SEGMENTS.isdisjoint(segment):
            raise InvalidAudience(
                "The path of the resource has an encoded slash, a backslash, a NUL or no UTF-8."
            )
    return tuple(segments)


_NEVER_SEGMENTS = frozenset({"", ".", ".."})
# Whatever is no UTF-8 decodes to U+FFFD: all of it would be equal, and open one another.
_NEVER_IN_SEGMENTS = frozenset("/\\\0\ufffd")


def _equal_ignoring_case(one: str, other: str) -> bool:
    # Only ASCII letters have two cases here: 'K' (the Kelvin sign) is not 'k'.
    return one.isascii() and other.isascii() and one.lower() == other.lower()


def _split_authority(authority: str) -> tuple[str, str]:
    if "@" in authority:
        raise InvalidAudience("The resource has user information in front of its host.")
    if authority.startswith("["):
        host, bracket, port = authority[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise InvalidAudience("The host of the resource is not an IPv6 address in brackets.")
        port = port[1:]
    else:
        host, _, port = authority.partition(":")
    if not host:
        raise InvalidAudience("The resource has no host.")
    if not host.isascii():
        raise InvalidAudience("The host of the resource has characters outside ASCII.")
    if port and not (port.isascii() and port.isdigit()):
        raise InvalidAudience("The port of the resource is not a number.")
    return host.lower(), port


def decode(text: str) -> str:
    """Decode a field of a token once, as a form has it: a plus sign is a blank."""
    return _decoded(text.replace("+", " "))


def _decoded(text: str) -> str:
    # The same as `unquote`, in half its time.
    return unquote_to_bytes(text).decode("utf-8", "replace") if "%" in text else text


def signature_text(token: Token, key: Secret) -> str:
    """Give the signature that a key makes for a token's fields, in base64, not quoted."""
    return _signature(key.reveal(), token.signed_text).decode()


def _signature(key: str, text: str) -> bytes:
    digest = hmac.digest(key.encode("utf-8", "surrogatepass"), text.encode(), "sha256")
    return base64.b64encode(digest)
