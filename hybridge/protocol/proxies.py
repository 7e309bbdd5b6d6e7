"""Proxies on the way to a relay: their addresses, and what is meant by their answers."""

from __future__ import annotations

import base64
import enum
import re
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote, unquote, urlsplit

from hybridge.protocol.errors import (
    InvalidSetting,
    ProxyCredentialsRefused,
    ProxyGarbled,
    ProxyRefused,
)
from hybridge.protocol.redaction import one_line
from hybridge.protocol.secret import Secret

NO_PROXY: Final = "none"
"""Says that there is no proxy, whatever the environment names."""

MAX_SOCKS_CREDENTIAL_BYTES = 255
"""Longest user name or password of SOCKS5 (RFC 1929)."""

_HINT = "write http://HOST:PORT or socks5://HOST:PORT, or none"


class ProxyScheme(enum.Enum):
    """What is spoken with a proxy; the value is how an address begins."""

    HTTP = "http"
    """``CONNECT`` of HTTP/1.1, with Basic authentication where it is asked for."""

    SOCKS5 = "socks5"
    """SOCKS 5; the proxy resolves the relay's name."""


_SCHEMES = {
    "http": ProxyScheme.HTTP,
    "socks": ProxyScheme.SOCKS5,
    "socks5": ProxyScheme.SOCKS5,
    "socks5h": ProxyScheme.SOCKS5,
}
_DEFAULT_PORTS = {ProxyScheme.HTTP: 80, ProxyScheme.SOCKS5: 1080}


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password; neither is ever shown."""

    user: Secret
    password: Secret

    def basic(self) -> str:
        """Give them as Basic authentication does (RFC 7617); that is no cipher."""
        text = f"{self.user.reveal()}:{self.password.reveal()}"
        return base64.b64encode(text.encode()).decode("ascii")

    def ways_to_show(self) -> list[str]:
        """Give all that must not be shown, the longest first: a proxy may repeat any of it."""
        plain = [each.reveal() for each in (self.password, self.user)]
        found = {self.basic(), *plain, *(quote(each, safe="") for each in plain)} - {""}
        return sorted(found, key=len, reverse=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy that leads to the relay. ``str`` is its address without the credentials."""

    scheme: ProxyScheme
    host: str
    port: int
    credentials: Credentials | None = None
    setting: str = "proxy"
    """What named it, for hints: a flag, a variable or a key."""

    def __str__(self) -> str:
        hidden = "***@" if self.credentials is not None else ""
        return f"{self.scheme.value}://{hidden}{_authority(self.host, self.port)}"

    def redact(self, text: str) -> str:
        """Make what the proxy said safe to show: one line, and our credentials not repeated."""
        if self.credentials is not None:
            ways = map(re.escape, self.credentials.ways_to_show())
            text = re.sub("|".join(ways), "***", text, flags=re.IGNORECASE)
        return one_line(text)


ProxyChoice = Proxy | Literal["none"] | None
"""A proxy, ``"none"`` for no proxy at all, or None for what the environment names."""


def parse_proxy(text: str, *, setting: str = "proxy") -> Proxy | Literal["none"]:
    """Read the address of a proxy: ``[SCHEME://][USER:PASSWORD@]HOST[:PORT]``, or ``none``.

    Without a scheme it is an HTTP proxy. User name and password are percent-decoded. The port is 80
    for HTTP and 1080 for SOCKS where none is named.

    Args:
        text: What the user wrote. Errors never show it: it may hold a password.
        setting: Where that stands: a flag, a variable or a key.

    Raises:
        InvalidSetting: It is no such address, or its scheme is none of ours.
    """
    text = text.strip()
    if text.lower() == NO_PROXY:
        return NO_PROXY
    if "://" not in text:
        text = f"http://{text}"
    name = text.partition("://")[0].lower()
    if name not in _SCHEMES:
        raise _unknown_scheme(name, setting)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise InvalidSetting(setting, "is not the address of a proxy", hint=_HINT) from None
    scheme = _SCHEMES[name]
    if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
        # A password with / ? or # in it ends up here as well.
        raise InvalidSetting(
            setting,
            "is not the address of a proxy",
            hint=f"{_HINT}; percent-encode special characters of a password",
        )
    if port == 0:
        raise InvalidSetting(setting, "names port 0", hint=_HINT)
    return Proxy(
        scheme=scheme,
        host=parts.hostname,
        port=port or _DEFAULT_PORTS[scheme],
        credentials=_credentials(parts.username, parts.password, scheme, setting),
        setting=setting,
    )


def _unknown_scheme(name: str, setting: str) -> InvalidSetting:
    if name == "https":
        return InvalidSetting(
            setting,
            "names a proxy that is spoken to over TLS (https://), and that is not supported",
            hint="most proxies speak plain HTTP on their port: write http://HOST:PORT",
        )
    # Nothing else of the text is shown, and no more of this than a scheme may have.
    shown = name if name.isalnum() and len(name) <= 10 else "its scheme"
    return InvalidSetting(setting, f"{shown}: no such kind of proxy", hint=_HINT)


def _credentials(
    user: str | None, password: str | None, scheme: ProxyScheme, setting: str
) -> Credentials | None:
    if user is None and password is None:
        return None
    try:
        user = unquote(user or "", errors="strict")
        password = unquote(password or "", errors="strict")
    except UnicodeDecodeError:
        raise InvalidSetting(
            setting,
            "has a user name or password that is not UTF-8",
            hint="percent-encode the UTF-8 of special characters",
        ) from None
    if scheme is ProxyScheme.HTTP and ":" in user:
        raise InvalidSetting(
            setting, "has a user name with a colon", hint="HTTP proxies cannot tell it apart"
        )
    if not (user + password).isprintable():
        raise InvalidSetting(
            setting, "has a user name or password with control characters", hint=_HINT
        )
    if scheme is ProxyScheme.SOCKS5:
        fits = all(
            each.isascii() and 0 < len(each) <= MAX_SOCKS_CREDENTIAL_BYTES
            for each in (user, password)
        )
        if not fits:
            raise InvalidSetting(
                setting,
                "has a user name or password that SOCKS5 cannot carry",
                hint=f"each has 1 to {MAX_SOCKS_CREDENTIAL_BYTES} ASCII characters",
            )
    return Credentials(Secret(user), Secret(password))


# --- what proxies answer -------------------------------------------------------------------------


def http_refusal(
    proxy: Proxy, host: str, port: int, *, status: int, reason: str, offered: tuple[str, ...]
) -> ProxyCredentialsRefused | ProxyRefused:
    """Say what an HTTP proxy means by an answer that opens no tunnel.

    Args:
        proxy: Who answered.
        host: What was asked for.
        port: Its port.
        status: Other than 2xx.
        reason: The reason phrase.
        offered: Ways to log in, of ``Proxy-Authenticate``: ``("Negotiate", "Basic")``.
    """
    answer = proxy.redact(f"{status} {reason}".strip())
    if status == 407 or (status == 401 and proxy.credentials is not None):
        # tinyproxy says 401 where the password is wrong.
        if offered and "basic" not in (each.lower() for each in offered):
            return ProxyCredentialsRefused(
                f"the proxy {proxy} wants a login that is not supported ({answer})",
                hint=f"it offers {proxy.redact(', '.join(offered))}, and ours is Basic: use a proxy"
                " that takes Basic, or a local one that logs in for you",
            )
        return credentials_refused(proxy, answer)
    to = _authority(host, port)
    if status >= 500 and status != 501:
        return ProxyRefused(
            f"the proxy {proxy} cannot reach {to}: {answer}",
            hint=f"check that the proxy can resolve and reach {to}",
        )
    if status == 403:
        return ProxyRefused(
            f"the proxy {proxy} does not let us through to {to}: {answer}",
            hint=f"ask whoever runs it to allow CONNECT to {to}",
        )
    return ProxyRefused(
        f"the proxy {proxy} opened no tunnel to {to}: {answer}",
        hint=f"check {proxy.setting}: it must name an HTTP proxy that allows CONNECT",
    )


def credentials_refused(proxy: Proxy, answer: str) -> ProxyCredentialsRefused:
    """Say that a proxy wants credentials, or others than those it was given."""
    if proxy.credentials is None:
        return ProxyCredentialsRefused(
            f"the proxy {proxy} asks for a user name and a password ({answer})",
            hint=f"write them into {proxy.setting}: {proxy.scheme.value}://USER:PASSWORD@HOST:PORT",
        )
    return ProxyCredentialsRefused(
        f"the proxy {proxy} refused the user name or the password ({answer})",
        hint=f"check them in {proxy.setting}; special characters must be percent-encoded",
    )


_SOCKS_NOT_ALLOWED = 2


def socks_refusal(proxy: Proxy, host: str, port: int, *, code: int, text: str) -> ProxyRefused:
    """Say what a SOCKS proxy means by a reply code other than 0 (RFC 1928, section 6)."""
    to = _authority(host, port)
    answer = f"{text[:1].lower()}{text[1:]} (SOCKS reply {code})"
    if code == _SOCKS_NOT_ALLOWED:
        return ProxyRefused(
            f"the proxy {proxy} does not let us through to {to}: {answer}",
            hint=f"ask whoever runs it to allow {to}",
        )
    return ProxyRefused(
        f"the proxy {proxy} cannot reach {to}: {answer}",
        hint=f"check that the proxy can resolve and reach {to}",
    )


def broke_off(proxy: Proxy, why: str) -> ProxyGarbled:
    """Say that a proxy left before it had answered."""
    return ProxyGarbled(
        f"the proxy {proxy} broke off without an answer: {why}",
        hint=f"check the scheme and the port in {proxy.setting}, and whether it lets us in",
    )


def garbled(proxy: Proxy, why: str) -> ProxyGarbled:
    """Say that what answered is no proxy of the kind that was named."""
    kind = "HTTP" if proxy.scheme is ProxyScheme.HTTP else "SOCKS5"
    return ProxyGarbled(
        f"what answers at {proxy} is no {kind} proxy: {proxy.redact(why)}",
        hint=f"check the scheme and the port in {proxy.setting}: http:// or socks5://",
    )


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
