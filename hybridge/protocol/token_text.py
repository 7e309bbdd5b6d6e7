"""A token as people paste it: what stands around it, and what was pasted instead of one."""

from __future__ import annotations

import enum
import html
import re
from dataclasses import dataclass
from urllib.parse import unquote, unquote_plus

from hybridge.protocol.sas import PREFIX
from hybridge.protocol.token_faults import Fault, Part, Refusal

MAX_TEXT_CHARACTERS = 16_384
"""Longest text that is looked into: a token is at most a quarter of it, and may be quoted twice."""

MAX_LAYERS = 6
"""How many layers around a token are taken away: quotation marks, a header's name, quoting."""


class Kind(enum.Enum):
    """What a text turned out to be."""

    SHARED_ACCESS_SIGNATURE = "Shared Access Signature"
    JWT = "JSON Web Token, as of Entra ID"
    CONNECTION_STRING = "connection string"
    KEY = "key"
    OBJECT_NAME = "name of a Java object"
    NOTHING = "nothing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwrapped:
    """A text without what does not belong to it."""

    kind: Kind

    text: str
    """What is left: a token, if `kind` says so. It may hold a secret."""

    faults: tuple[Fault, ...]
    """What had to be taken away or mended; a relay would refuse each of these."""


def unwrap(text: str) -> Unwrapped:
    """Find the token in a text.

    Blanks and line ends around it do not count. Everything else that is not the token becomes a
    fault, and what is inside is looked at.

    Args:
        text: What was pasted, at most `MAX_TEXT_CHARACTERS`; longer text is of kind ``UNKNOWN``.
    """
    faults: list[Fault] = []
    text = text.lstrip("\ufeff").strip()
    if len(text) > MAX_TEXT_CHARACTERS:
        problem = f"the text is longer than {MAX_TEXT_CHARACTERS} characters"
        return Unwrapped(kind=Kind.UNKNOWN, text="", faults=(_fault(problem, _EXAMPLE),))
    for _ in range(MAX_LAYERS):
        for peel in _LAYERS:
            inner = peel(text)
            if inner is not None and inner[0] != text:
                text, fault = inner[0].strip(), inner[1]
                faults.append(fault)
                break
        else:
            break
    kind = _kind_of(text)
    if kind is not Kind.SHARED_ACCESS_SIGNATURE:
        faults.append(_NO_TOKEN[kind])
    return Unwrapped(kind=kind, text=text, faults=tuple(faults))


def looks_like_key(text: str) -> bool:
    """Whether a text has the form of a generated key: base64 of 32 bytes."""
    return _KINDS[Kind.KEY].match(text) is not None


def _kind_of(text: str) -> Kind:
    if not text:
        return Kind.NOTHING
    if text[: len(PREFIX)].lower() == PREFIX.lower() or text.lower() == PREFIX.strip().lower():
        return Kind.SHARED_ACCESS_SIGNATURE
    for kind, pattern in _KINDS.items():
        if pattern.match(text):
            return kind
    return Kind.UNKNOWN


_KINDS = {
    Kind.JWT: re.compile(r"(?:Bearer\s+)?eyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?\Z", re.I),
    Kind.CONNECTION_STRING: re.compile(
        r"(?:.*;)?\s*(?:Endpoint|SharedAccessKey(?:Name)?)\s*=", re.I
    ),
    Kind.KEY: re.compile(r"[A-Za-z0-9+/]{43}=\Z"),
    Kind.OBJECT_NAME: re.compile(r"(?:[a-z]\w*\.)+\w+(?:\$\w+)*@[0-9a-f]+\Z", re.I),
}


def _fault(problem: str, remedy: str, refusal: Refusal = Refusal.MALFORMED) -> Fault:
    return Fault(part=Part.FORM, refusal=refusal, problem=problem, remedy=remedy)


_EXAMPLE = "give one token: SharedAccessSignature sr=...&sig=...&se=...&skn=..."
_NO_TOKEN = {
    Kind.JWT: _fault(
        "it is a JSON Web Token, as Entra ID makes them, and no Shared Access Signature",
        "Azure takes it, Hybridge does not: use a rule's name and key",
    ),
    Kind.CONNECTION_STRING: _fault(
        "it is a connection string, and no token",
        "make one with: hybridge token create --connection-string; it is not looked into further",
    ),
    Kind.KEY: _fault(
        "it looks like a key, and is no token",
        "sign with it: hybridge token create --connection-string; if somebody saw it, renew it",
    ),
    Kind.OBJECT_NAME: _fault(
        "it is the name of an object in memory, as Microsoft's Java library renews tokens",
        "send the token's text, not the object that makes tokens",
    ),
    Kind.NOTHING: _fault("there is no token", _EXAMPLE, Refusal.MISSING),
    Kind.UNKNOWN: _fault("it does not begin with 'SharedAccessSignature'", _EXAMPLE),
}

# --- Layers, outermost first: each gives what is inside and why it must not stay there ------------

_Layer = tuple[str, Fault] | None

_QUOTATION_MARKS = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u201e": "\u201c", "<": ">"}
_HEADER = re.compile(r"(?:-H\s*)?['\"]?([A-Za-z-]*Authorization)\s*:\s*", re.I)
_PARAMETER = re.compile(r"(?:.*[?&])?sb-hc-token=([^&#\s]*).*", re.I | re.S)
_READY = re.compile(
    r"(?:.*;)?\s*SharedAccessSignature\s*=\s*(SharedAccessSignature\s[^;]*).*", re.I | re.S
)
_QUOTED = re.compile(r"SharedAccessSignature(?:%20|%2520|\+|%2B)", re.I)
_JSON_ESCAPE = re.compile(r"\\u00(26|2b|3d|2f|27)", re.I)


def _out_of_quotation_marks(text: str) -> _Layer:
    end = _QUOTATION_MARKS.get(text[:1])
    if end is None:
        return None
    inner = text[1:].removesuffix(end)
    return inner, _fault("there are quotation marks around it", "leave them out")


def _after_header(text: str) -> _Layer:
    found = _HEADER.match(text)
    if found is None:
        return None
    return text[found.end() :], _fault(
        f"the header's name '{found[1]}:' stands in front of it", "the token is only what follows"
    )


def _out_of_parameter(text: str) -> _Layer:
    found = _PARAMETER.fullmatch(text) if "sb-hc-token=" in text.lower() else None
    if found is None:
        return None
    return unquote_plus(found[1]), _fault(
        "it is the parameter 'sb-hc-token' of an address", "the token is its value, unquoted once"
    )


def _out_of_connection_string(text: str) -> _Layer:
    found = _READY.fullmatch(text)
    if found is None:
        return None
    return found[1], _fault(
        "it is a connection string with a token inside",
        "the token is what follows 'SharedAccessSignature='",
    )


def _after_bearer(text: str) -> _Layer:
    if not text.lower().startswith("bearer sharedaccesssignature"):
        return None
    return text[len("bearer ") :], _fault(
        "'Bearer' stands in front of it", "a Shared Access Signature has no scheme but its own"
    )


def _unquoted(text: str) -> _Layer:
    if not _QUOTED.match(text):
        return None
    plus = text[len(PREFIX) - 1] == "+"
    return unquote_plus(text) if plus else unquote(text), _fault(
        "the whole token is URL-encoded once more", "only the values of its fields are URL-encoded"
    )


def _out_of_html(text: str) -> _Layer:
    if "&amp;" not in text.lower():
        return None
    return html.unescape(text.replace("&AMP;", "&amp;")), _fault(
        "it has '&amp;' in place of '&'", "copy it from plain text, not from HTML"
    )


def _out_of_json(text: str) -> _Layer:
    if not _JSON_ESCAPE.search(text):
        return None
    return _JSON_ESCAPE.sub(lambda found: chr(int(found[1], 16)), text), _fault(
        r"it has JSON's escapes, such as \u0026, in it", "read the JSON first, and take its text"
    )


def _on_one_line(text: str) -> _Layer:
    if len(text.splitlines()) < 2 or not text.lower().startswith(PREFIX.strip().lower()):
        return None
    lines = [line.strip() for line in text.splitlines()]
    if lines[0].lower() == PREFIX.strip().lower():
        lines[0] += " "
    return "".join(lines), _fault("it is broken into several lines", "put it on one line")


def _with_its_prefix(text: str) -> _Layer:
    if not re.match(r"(?:sr|sig|se|skn)=", text, re.I) or "&" not in text:
        return None
    return PREFIX + text, _fault(
        "'SharedAccessSignature' and a blank are missing in front", "put them there"
    )


_LAYERS = (
    _out_of_quotation_marks,
    _after_header,
    _out_of_json,
    _out_of_html,
    _out_of_connection_string,
    _out_of_parameter,
    _after_bearer,
    _unquoted,
    _on_one_line,
    _with_its_prefix,
)
