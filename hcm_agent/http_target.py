"""An HTTP service behind the agent: its address, and what a request becomes on the way there."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from hybridge.program.host_port import format_host_port, parse_host
from hybridge.protocol.errors import InvalidSetting, MalformedAddress

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HINT = "write http://HOST:PORT or https://HOST:PORT, and a path where you need one"
_PATH = re.compile(r"(?:/(?:[0-9A-Za-z\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})*)*")
# Ours to say, or of one hop only (RFC 9110, 7.6.1). `Expect` was the relay's to answer.
_NOT_FORWARDED = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTarget:
    """The HTTP service behind the agent."""

    scheme: str
    """``http`` or ``https``."""

    host: str
    """Name or address, without brackets."""

    port: int

    path: str = ""
    """What every path there begins with, quoted, without a slash at its end."""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host_port}{self.path}"

    @property
    def host_port(self) -> str:
        """Host and port, as people write them."""
        return format_host_port(self.host, self.port)

    @property
    def authority(self) -> str:
        """What the ``Host`` header says: without the port where it is the scheme's own."""
        if self.port == _DEFAULT_PORTS[self.scheme]:
            return f"[{self.host}]" if ":" in self.host else self.host
        return self.host_port


def is_http_target(text: str) -> bool:
    """Whether a target is written as the URL of an HTTP service."""
    return text.strip().lower().startswith(("http://", "https://"))


def parse_http_target(text: str, *, setting: str) -> HttpTarget:
    """Read ``http://host[:port][/path]``, or the same with ``https``.

    Args:
        text: What was written.
        setting: The flag or key that it was written for, for the error.

    Raises:
        InvalidSetting: It is not that. The message shows no user name and no password.
    """
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        raise InvalidSetting(setting, "the URL's host or port is none", hint=_HINT) from None
    if "@" in parts.netloc:
        raise InvalidSetting(setting, "the URL holds a user name or a password", hint=_HINT)
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise InvalidSetting(setting, f"{text!r} has a query or a fragment", hint=_HINT)
    if port == 0 or parts.netloc.endswith(":"):
        raise InvalidSetting(setting, f"{text!r} has no usable port", hint=_HINT)
    path = parts.path.rstrip("/")
    if not _PATH.fullmatch(path) or _has_dots(path):
        raise InvalidSetting(
            setting, f"the path {parts.path!r} is not one of a URL", hint="percent-encode it"
        )
    host = parts.netloc if port is None else parts.netloc.rpartition(":")[0]
    return HttpTarget(
        scheme=parts.scheme,
        host=parse_host(host, setting=setting, hint=_HINT),
        port=_DEFAULT_PORTS[parts.scheme] if port is None else port,
        path=path,
    )


def target_path(target: HttpTarget, hybrid_connection: str, request_target: str) -> str:
    """Say what is asked for at the target: the hybrid connection's name stays behind.

    As azbridge does it (section 10.4). The relay gives the path decoded; it is quoted again.

    Args:
        target: Where the request goes.
        hybrid_connection: Its name; the path begins with it.
        request_target: As the relay gave it.

    Raises:
        MalformedAddress: The path has dot segments, which could lead out of the target's path.
    """
    path, mark, query = request_target.partition("?")
    name = f"/{hybrid_connection}"
    rest = path[len(name) :]
    if path[: len(name)].lower() != name.lower() or not (rest == "" or rest.startswith("/")):
        raise MalformedAddress("The path of the request does not begin with the hybrid connection.")
    if _has_dots(rest):
        raise MalformedAddress("The path of the request has dot segments.")
    # The relay leaves %25, %3F and %23 as they are, and a bare percent sign stands for itself.
    quoted = quote(re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", rest), safe="/%:@!$&'()*+,;=~")
    whole_query = quote(query, safe=string.punctuation)
    return f"{target.path}{quoted or '/'}{mark}{whole_query}"


def _has_dots(path: str) -> bool:
    plain = re.sub("%2e", ".", path, flags=re.IGNORECASE).replace("\\", "/")
    return any(segment in (".", "..") for segment in plain.split("/"))


def target_headers(
    target: HttpTarget, headers: Mapping[str, str], *, method: str, body_bytes: int | None
) -> list[tuple[bytes, bytes]]:
    """Give the headers with which a request is sent to the target.

    Args:
        target: Its ``Host`` is the target's.
        headers: As the relay gave them; an own ``Authorization`` is among them, and passes.
        method: Decides whether an empty body is said to be empty.
        body_bytes: Length of the body; None where it is not known beforehand.
    """
    named = _connection_options(headers)
    kept = [
        (_to_bytes(name), _to_bytes(value.strip(" \t")))
        for name, value in headers.items()
        if name.lower() not in _NOT_FORWARDED | named
    ]
    framing: list[tuple[bytes, bytes]] = []
    if body_bytes is None:
        framing = [(b"Transfer-Encoding", b"chunked")]
    elif body_bytes or method in ("POST", "PUT", "PATCH"):
        framing = [(b"Content-Length", str(body_bytes).encode())]
    return [
        (b"Host", target.authority.encode()),
        *kept,
        *framing,
        (b"Connection", b"close"),
    ]


def sender_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Give the target's headers as the sender gets them: all but those of one hop."""
    decoded = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    named = _connection_options(dict(decoded))
    return [each for each in decoded if each[0].lower() not in (_NOT_FORWARDED - {"host"}) | named]


def _connection_options(headers: Mapping[str, str]) -> set[str]:
    return {
        option.strip().lower()
        for name, value in headers.items()
        if name.lower() == "connection"
        for option in value.split(",")
    }


def _to_bytes(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()
