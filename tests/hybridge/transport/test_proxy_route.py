"""Which proxy stands on the way, by what was named and by the environment."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hybridge.protocol.errors import InvalidSetting
from hybridge.protocol.proxies import parse_proxy
from hybridge.transport.dialer import Dialer
from hybridge.transport.proxy_route import ProxyRoute

RELAY = ("contoso.servicebus.windows.net", 443)
VARIABLES = ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "HTTP_PROXY")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def route(
    monkeypatch: pytest.MonkeyPatch,
    choice: str | None = None,
    *,
    meant: tuple[str, int] = RELAY,
    peer: tuple[str, int] | None = None,
    env: Mapping[str, str] = {},
) -> str | None:
    """Give the proxy for an address as text."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    proxy = ProxyRoute(choice).proxy_for(meant, peer or meant)
    return None if proxy is None else f"{proxy} of {proxy.setting}"


def test_without_any_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert route(monkeypatch) is None
    assert route(monkeypatch, env={"HTTP_PROXY": "http://other:1"}) is None


def test_https_proxy_is_used_and_all_proxy_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert route(monkeypatch, env={"ALL_PROXY": "socks5://a:1"}) == "socks5://a:1 of ALL_PROXY"
    assert route(monkeypatch, env={"HTTPS_PROXY": "http://h:2"}) == "http://h:2 of HTTPS_PROXY"
    assert route(monkeypatch, env={"https_proxy": "l:3"}) == "http://l:3 of HTTPS_PROXY"
    assert route(monkeypatch, env={"https_proxy": ""}) == "socks5://a:1 of ALL_PROXY"


def test_a_proxy_that_was_named_comes_before_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = {"HTTPS_PROXY": "http://h:2", "NO_PROXY": "*"}
    assert route(monkeypatch, "http://p:1", env=environment) == "http://p:1 of proxy"
    local = ("127.0.0.1", 8443)
    assert route(monkeypatch, "http://p:1", peer=local, env=environment) == "http://p:1 of proxy"


def test_none_turns_the_environments_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert route(monkeypatch, "none", env={"HTTPS_PROXY": "http://h:2"}) is None


@pytest.mark.parametrize(
    "entry",
    [
        "contoso.servicebus.windows.net",
        "windows.net",
        ".windows.net",
        "CONTOSO.servicebus.windows.net:443",
        "other, .servicebus.windows.net",
        "*",
    ],
)
def test_no_proxy_names_what_is_dialled_directly(
    monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    assert route(monkeypatch, env={"HTTPS_PROXY": "http://h:2", "NO_PROXY": entry}) is None


@pytest.mark.parametrize("entry", ["contoso", "s.net", "contoso.servicebus.windows.net:8443", ""])
def test_what_no_proxy_does_not_name_goes_through_it(
    monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    assert route(monkeypatch, env={"HTTPS_PROXY": "http://h:2", "NO_PROXY": entry}) is not None


def test_no_proxy_may_name_what_is_dialled_in_place_of_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = {"HTTPS_PROXY": "http://h:2", "NO_PROXY": "10.0.0.1,2001:db8::1"}
    for peer in ("10.0.0.1", "2001:db8::1"):
        assert route(monkeypatch, peer=(peer, 8443), env=environment) is None
    assert route(monkeypatch, peer=("10.0.0.2", 8443), env=environment) is not None


@pytest.mark.parametrize("host", ["localhost", "relay.localhost", "127.3.2.1", "::1", "LOCALHOST."])
def test_a_loopback_address_never_goes_through_the_environments_proxy(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    # Not even where it is meant only by --connect-to.
    assert route(monkeypatch, meant=(host, 8443), env={"HTTPS_PROXY": "http://h:2"}) is None
    assert route(monkeypatch, peer=(host, 8443), env={"HTTPS_PROXY": "http://h:2"}) is None


def test_an_environment_that_cannot_be_used_is_said_at_once_and_only_where_it_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "ftp://alice:s3cr3t@proxy.corp")
    with pytest.raises(InvalidSetting, match="HTTPS_PROXY: ftp: no such kind") as caught:
        Dialer(RELAY[0])

    assert "s3cr3t" not in f"{caught.value} {caught.value.hint}"
    assert Dialer(RELAY[0], proxy="none").proxy(*RELAY) is None
    assert Dialer("localhost").proxy("localhost", 443) is None


def test_a_rendezvous_host_has_the_same_proxy_and_may_be_excepted_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://h:2")
    monkeypatch.setenv("NO_PROXY", "g1.servicebus.windows.net")
    dialer = Dialer(RELAY[0])

    assert str(dialer.proxy("g0.servicebus.windows.net", 443)) == "http://h:2"
    assert dialer.proxy("g1.servicebus.windows.net", 443) is None


def test_a_ready_made_proxy_is_taken_as_it_is() -> None:
    proxy = parse_proxy("socks5://p:1", setting="HCM_PROXY")
    assert ProxyRoute(proxy).proxy_for(RELAY, RELAY) is proxy


@pytest.mark.parametrize(
    ("entry", "is_direct"),
    [("[2001:db8::1]", True), ("[2001:DB8::1]:443", True), ("[2001:db8::1]:8443", False)],
)
def test_no_proxy_may_name_an_ipv6_address_as_in_an_address_and_with_a_port(
    monkeypatch: pytest.MonkeyPatch, entry: str, *, is_direct: bool
) -> None:
    environment = {"HTTPS_PROXY": "http://h:2", "NO_PROXY": f"other, {entry}"}
    address = ("2001:db8::1", 443)

    found = route(monkeypatch, env=environment, meant=address, peer=address)

    assert (found is None) == is_direct
