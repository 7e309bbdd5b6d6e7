"""Which HTTP headers the relay forwards, strips or adds, and where a token is carried."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TOKEN_HEADER = "ServiceBusAuthorization"  # noqa: S105  # a name, no token
"""The header that carries a token, and never reaches a listener."""

TOKEN_PARAMETER = "sb-hc-token"  # noqa: S105  # a name, no token
"""The query parameter that carries a token."""

_HOP_BY_HOP = frozenset(
    {"connection", "content-length", "te", "trailer", "transfer-encoding", "upgrade", "close"}
)
_TOKEN_HEADER = TOKEN_HEADER.lower()


def connect_headers(headers: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Give the headers of a sender's handshake as an ``accept`` message carries them.

    All of them but ``ServiceBusAuthorization``. Those that come several times are joined by
    ``", "``, under the spelling of the first. Clauses 39, 63, 64.
    """
    return _joined(headers, without={_TOKEN_HEADER})


def request_headers_to_listener(
    headers: Sequence[tuple[str, str]], *, via_host: str, authorization_consumed: bool
) -> dict[str, str]:
    """Give the headers of a sender's HTTP request as a ``request`` message carries them.

    Args:
        headers: As they came.
        via_host: The namespace's host name, added to ``Via``.
        authorization_consumed: Whether ``Authorization`` was the relay's token (`token_of_http`);
            it is then kept from the listener.

    Protocol:
        Section 7.2; clauses 37 to 39, 96, 97.
    """
    # The relay meets an expectation itself, with its own 100.
    without = _HOP_BY_HOP | {_TOKEN_HEADER, "expect"} | _named_by_connection(headers)
    if authorization_consumed:
        without |= {"authorization"}
    return _with_via(_joined(headers, without=without), via_host)


def response_headers_to_sender(
    headers: Mapping[str, str], *, via_host: str
) -> list[tuple[str, str]]:
    """Give the headers of a listener's response as the sender gets them.

    The relay frames the body itself, so the listener's framing headers are dropped. ``Via`` marks
    the response as the listener's: an error of the service has none. Section 7.6; clause 111.
    """
    without = _HOP_BY_HOP | _named_by_connection(headers.items())
    return list(_with_via(_joined(headers.items(), without=without), via_host).items())


def response_headers_to_relay(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Give the headers of a listener's response as a ``response`` message carries them.

    A message has each name once: those that come several times are joined by ``", "``, under the
    spelling of the first. The relay drops those that frame the body, so they are left out.
    Sections 7.4, 7.6.
    """
    return _joined(headers, without=_HOP_BY_HOP)


def token_of_websocket(
    headers: Sequence[tuple[str, str]], parameters: Mapping[str, str]
) -> str | None:
    """Find the token of a listen or connect handshake: the header wins over the parameter.

    Args:
        headers: The request's headers.
        parameters: The ``sb-hc-*`` parameters of its target, names in lower case.

    Protocol:
        Section 3.6; clause 36. ``Authorization`` is the listener's, and not looked at.
    """
    return _header(headers, _TOKEN_HEADER) or parameters.get(TOKEN_PARAMETER) or None


def token_of_http(
    headers: Sequence[tuple[str, str]], parameters: Mapping[str, str], *, requires_auth: bool
) -> tuple[str | None, bool]:
    """Find the token of an HTTP request: parameter, then relay header, then ``Authorization``.

    Args:
        headers: The request's headers.
        parameters: The ``sb-hc-*`` parameters of its target, names in lower case.
        requires_auth: Whether a token is needed at all; if not, ``Authorization`` is left alone.

    Returns:
        The token or None, and whether it was that of ``Authorization``.

    Protocol:
        Section 3.6; clauses 36 to 38, 119.
    """
    token = parameters.get(TOKEN_PARAMETER) or _header(headers, _TOKEN_HEADER)
    if token or not requires_auth:
        return token or None, False
    token = _header(headers, "authorization")
    return token or None, bool(token)


def _header(headers: Iterable[tuple[str, str]], name: str) -> str:
    # Two different tokens join to one that is malformed: neither is picked.
    values = dict.fromkeys(value.strip() for key, value in headers if key.lower() == name)
    return ", ".join(values)


def _named_by_connection(headers: Iterable[tuple[str, str]]) -> set[str]:
    """Name what a peer meant for this hop only (RFC 9110, 7.6.1); ``Host`` and ``Via`` stay."""
    values = [value for name, value in headers if name.lower() == "connection"]
    named = {option.strip().lower() for value in values for option in value.split(",")}
    return named - {"host", "via"}


def _joined(
    headers: Iterable[tuple[str, str]], *, without: set[str] | frozenset[str]
) -> dict[str, str]:
    spelling: dict[str, str] = {}
    joined: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        if key in without:
            continue
        first = spelling.setdefault(key, name)
        joined[first] = f"{joined[first]}, {value}" if first in joined else value
    return joined


def _with_via(headers: dict[str, str], host: str) -> dict[str, str]:
    hop = f"1.1 {host}"
    for name, value in headers.items():
        if name.lower() == "via":
            headers[name] = f"{value}, {hop}"
            return headers
    headers["Via"] = hop
    return headers
