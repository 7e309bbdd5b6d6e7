"""What a token opens, decided a second time: from the specification's text, simple and slow.

It shares no code with the relay, works on bytes, and knows only plain tuples and dictionaries. The
relay and it are asked the same questions in `tests/relay/core/test_sas_oracle.py`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Keys = tuple[str, str]
"""Primary and secondary."""


@dataclass(frozen=True)
class Served:
    """A namespace and one of its hybrid connections."""

    hosts: tuple[str, ...]
    namespace_rules: Mapping[str, tuple[str, Keys]]
    """By name: the rights as a text, such as ``Listen,Send``, and the keys."""

    entities: Mapping[str, Mapping[str, tuple[str, Keys]]] = field(default_factory=dict)
    """By name: its rules."""


@dataclass(frozen=True)
class Signed:
    """The fields of a token that can be read."""

    sr: str
    sig: bytes
    se: str
    skn: str


def decide(served: Served, token: str | None, path: str, *, right: str, now: float) -> str:
    """Give the rule that opens a path for a right, after ``+``; else what refuses the token.

    Args:
        served: What there is.
        token: As it came.
        path: As it stands in a request, without ``$hc`` and query.
        right: ``Listen`` or ``Send``.
        now: Unix time.
    """
    if not token:
        return "MissingToken"
    signed = _fields_of(token)
    if signed is None:
        return "MalformedToken"

    # 3.4: first among the entity's rules, then among the namespace's.
    levels: list[Mapping[str, tuple[str, Keys]]] = [served.namespace_rules]
    entity = entity_of(served, path)
    if entity is not None:
        levels.insert(0, served.entities[entity])
    found = None
    for rules in levels:
        for name, (rights, keys) in rules.items():
            if (
                found is None
                and name.lower() == signed.skn.lower()
                and any(key and signature_of(key, signed) == signed.sig for key in keys)
            ):
                found = (name, rights)
    if found is None:
        return "InvalidSignature"
    # 3.3, step 4: a listener asks for the entity itself, whatever follows in its address.
    asked = entity if right == "Listen" and entity is not None else path
    if not _opens(served, signed.sr, asked):
        return "InvalidAudience"
    if int(signed.se) <= now:
        return "ExpiredToken"
    name, rights = found
    return f"+{name}" if right in rights or "Manage" in rights else "ClaimMissing"


def signature_of(key: str, signed: Signed) -> bytes:
    """RFC 2104 with SHA-256, written out, over the text of section 3.1; in base64."""
    secret = key.encode()
    if len(secret) > 64:
        secret = hashlib.sha256(secret).digest()
    secret = secret.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in secret))
    inner.update(signed.sr.encode() + b"\n" + signed.se.encode())
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in secret))
    outer.update(inner.digest())
    return base64.b64encode(outer.digest())


def entity_of(served: Served, path: str) -> str | None:
    """Section 1.2: the longest name that is a prefix of the path, in whole segments."""
    asked = [_percent_decoded(piece) for piece in path.strip("/").split("/")]
    best = None
    for name in served.entities:
        own = [piece.encode() for piece in name.split("/")]
        if _is_prefix(own, asked) and (best is None or len(name) > len(best)):
            best = name
    return best


def _fields_of(token: str) -> Signed | None:
    if len(token) > 4_096 or any(ord(char) > 127 for char in token):
        return None
    match = re.fullmatch("sharedaccesssignature (.*)", token.strip(" "), re.IGNORECASE | re.DOTALL)
    if match is None:
        return None
    pieces = [piece for piece in match[1].split("&") if piece]
    if not all("=" in piece for piece in pieces):
        return None
    pairs = [(name.strip().lower(), value) for name, _, value in (p.partition("=") for p in pieces)]
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        return None
    values = dict(pairs)
    sr, sig, se, skn = (values.get(name, "") for name in ("sr", "sig", "se", "skn"))
    name = _percent_decoded(skn.replace("+", " ")).decode(errors="replace")
    if not (sr and sig and name and len(name) <= 256):
        return None
    if not re.fullmatch("[0-9]{1,20}", se) or int(se) >= 253_402_300_800:
        return None
    return Signed(sr, _percent_decoded(sig), se, name)


def _opens(served: Served, sr: str, path: str) -> bool:
    """Section 3.3."""
    uri = _percent_decoded(sr.replace("+", " "))
    match = re.fullmatch(
        rb"(?:https?|sb|wss?)://(\[[^\]/?#@]*\]|[^:/?#@\[\]]*)(?::[0-9]*)?(/[^?#]*)?(?:[?#].*)?",
        uri,
        re.IGNORECASE | re.DOTALL,
    )
    if match is None:
        return False
    host = match[1].lower()
    if host not in [_in_brackets(name) for name in served.hosts]:
        return False
    resource = (match[2] or b"").strip(b"/")
    if not resource:
        return True
    own = [_percent_decoded(piece.decode("latin-1"), "latin-1") for piece in resource.split(b"/")]
    for piece in own:
        if piece in (b"", b".", b"..") or any(bad in piece for bad in (b"/", b"\\", b"\0")):
            return False
        try:
            if "\ufffd" in piece.decode():  # Decided: what stands for bytes that are no text.
                return False
        except UnicodeDecodeError:
            return False
    asked = [_percent_decoded(piece) for piece in path.strip("/").split("/")]
    return _is_prefix(own, asked)


def _in_brackets(host: str) -> bytes:
    return f"[{host}]".encode() if ":" in host else host.encode()


def _is_prefix(own: Sequence[bytes], asked: Sequence[bytes]) -> bool:
    # bytes.lower() knows the letters of ASCII only, and that is what is wanted.
    return len(own) <= len(asked) and all(
        one.lower() == other.lower() if one.isascii() else one == other
        for one, other in zip(own, asked, strict=False)
    )


def _percent_decoded(text: str, encoding: str = "utf-8") -> bytes:
    decoded = bytearray()
    at = 0
    while at < len(text):
        if re.match("%[0-9A-Fa-f]{2}", text[at:]):
            decoded.append(int(text[at + 1 : at + 3], 16))
            at += 3
        else:
            decoded += text[at].encode(encoding)
            at += 1
    return bytes(decoded)
