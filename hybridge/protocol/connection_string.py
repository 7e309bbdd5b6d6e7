"""Connection strings: what a user copies from the portal, or from the relay."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hybridge.protocol import address, sas
from hybridge.protocol.errors import MalformedAddress, MalformedConnectionString
from hybridge.protocol.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_OPERATION_TIMEOUT_SECONDS = 60.0

MAX_CONNECTION_STRING_CHARACTERS = 16_384
"""Longest text that is looked into."""

MAX_LABEL_CHARACTERS = 63
"""Longest part between two dots of a host's name (RFC 1035)."""

_PROPERTIES: Final = (
    "Endpoint",
    "EntityPath",
    "SharedAccessKeyName",
    "SharedAccessKey",
    "SharedAccessSignature",
    "OperationTimeout",
    "Authentication",
    "UseDevelopmentEmulator",
)
_BY_LOWER_NAME = {name.lower(): name for name in _PROPERTIES}
_EXAMPLE = (
    "write Endpoint=sb://HOST/;SharedAccessKeyName=RULE;SharedAccessKey=KEY;EntityPath=NAME, "
    "as the portal and 'hybridge-relay connection-strings' show it"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionString:
    """A connection string, read and checked."""

    host: str
    """Namespace host in lower case; an IPv6 address without brackets."""

    port: int = address.DEFAULT_PORT

    path: str | None = None
    """Name of the hybrid connection (``EntityPath``); None for a whole namespace."""

    key_name: str | None = None
    """Name of the rule, with `key`."""

    key: Secret | None = None

    token: Secret | None = None
    """A token made elsewhere (``SharedAccessSignature``), instead of a key."""

    operation_timeout_seconds: float = DEFAULT_OPERATION_TIMEOUT_SECONDS

    @property
    def endpoint(self) -> str:
        """The namespace as ``sb://host[:port]/``."""
        return f"sb://{address.authority(self.host, self.port)}/"

    @property
    def is_anonymous(self) -> bool:
        """Whether it holds neither key nor token: enough for senders where none is asked for."""
        return self.key is None and self.token is None

    def required_path(self) -> str:
        """Give the name of the hybrid connection.

        Raises:
            MalformedConnectionString: There is none.
        """
        if self.path is None:
            raise MalformedConnectionString(
                "it names no hybrid connection", hint="add ;EntityPath=NAME at the end"
            )
        return self.path


def parse(text: str) -> ConnectionString:
    """Read a connection string. Section 2 of the specification, as the .NET SDK does it.

    Names compare without case, in any order. ``UseDevelopmentEmulator``, which Microsoft's own
    emulators ask for, is taken and means nothing.

    Raises:
        MalformedConnectionString: It cannot be used; the message and hint say why and what to do,
            and show no key.
    """
    text = text.strip()
    if not text:
        raise MalformedConnectionString("it is empty", hint=_EXAMPLE)
    if len(text) > MAX_CONNECTION_STRING_CHARACTERS:
        raise MalformedConnectionString("it is too long to be one", hint=_EXAMPLE)
    if text.lower().startswith("hc://"):
        raise MalformedConnectionString(
            "it is one of the retired BizTalk hybrid connections",
            hint="create a hybrid connection in an Azure Relay namespace and copy its string",
        )
    fields = _split(text)
    _check_together(fields)
    host, port = _parse_endpoint(fields.get("Endpoint"))
    path = fields.get("EntityPath")
    key, token = fields.get("SharedAccessKey"), fields.get("SharedAccessSignature")
    return ConnectionString(
        host=host,
        port=port,
        path=None if path is None else _parse_path(path),
        key_name=fields.get("SharedAccessKeyName"),
        key=None if key is None else Secret(key),
        token=None if token is None else Secret(token),
        operation_timeout_seconds=_parse_timeout(fields.get("OperationTimeout")),
    )


def serialize(connection_string: ConnectionString) -> str:
    """Write a connection string: Endpoint, SharedAccessKeyName, SharedAccessKey, EntityPath.

    A ready token stands in the place of the key. No trailing semicolon; the port and the operation
    timeout only where they are not the usual ones. This is the one place that shows the key.
    """
    parts = [f"Endpoint={connection_string.endpoint}"]
    if connection_string.key_name is not None and connection_string.key is not None:
        parts.append(f"SharedAccessKeyName={connection_string.key_name}")
        parts.append(f"SharedAccessKey={connection_string.key.reveal()}")
    if connection_string.token is not None:
        parts.append(f"SharedAccessSignature={connection_string.token.reveal()}")
    if connection_string.path is not None:
        parts.append(f"EntityPath={connection_string.path}")
    if connection_string.operation_timeout_seconds != DEFAULT_OPERATION_TIMEOUT_SECONDS:
        timeout = _serialize_timeout(connection_string.operation_timeout_seconds)
        parts.append(f"OperationTimeout={timeout}")
    return ";".join(parts)


def token_for(connection_string: ConnectionString, *, expires_at: int) -> str | None:
    """Give a token for what the connection string names: the ready one, or a new one.

    Args:
        connection_string: Its key signs; without ``EntityPath`` for the whole namespace.
        expires_at: Expiry of a new token, Unix time in seconds.

    Returns:
        The token, or None for an anonymous connection string.
    """
    if connection_string.token is not None:
        return connection_string.token.reveal()
    if connection_string.key is None or connection_string.key_name is None:
        return None
    return sas.sign(
        sas.resource_of(connection_string.host, connection_string.path or ""),
        key_name=connection_string.key_name,
        key=connection_string.key.reveal(),
        expires_at=expires_at,
    )


def _split(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for number, part in enumerate(text.split(";"), start=1):
        if not part.strip():
            continue
        name, equals, value = part.partition("=")
        if not equals:
            # The part may be the rest of a key, so it is counted and not shown.
            raise MalformedConnectionString(f"part {number} has no '='", hint=_EXAMPLE)
        known = _BY_LOWER_NAME.get(name.strip().lower())
        if known is None:
            raise _unknown_property(number, name.strip())
        if known in fields:
            raise MalformedConnectionString(f"{known} is there twice", hint="keep one of them")
        value = value.strip()
        if not value:
            raise MalformedConnectionString(f"{known} is empty", hint=_EXAMPLE)
        if not value.isprintable():
            raise MalformedConnectionString(
                f"{known} has characters that cannot be printed", hint="copy the string again"
            )
        fields[known] = value
    return fields


def _unknown_property(number: int, name: str) -> MalformedConnectionString:
    if name.lower() in ("sharedsecretissuer", "sharedsecretvalue"):
        return MalformedConnectionString(
            f"{name} belongs to the retired access control service",
            hint="use a rule's SharedAccessKeyName and SharedAccessKey",
        )
    if name.startswith(("'", '"')):
        return MalformedConnectionString(
            "it begins with a quotation mark", hint="remove the quotation marks around it"
        )
    near = difflib.get_close_matches(name.lower(), _BY_LOWER_NAME, n=1, cutoff=0.7)
    if near:
        return MalformedConnectionString(
            f"part {number} is not a known property",
            hint=f"did you mean {_BY_LOWER_NAME[near[0]]}?",
        )
    return MalformedConnectionString(
        f"part {number} is not a known property",
        hint=f"the properties are {', '.join(_PROPERTIES[:6])}",
    )


def _check_together(fields: Mapping[str, str]) -> None:
    has_name, has_key = "SharedAccessKeyName" in fields, "SharedAccessKey" in fields
    has_token = "SharedAccessSignature" in fields
    if authentication := fields.get("Authentication"):
        if authentication.lower() not in ("managed identity", "managedidentity"):
            raise MalformedConnectionString(
                "Authentication can only be 'Managed Identity'", hint="use a rule's name and key"
            )
        if has_name or has_key or has_token:
            raise MalformedConnectionString(
                "Authentication=Managed Identity cannot stand beside a key or a token",
                hint="remove Authentication",
            )
        raise MalformedConnectionString(
            "Authentication=Managed Identity is not supported",
            hint="use a rule's SharedAccessKeyName and SharedAccessKey",
        )
    if has_token and (has_name or has_key):
        raise MalformedConnectionString(
            "SharedAccessSignature cannot stand beside a key or its name", hint="keep one of them"
        )
    if has_name and not has_key:
        raise MalformedConnectionString(
            "SharedAccessKeyName is there and SharedAccessKey is not", hint="copy the whole string"
        )
    if has_key and not has_name:
        raise MalformedConnectionString(
            "SharedAccessKey is there and SharedAccessKeyName is not", hint="copy the whole string"
        )
    for name in ("SharedAccessKeyName", "SharedAccessKey"):
        if len(fields.get(name, "")) > sas.MAX_NAME_CHARACTERS:
            raise MalformedConnectionString(
                f"{name} is longer than {sas.MAX_NAME_CHARACTERS} characters",
                hint="copy the string again",
            )
    emulator = fields.get("UseDevelopmentEmulator", "true")
    if emulator.lower() not in ("true", "false"):
        raise MalformedConnectionString(
            "UseDevelopmentEmulator is neither true nor false", hint="write true, or leave it out"
        )


def _parse_endpoint(text: str | None) -> tuple[str, int]:
    if text is None:
        raise MalformedConnectionString("it has no Endpoint", hint=_EXAMPLE)
    hint = "write Endpoint=sb://HOST/ or Endpoint=sb://HOST:PORT/"
    scheme, mark, rest = text.partition("://")
    if not mark or scheme.lower() != "sb":
        raise MalformedConnectionString("Endpoint does not begin with sb://", hint=hint)
    if rest.endswith("/"):
        rest = rest[:-1]
    if "/" in rest:
        raise MalformedConnectionString(
            "Endpoint has a path", hint="write the hybrid connection's name as EntityPath"
        )
    try:
        host, port = address.split_authority(rest)
    except MalformedAddress:
        raise MalformedConnectionString("Endpoint names no host", hint=hint) from None
    if ":" not in host and not all(
        0 < len(label) <= MAX_LABEL_CHARACTERS for label in host.removesuffix(".").split(".")
    ):
        raise MalformedConnectionString("Endpoint names no host", hint=hint)
    if port == 0:
        raise MalformedConnectionString("Endpoint has the port 0", hint=hint)
    return host, address.DEFAULT_PORT if port is None else port


def _parse_path(text: str) -> str:
    path = text.strip("/")
    if not address.is_entity_name(path):
        raise MalformedConnectionString(
            "EntityPath is not the name of a hybrid connection",
            hint="names have letters, digits, '.', '-', '_' and single slashes inside",
        )
    return path


_TIMESPAN = re.compile(
    r"(?:(?P<days>[0-9]{1,7})\.)?(?P<hours>[0-9]{1,2}):(?P<minutes>[0-9]{1,2})"
    r"(?::(?P<seconds>[0-9]{1,2}(?:\.[0-9]{1,7})?))?"
)


def _parse_timeout(text: str | None) -> float:
    if text is None:
        return DEFAULT_OPERATION_TIMEOUT_SECONDS
    hint = "write OperationTimeout=00:01:00"
    if re.fullmatch(r"[0-9]{1,9}", text):
        total = float(text)  # Microsoft's Java SDK writes whole seconds.
    else:
        match = _TIMESPAN.fullmatch(text)
        if match is None:
            raise MalformedConnectionString("OperationTimeout is not a time span", hint=hint)
        days, hours, minutes = (int(match[name] or 0) for name in ("days", "hours", "minutes"))
        seconds = float(match["seconds"] or 0)
        if hours > 23 or minutes > 59 or seconds >= 60:
            raise MalformedConnectionString("OperationTimeout is not a time span", hint=hint)
        total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total <= 0:
        raise MalformedConnectionString("OperationTimeout is not more than zero", hint=hint)
    return total


def _serialize_timeout(seconds: float) -> str:
    ticks = round(seconds * 10_000_000)
    whole, fraction = divmod(ticks, 10_000_000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    text = f"{days}." if days else ""
    text += f"{hour:02}:{minute:02}:{second:02}"
    return f"{text}.{fraction:07}" if fraction else text
