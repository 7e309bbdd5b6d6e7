"""Namespace, path and ``sb-hc-*`` parameters, from and to a URL. Section 1 of the specification."""

from __future__ import annotations

import enum
import http
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from hybridge.protocol.errors import MalformedAddress

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

MAX_TARGET_BYTES = 8_192
"""Longest request target of a listener or sender."""

MAX_RENDEZVOUS_TARGET_BYTES = 30_720
"""Longest request target of a rendezvous: the sender's, repaired, and our own part."""

MAX_NAME_CHARACTERS = 260
"""Longest name of a hybrid connection."""

DEFAULT_PORT = 443
"""The port that is left out of addresses."""

PREFIX = "sb-hc-"
"""What the names of all parameters of the protocol begin with."""


class Action(enum.Enum):
    """What a WebSocket handshake is for (``sb-hc-action``)."""

    LISTEN = "listen"
    CONNECT = "connect"
    ACCEPT = "accept"
    REQUEST = "request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A listener's no to a sender, as it stands in the rendezvous address it dials."""

    status: int
    """HTTP status for the sender, 300 to 999."""

    description: str
    """Reason phrase for the sender: not empty, no control characters, any script."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The request target of an HTTP request, taken apart."""

    is_websocket_path: bool
    """Whether the path is under ``/$hc``, where only WebSocket handshakes belong."""

    path: str
    """Hybrid connection and suffix as they came, still quoted, without ``$hc`` and first slash."""

    segments: tuple[str, ...]
    """The same, split at the slashes and decoded; a slash at the end adds no segment."""

    query: str
    """The user's own query, byte for byte, without ``?``: `filter_query` has been applied."""

    action: Action
    """What the handshake is for; `Action.CONNECT` where none is named."""

    parameters: Mapping[str, str]
    """The ``sb-hc-*`` parameters: names in lower case with the prefix, values decoded once."""

    rejection: Rejection | None = None
    """What a listener answers instead of accepting; only with `Action.ACCEPT`."""

    def __repr__(self) -> str:
        # The parameters may hold a token or the secret of a rendezvous, so they stay out.
        return f"Target(action={self.action.value!r}, path={self.path!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dial:
    """Where to connect for a URL, and what to ask for there."""

    host: str
    """Host name in lower case, or IP address without brackets."""

    port: int

    target: str
    """Path and query, for the request line."""

    @property
    def authority(self) -> str:
        """The ``Host`` header: ``host[:port]``, port 443 left out."""
        return authority(self.host, self.port)

    def __repr__(self) -> str:
        # The target may hold a token or the secret of a rendezvous.
        return f"Dial(host={self.host!r}, port={self.port})"


# --- Parts ---------------------------------------------------------------------------------------


def authority(host: str, port: int = DEFAULT_PORT) -> str:
    """Write ``host[:port]``: brackets around IPv6, port 443 left out."""
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return host if port == DEFAULT_PORT else f"{host}:{port}"


def split_authority(text: str) -> tuple[str, int | None]:
    """Read ``host[:port]``, as a ``Host`` header has it.

    Returns:
        The host in lower case without brackets, and the port or None.

    Raises:
        MalformedAddress: It is no host name or IP address, or the port is no number up to 65535.
    """
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise MalformedAddress("The host is not a name or an address with an optional port.")
    host = (match["ip6"] or match["name"]).lower()
    if match["ip6"] and not _is_ip_address(host):
        raise MalformedAddress("The host is not an IPv6 address.")
    port = int(match["port"]) if match["port"] else None
    if port is not None and port > 65_535:
        raise MalformedAddress("The port is over 65535.")
    return host, port


def is_entity_name(text: str) -> bool:
    """Whether a hybrid connection may be called so: ``orders``, ``vendor/machines/7``.

    Letters, digits, ``.``, ``-``, ``_``, and single slashes inside; no segment of dots alone.
    """
    return len(text) <= MAX_NAME_CHARACTERS and _ENTITY_NAME.fullmatch(text) is not None


def filter_query(raw: str) -> str:
    """Take the protocol's parameters out of a query, and leave all else byte for byte.

    A piece goes if it has an ``=`` and its name begins with ``sb-hc-``, in any case; the others
    stay in order, empty ones too. Clauses 10 to 15; tests/vectors/query_filter.json.

    Args:
        raw: A query as it came, without ``?``.
    """
    if PREFIX not in raw.lower():
        return raw
    return "&".join(piece for piece in raw.split("&") if not _is_parameter(piece))


def find_entity(
    segments: Sequence[str], names: Container[str]
) -> tuple[str, tuple[str, ...]] | None:
    """Find the hybrid connection that a path leads to. Clauses 7 to 9.

    Args:
        segments: The path, decoded, as in `Target.segments`.
        names: The registered names, in lower case.

    Returns:
        The longest registered name that whole segments of the path begin with, case ignored, and
        the segments after it; None if there is none.
    """
    candidates: list[str] = []
    name = ""
    for segment in segments:
        # A quoted slash does not separate: 'team%2Fhc1' is one segment, and no name has it.
        if not segment or "/" in segment or not segment.isascii():
            break
        name = f"{name}/{segment.lower()}" if name else segment.lower()
        if len(name) > MAX_NAME_CHARACTERS:
            break
        candidates.append(name)
    for count in range(len(candidates), 0, -1):
        if candidates[count - 1] in names:
            return candidates[count - 1], tuple(segments[count:])
    return None


# --- Request targets -----------------------------------------------------------------------------


def parse_target(raw: str) -> Target:
    """Take the request target of an HTTP request apart. Clauses 3, 4, 6, 70.

    Args:
        raw: What stands between method and version, in origin form: ``/$hc/orders?...``.

    Raises:
        MalformedAddress: Another form, too long, characters that must be quoted, dot segments, an
            unknown action, a parameter of the protocol twice, or a rejection without a sane status.
    """
    if len(raw) > MAX_RENDEZVOUS_TARGET_BYTES:
        raise MalformedAddress(f"The request target is longer than {MAX_TARGET_BYTES} bytes.")
    if not raw.startswith("/"):
        raise MalformedAddress("The request target does not begin with a slash.")
    if _VISIBLE.fullmatch(raw) is None or "#" in raw:
        raise MalformedAddress("The request target has characters that must be percent-encoded.")

    path, _, query = raw.partition("?")
    if quoted_mark := _QUOTED_QUERY.search(path):
        # Clients were seen quoting the question mark (1.2); the parameters are meant all the same.
        rest = path[quoted_mark.end() :]
        query = f"{rest}&{query}" if query else rest
        path = path[: quoted_mark.start()]
    is_websocket_path, path = _below_hc(path.lstrip("/"))
    inner = path.rstrip("/")
    segments = tuple(unquote(segment) for segment in inner.split("/")) if inner else ()
    if "." in segments or ".." in segments:
        raise MalformedAddress("The path has a dot segment.")

    pieces = query.split("&")
    parameters = _parameters(pieces)
    action = _action(parameters) if is_websocket_path else Action.CONNECT
    is_rendezvous = action in (Action.ACCEPT, Action.REQUEST)
    if len(raw) > MAX_TARGET_BYTES and not is_rendezvous:
        raise MalformedAddress(f"The request target is longer than {MAX_TARGET_BYTES} bytes.")
    return Target(
        is_websocket_path=is_websocket_path,
        path=path,
        segments=segments,
        query=filter_query(query),
        action=action,
        parameters=parameters,
        rejection=_rejection(parameters, pieces) if action is Action.ACCEPT else None,
    )


def _below_hc(path: str) -> tuple[bool, str]:
    first, _, rest = path.partition("/")
    return (True, rest.lstrip("/")) if unquote(first).lower() == "$hc" else (False, path)


def _is_parameter(piece: str) -> bool:
    return "=" in piece and piece[: len(PREFIX)].lower() == PREFIX


def _parameters(pieces: Sequence[str]) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for piece in pieces:
        if _is_parameter(piece):
            name, _, value = piece.partition("=")
            name = name.lower()
            if name in parameters:
                raise MalformedAddress("A parameter of the protocol is there twice.")
            parameters[name] = unquote_plus(value)
    return parameters


def _action(parameters: Mapping[str, str]) -> Action:
    word = parameters.get("sb-hc-action")
    if word is None:
        return Action.CONNECT
    try:
        return Action(word.lower())
    except ValueError:
        raise MalformedAddress("The action 'sb-hc-action' is not supported.") from None


def _rejection(parameters: Mapping[str, str], pieces: Sequence[str]) -> Rejection | None:
    given = _unprefixed_rejection(pieces)
    for name in ("statuscode", "statusdescription"):
        if (value := parameters.get(PREFIX + name)) is not None:
            given[name] = value
    if not given:
        return None
    status = given.get("statuscode", "")
    if not (len(status) == 3 and status.isascii() and status.isdigit() and int(status) >= 300):
        raise MalformedAddress("The status 'sb-hc-statusCode' is not a number from 300 to 999.")
    description = _CONTROLS.sub(" ", given.get("statusdescription", "")).strip()
    return Rejection(status=int(status), description=description or _phrase_of(int(status)))


def _unprefixed_rejection(pieces: Sequence[str]) -> dict[str, str]:
    # Microsoft's Node SDKs leave the prefix out (5.3). What comes before the id is the sender's,
    # and a sender must not be able to put words into the listener's mouth.
    given: dict[str, str] = {}
    is_after_id = False
    for piece in pieces:
        name, _, value = piece.partition("=")
        name = name.lower()
        if name == "sb-hc-id":
            is_after_id = True
        elif is_after_id and name in ("statuscode", "statusdescription"):
            if name in given:
                raise MalformedAddress("A parameter of the protocol is there twice.")
            given[name] = unquote_plus(value)
    return given


def _phrase_of(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Rejected"


# --- URLs ----------------------------------------------------------------------------------------


def listen_url(host: str, port: int, path: str, *, listener_id: str) -> str:
    """Give the URL of a listener's control channel."""
    return _url(authority(host, port), _quoted_path(path), "", Action.LISTEN, listener_id)


def connect_url(
    host: str,
    port: int,
    path: str,
    *,
    connection_id: str,
    suffix: str = "",
    query: str = "",
) -> str:
    """Give the URL that a sender connects to.

    Args:
        host: Namespace host.
        port: 443 is left out of the URL.
        path: Name of the hybrid connection, in the clear.
        connection_id: Names the connection; a GUID.
        suffix: More path for the listener, in the clear.
        query: Query for the listener, already quoted, without ``?``.
    """
    whole = f"{path.strip('/')}/{suffix.lstrip('/')}" if suffix else path
    query = _repaired(query, _QUERY_CHARACTERS)
    return _url(authority(host, port), _quoted_path(whole), query, Action.CONNECT, connection_id)


def rendezvous_url(
    authority: str, path: str, *, query: str, action: Action, connection_id: str, secret: str
) -> str:
    """Give the one-time address at which a listener meets a sender. Clauses 9, 10, 17, 18.

    It is a valid ``java.net.URI``: what such a URI cannot hold is quoted, and nothing else is
    touched, so the sender's query arrives as it was sent. Microsoft's Java SDK refuses a piece
    such as ``a=b=c``; it does so with Azure too, and quoting would change what the others read.

    Args:
        authority: ``host[:port]`` by which the listener reached the relay.
        path: `Target.path` of the sender.
        query: `Target.query` of the sender.
        action: `Action.ACCEPT` or `Action.REQUEST`.
        connection_id: The TrackingId, ``sb-hc-id``.
        secret: What makes the address hard to guess, 32 hexadecimal digits.
    """
    url = _url(
        authority,
        _repaired(path, _PATH_CHARACTERS),
        _repaired(query, _QUERY_CHARACTERS),
        action,
        connection_id,
    )
    return f"{url}&sb-hc-rendezvous={secret}"


def reject_url(address: str, status: int, description: str) -> str:
    """Give what a listener dials to reject, instead of the address itself. Clauses 68, 69."""
    mark = "&" if "?" in address else "?"
    text = quote_plus(description, errors="replace")
    return f"{address}{mark}sb-hc-statusCode={status}&sb-hc-statusDescription={text}"


def parse_url(url: str) -> Dial:
    """Read where a ``wss`` or ``https`` URL leads.

    Raises:
        MalformedAddress: Another scheme, user information, a fragment, no host, or characters that
            must be quoted. The message does not show the URL: it may hold a token.
    """
    scheme, mark, rest = url.partition("://")
    if not mark or scheme.lower() not in ("wss", "https"):
        raise MalformedAddress("The address does not begin with wss:// or https://.")
    if _VISIBLE.fullmatch(rest) is None or "#" in rest:
        raise MalformedAddress("The address has characters that must be percent-encoded.")
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    host, port = split_authority(rest[:end])
    target = rest[end:]
    return Dial(
        host=host,
        port=DEFAULT_PORT if port is None else port,
        target=target if target.startswith("/") else f"/{target}",
    )


def may_follow(address_host: str, namespace_host: str) -> bool:
    """Whether a listener may dial a rendezvous address. Section 1.5.

    The namespace's own host, or a host under the same parent domain, since Azure names a gateway
    there. A parent without a dot is no such domain, and an IP address has no parent.
    """
    address_host, namespace_host = address_host.lower(), namespace_host.lower()
    if address_host == namespace_host:
        return True
    if _is_ip_address(address_host) or _is_ip_address(namespace_host):
        return False
    parent = namespace_host.partition(".")[2]
    return "." in parent and address_host.endswith(f".{parent}")


def _url(authority: str, path: str, query: str, action: Action, identity: str) -> str:
    own = f"sb-hc-action={action.value}&sb-hc-id={quote(identity, safe='')}"
    return f"wss://{authority}/$hc/{path}?{f'{query}&{own}' if query else own}"


def _quoted_path(path: str) -> str:
    return quote(path.lstrip("/"), safe="/$&+,;=:@!*'()~", errors="replace")


def _repaired(text: str, characters: re.Pattern[str]) -> str:
    if characters.fullmatch(text):
        return text
    return "".join(
        piece if characters.fullmatch(piece) else quote(piece, safe="", errors="replace")
        for piece in _UNITS.findall(text)
    )


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


_VISIBLE = re.compile(r"[!-~]+")
_QUOTED_QUERY = re.compile(r"%3f(?=sb-hc-)", re.IGNORECASE)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_AUTHORITY = re.compile(
    r"(?:\[(?P<ip6>[0-9A-Fa-f:.]+)\]|(?P<name>[0-9A-Za-z._-]{1,253}))(?::(?P<port>[0-9]{1,5})?)?"
)
_ENTITY_NAME = re.compile(r"(?:(?!\.{1,2}(?:/|\Z))[0-9A-Za-z._-]+(?:/(?!\Z)|\Z))+")
# What java.net.URI takes in a path and in a query; a unit is an escape or one character.
_UNITS = re.compile(r"%[0-9A-Fa-f]{2}|.", re.DOTALL)
_PATH_CHARACTERS = re.compile(r"(?:%[0-9A-Fa-f]{2}|[0-9A-Za-z\-_.!~*'(),;:$&+=@/])*")
_QUERY_CHARACTERS = re.compile(r"(?:%[0-9A-Fa-f]{2}|[0-9A-Za-z\-_.!~*'(),;:$&+=@/?\[\]])*")
