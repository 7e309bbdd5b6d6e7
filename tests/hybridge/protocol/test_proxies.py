"""The addresses of proxies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridge.protocol.errors import InvalidSetting
from hybridge.protocol.proxies import Credentials, Proxy, ProxyScheme, parse_proxy
from hybridge.protocol.secret import Secret

HTTP, SOCKS5 = ProxyScheme.HTTP, ProxyScheme.SOCKS5


def parsed(text: str) -> Proxy:
    proxy = parse_proxy(text, setting="--proxy")
    assert isinstance(proxy, Proxy)
    return proxy


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port"),
    [
        ("http://proxy.corp:3128", HTTP, "proxy.corp", 3128),
        ("HTTP://Proxy.Corp:3128/", HTTP, "proxy.corp", 3128),
        (" proxy.corp:3128\n", HTTP, "proxy.corp", 3128),
        ("http://proxy.corp", HTTP, "proxy.corp", 80),
        ("http://[2001:db8::1]:3128", HTTP, "2001:db8::1", 3128),
        ("socks5://proxy.corp", SOCKS5, "proxy.corp", 1080),
        ("socks5h://10.0.0.1:9050", SOCKS5, "10.0.0.1", 9050),
        ("socks://proxy.corp:1", SOCKS5, "proxy.corp", 1),
    ],
)
def test_an_address_has_scheme_host_and_port(
    text: str, scheme: ProxyScheme, host: str, port: int
) -> None:
    proxy = parsed(text)

    assert (proxy.scheme, proxy.host, proxy.port, proxy.credentials) == (scheme, host, port, None)


@pytest.mark.parametrize("text", ["none", " NONE "])
def test_none_is_no_proxy(text: str) -> None:
    assert parse_proxy(text) == "none"


def test_credentials_are_percent_decoded_and_never_shown() -> None:
    proxy = parsed("http://al%40ice:p%3Aw%2F%C3%A9@proxy.corp:3128")

    assert proxy.credentials == Credentials(Secret("al@ice"), Secret("p:w/é"))
    assert str(proxy) == "http://***@proxy.corp:3128"
    for text in (repr(proxy), str(proxy), repr(proxy.credentials)):
        assert "p:w/é" not in text
        assert "ice" not in text


def test_a_user_name_may_stand_alone() -> None:
    # Some proxies take an access token so.
    assert parsed("http://token@proxy.corp").credentials == Credentials(Secret("token"), Secret(""))


def test_an_address_without_credentials_is_shown_as_it_is() -> None:
    assert str(parsed("socks5h://[::1]:1080")) == "socks5://[::1]:1080"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("https://alice:s3cr3t@proxy.corp:3128", "over TLS"),
        ("ftp://alice:s3cr3t@proxy.corp", "ftp: no such kind"),
        ("alice:s3cr3t://proxy.corp", "its scheme: no such kind"),
        ("http://", "is not the address"),
        ("", "is not the address"),
        ("http://alice:s3cr3t@:3128", "is not the address"),
        ("http://alice:s3/cr3t@proxy.corp:3128", "is not the address"),
        ("http://alice:s3cr3t#@proxy.corp:3128", "is not the address"),
        ("http://proxy.corp/s3cr3t", "is not the address"),
        ("http://alice:s3cr3t@proxy.corp:port", "is not the address"),
        ("http://alice:s3cr3t@proxy.corp:65536", "is not the address"),
        ("http://alice:s3cr3t@[::1", "is not the address"),
        ("http://alice:s3cr3t@proxy.corp:0", "names port 0"),
        ("http://al%3Aice:s3cr3t@proxy.corp", "a colon"),
        ("http://alice:s3cr3t%ff@proxy.corp", "not UTF-8"),
        ("http://alice:s3cr3t%0d%0aX:@proxy.corp", "control characters"),
        ("socks5://alice@proxy.corp", "SOCKS5 cannot carry"),
        ("socks5://alice:s3cr3t%C3%A9@proxy.corp", "SOCKS5 cannot carry"),
        (f"socks5://alice:s3cr3t{256 * 'x'}@proxy.corp", "SOCKS5 cannot carry"),
    ],
)
def test_what_is_no_address_is_said_without_the_text_and_with_a_next_step(
    text: str, says: str
) -> None:
    with pytest.raises(InvalidSetting) as caught:
        parse_proxy(text, setting="--proxy")

    assert str(caught.value).startswith("--proxy: ")
    assert says in str(caught.value)
    assert caught.value.hint
    assert "s3cr3t" not in f"{caught.value} {caught.value.hint}"


@given(st.text())
def test_any_text_is_an_address_or_an_invalid_setting(text: str) -> None:
    try:
        proxy = parse_proxy(text)
    except InvalidSetting:
        pass
    else:
        assert proxy == "none" or proxy.host


@pytest.mark.parametrize(
    "repeated", ["p@ss/Word", "p%40ss%2fword", "YWxpY2U6cEBzcy9Xb3Jk", "alice"]
)
def test_what_a_proxy_repeats_of_the_credentials_is_left_out_however_it_writes_them(
    repeated: str,
) -> None:
    proxy = parse_proxy("http://alice:p%40ss%2FWord@proxy:3128")
    assert isinstance(proxy, Proxy)

    assert proxy.redact(f"bad login {repeated} given") == "bad login *** given"
