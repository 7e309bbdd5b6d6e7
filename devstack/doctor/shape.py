"""The shape of a connection string: what people paste in its place."""

from __future__ import annotations

import re

from devstack.doctor.case import Role
from devstack.doctor.faults import Fault
from devstack.doctor.finding import Check, Finding, fail, ok, warn
from hybridge.protocol import connection_string
from hybridge.protocol.connection_string import ConnectionString
from hybridge.protocol.errors import MalformedConnectionString
from hybridge.protocol.redaction import one_line
from hybridge.protocol.token_text import looks_like_key

AZURE_KEY_CHARACTERS = 44
"""Length of a key as Azure and our relay make it: 32 bytes in base64."""

_KEY_ALPHABET = re.compile(r"[A-Za-z0-9+/]+=*")

_QUOTES = tuple("'\"`\u201c\u201d\u2018\u2019\u00ab\u00bb")
"""Quotation marks, those of word processors included."""

_PLACEHOLDERS = re.compile(
    r"<[^;<>]+>|\{[^;{}]+\}|\$\w+|\$\(|(?<![\w%])%[a-z_]\w+%(?!\w)"
    r"|SAS_KEY_VALUE|YOUR[-_ ]|\*{3,}|\.{3}|…"
    r"|=\s*(?:KEY|HOST|RULE|NAME|xxx+)\s*(?:;|$)|//(?:HOST|NAMESPACE)\b",
    re.IGNORECASE,
)

_OURS = re.compile("Endpoint|SharedAccess|EntityPath", re.IGNORECASE)

_NO_HOST = re.compile(r"Endpoint\s*=\s*(?:sb:?/?/?)?\s*/?\s*(?:;|$)", re.IGNORECASE)

_OTHER_SERVICES = (
    (r"(?:^|;)\s*(?:DefaultEndpointsProtocol|AccountKey)\s*=", "Azure Storage"),
    (r"(?:^|;)\s*AccountEndpoint\s*=", "Azure Cosmos DB"),
    (r"(?:^|;)\s*HostName\s*=", "Azure IoT Hub"),
    (r"Endpoint\s*=\s*https://[^;]*\.service\.signalr\.net", "Azure SignalR"),
    (r"(?:^|;)\s*(?:Server|Data Source|Initial Catalog)\s*=", "SQL Server"),
    (r"^\s*(?:postgres(?:ql)?|mysql|mongodb(?:\+srv)?|redis|amqps?|mssql)://", "a database"),
)


def read(text: str, role: Role | None) -> tuple[Finding, ConnectionString | None]:
    """Read a connection string, and say what is wrong with its shape.

    Args:
        text: As it was given.
        role: A listener needs a key.

    Returns:
        The finding, and the connection string; None where it cannot be used.
    """
    try:
        given = connection_string.parse(text)
    except MalformedConnectionString as error:
        return _explained(text, error), None
    if given.path is None and is_odd_key(given) and text.strip().endswith(_key(given)):
        return fail(Fault.TRUNCATED_STRING, "it ends inside the key"), None
    if given.path is None:
        return fail(Fault.NO_ENTITY_PATH, f"it is the string of the namespace {given.host}"), None
    if placeholder := _placeholder(text):
        return fail(Fault.PLACEHOLDER, placeholder), None
    if given.is_anonymous and role is Role.LISTENER:
        return fail(Fault.NO_KEY), None
    if is_odd_key(given):
        odd = f"the key has {len(_key(given))} characters; Azure's have {AZURE_KEY_CHARACTERS}"
        if len(_key(given)) == AZURE_KEY_CHARACTERS:
            odd = "the key has characters that Azure's have not"
        return warn(Fault.ODD_KEY, odd), given
    return ok(Check.CONNECTION_STRING, _described(given)), given


def is_odd_key(given: ConnectionString) -> bool:
    """Whether the key is not of the form in which Azure makes them. A relay may take it yet."""
    key = _key(given)
    if not key:
        return False
    return len(key) != AZURE_KEY_CHARACTERS or not _KEY_ALPHABET.fullmatch(key)


def _key(given: ConnectionString) -> str:
    return given.key.reveal() if given.key is not None else ""


def _described(given: ConnectionString) -> str:
    if given.is_anonymous:
        return "it has no key: enough where senders need none"
    if given.token is not None:
        return "it holds a token that was made elsewhere"
    return f"of rule {rule_name(given)}"


def rule_name(given: ConnectionString) -> str:
    """Show the name of the rule; not what stands in its place and looks like a key."""
    name = given.key_name or ""
    return "*** (it looks like a key)" if looks_like_key(name) else f"'{one_line(name)}'"


def _explained(text: str, error: MalformedConnectionString) -> Finding:
    """Name the fault of a text that cannot be parsed. The parser's words, where they fit."""
    text = text.strip()
    problem = str(error).removeprefix("connection string: ")
    if re.match(r"\s*['\"]?hc://", text, re.IGNORECASE) or re.search(
        r"SharedSecret(?:Issuer|Value)\s*=", text, re.IGNORECASE
    ):
        return fail(Fault.BIZTALK_STRING)
    for pattern, service in _OTHER_SERVICES:
        if re.search(pattern, text, re.IGNORECASE):
            return fail(Fault.WRONG_SERVICE, f"it is a connection string of {service}")
    if text[:1] in _QUOTES or text[-1:] in _QUOTES:
        return fail(Fault.QUOTED_STRING)
    if placeholder := _placeholder(text):
        return fail(Fault.PLACEHOLDER, placeholder)
    if not text or _is_cut(text, problem):
        return fail(Fault.TRUNCATED_STRING, problem)
    if not _OURS.search(text):
        what = "it is a key alone" if looks_like_key(text) else Fault.MALFORMED_STRING.meaning
        return fail(Fault.MALFORMED_STRING, what)
    if "is not a known property" in problem:
        return fail(Fault.UNKNOWN_PROPERTY, problem, next_step=error.hint)
    return fail(Fault.MALFORMED_STRING, problem, next_step=error.hint)


def _is_cut(text: str, problem: str) -> bool:
    """Whether the beginning, the end or the middle of a string is missing."""
    if _OURS.search(text) is None:
        return False
    return _NO_HOST.search(text) is not None or any(
        said in problem for said in ("has no Endpoint", "is there and", "is empty", "has no '='")
    )


def _placeholder(text: str) -> str:
    """Say which part of a string nobody filled in; empty if there is none."""
    # What a token may hold looks like anything.
    text = re.sub(r"SharedAccessSignature\s*=[^;]*", "", text, flags=re.IGNORECASE)
    found = _PLACEHOLDERS.search(text)
    if found is None:
        return ""
    before = text[: found.start() + 1].rpartition(";")[2]
    name = before.partition("=")[0].strip() if "=" in before else ""
    known = name.lower() in ("endpoint", "entitypath", "sharedaccesskeyname", "sharedaccesskey")
    return f"{name if known else 'it'} is still the text of an example"
