"""Why a signature is wrong: the known ways of signing otherwise, tried with the right key.

Clients built on each of them exist. Whoever asks has the key, so nothing is given away.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, unquote

from hybridge.protocol import sas
from hybridge.protocol.errors import InvalidAudience
from hybridge.protocol.secret import Secret

SIGNATURE_BYTES = 32
"""Length of an HMAC-SHA256."""

MIN_PREFIX_CHARACTERS = 8
"""A signature that was cut off is recognised by at least so much of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """What a signer did, and what is right instead."""

    problem: str
    remedy: str


_Variant = tuple[str, str, str]
"""What was signed or keyed with, what the signer did, what is right; the latter two empty for the
right way."""

_KEY_AS_TEXT = "the key is its text as it is shown, in UTF-8; it is not base64 to be decoded"
_SR_AS_SENT = "sign 'sr' exactly as it stands in the token, then a line feed, then 'se'"


def find_mistake(token: sas.Token, key: Secret) -> Mistake | None:
    """Say how a signature was made, if it was made with this key in a way that is known.

    Args:
        token: A token whose signature this key did not make in the right way.
        key: The rule's key.

    Returns:
        The mistakes, fewest first; None if the signature was made with another key, or over other
        fields than those of the token.
    """
    keys = list(_keys(key.reveal()))
    texts = list(_texts(token))
    for digest, how in _digests(token.signature):
        for count in (0, 1, 2):
            for at, (key_bytes, *key_words) in enumerate(keys):
                for at_text, (text, *text_words) in enumerate(texts):
                    if bool(at) + bool(at_text) != count:
                        continue
                    made = hmac.digest(key_bytes, text.encode(), "sha256")
                    if hmac.compare_digest(made, digest):
                        return _told([how, (key_words[0], key_words[1]), tuple(text_words)])
    return _cut_off(token, key)


def describe(signature: str) -> str:
    """Say what is odd about the form of a signature, decoded once; empty if it is right."""
    try:
        size = len(base64.b64decode(signature, validate=True))
    except (binascii.Error, ValueError):
        return "is no base64"
    if size < SIGNATURE_BYTES:
        return f"has {size} bytes in place of {SIGNATURE_BYTES}: the end was cut off"
    if size > SIGNATURE_BYTES:
        return f"has {size} bytes, and an HMAC-SHA256 has {SIGNATURE_BYTES}: another algorithm?"
    return ""


def _told(words: list[tuple[str, ...]]) -> Mistake:
    return Mistake(
        problem=", and ".join(pair[0] for pair in words if pair[0])
        or "its base64 is not in the one form that encoders write",
        remedy="; ".join(dict.fromkeys(pair[1] for pair in words if pair[1])),
    )


def _cut_off(token: sas.Token, key: Secret) -> Mistake | None:
    right = sas.signature_text(token, key)
    given = token.signature
    if len(given) < MIN_PREFIX_CHARACTERS or not hmac.compare_digest(
        right[: len(given)].encode(), given.encode()
    ):
        return None
    return Mistake(
        problem=f"it was cut off after {len(given)} of {len(right)} characters",
        remedy="copy the whole token; in an address '+', '/' and '=' of 'sig' must be URL-encoded",
    )


def _digests(signature: str) -> Iterator[tuple[bytes, tuple[str, str]]]:
    """Read a signature in each way that it may have been written."""
    base64_is_right = "write the HMAC in base64, as A-Z a-z 0-9 + / and =, and URL-encode it once"
    seen = set()
    for text, problem in (
        (signature, ""),
        (unquote(signature), "it is URL-encoded twice"),
        (signature.replace(" ", "+"), "it has blanks in place of '+'"),
        (signature.strip(), "it has blanks or line ends around it"),
        (
            signature.replace("-", "+").replace("_", "/"),
            "it has '-' and '_' in place of '+' and '/'",
        ),
    ):
        for padding in ("", "="):
            try:
                digest = base64.b64decode(text + padding, validate=True)
            except (binascii.Error, ValueError):
                continue
            if len(digest) == SIGNATURE_BYTES and digest not in seen:
                seen.add(digest)
                without = "it has no '=' at its end" if padding else ""
                said = ", and ".join(word for word in (problem, without) if word)
                yield digest, (said, base64_is_right if said else "")
    if re.fullmatch(r"[0-9A-Fa-f]{64}", signature):
        yield bytes.fromhex(signature), ("it is written in hexadecimal digits", base64_is_right)


def _keys(key: str) -> Iterator[tuple[bytes, str, str]]:
    yield _bytes(key), "", ""
    with contextlib.suppress(binascii.Error, ValueError):
        decoded = base64.b64decode(key, validate=True)
        yield decoded, "it was made with the base64-decoded key", _KEY_AS_TEXT
    for other, done in (
        (f"{key}\n", "the key had a line end behind it"),
        (f'"{key}"', "the key stood in quotation marks"),
        (key.rstrip("="), "the '=' at the end of the key was missing"),
        (quote(key, safe=""), "the key was URL-encoded"),
        (base64.b64encode(_bytes(key)).decode(), "the key was encoded in base64 once more"),
    ):
        if other != key:
            yield _bytes(other), done, _KEY_AS_TEXT


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _texts(token: sas.Token) -> Iterator[_Variant]:
    sr, se = token.resource_quoted, token.signed_text.rpartition("\n")[2]
    yield token.signed_text, "", ""
    for text, done in (
        (f"{sr}\n{se}\n", "a line end was signed behind 'se'"),
        (f"{sr}\r\n{se}", "a carriage return was signed between 'sr' and 'se'"),
        (f"{sr}\\n{se}", r"the two characters '\n' were signed in place of a line feed"),
        (f"{sr}{se}", "no line feed was signed between 'sr' and 'se'"),
        (f"{sr} {se}", "a blank was signed between 'sr' and 'se'"),
        (f"{se}\n{sr}", "'se' was signed in front of 'sr'"),
        (sr, "'sr' was signed alone, without 'se'"),
    ):
        yield text, done, _SR_AS_SENT
    for other, done in _other_resources(token):
        if other != sr:
            yield f"{other}\n{se}", done, _SR_AS_SENT


def _other_resources(token: sas.Token) -> Iterator[tuple[str, str]]:
    sr, resource = token.resource_quoted, token.resource
    yield resource, "'sr' was signed before it was URL-encoded"
    yield quote(sr, safe=""), "'sr' was signed URL-encoded twice"
    for other in (_hex_case(quote(resource, safe="")), quote(resource, safe=""), quote(resource)):
        yield other, "'sr' was URL-encoded in another way for signing than for sending"
    yield sr.lower(), "'sr' was signed in lower case, and sent in another"
    try:
        parsed = sas.parse_resource(resource)
    except InvalidAudience:
        return
    path = "/".join(parsed.segments)
    bare = f"[{parsed.host}]" if ":" in parsed.host else parsed.host
    for scheme in ("http", "https", "sb", "wss"):
        for host in (bare, f"{bare}:{parsed.port or 443}"):
            for end in dict.fromkeys((f"/{path}", f"/{path}/", "/", "", f"/$hc/{path}")):
                signed = f"{scheme}://{host}{end}"
                for quoted in (quote(signed, safe=""), _hex_case(quote(signed, safe="")), signed):
                    yield quoted, f"it was made for 'sr' {signed}, and sent with another"


def _hex_case(quoted: str) -> str:
    return re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), quoted)
