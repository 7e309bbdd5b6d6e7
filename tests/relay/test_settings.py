from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from hybridge.protocol.errors import InvalidSetting
from relay.settings import RelaySettings, file_key, is_loopback, public_name


def test_the_defaults_are_safe_on_a_laptop(tmp_path: Path) -> None:
    settings = RelaySettings(state_dir=tmp_path)

    assert settings.is_loopback_only
    assert (settings.port, settings.admin_port) == (8443, 5300)
    assert settings.share_dir is None


def test_the_defaults_are_those_of_the_specification(tmp_path: Path) -> None:
    settings = RelaySettings(state_dir=tmp_path)

    assert settings.accept_timeout_seconds == 30
    assert settings.token_grace_seconds == 300
    assert settings.max_listeners == 25
    assert settings.max_connections == 5_000
    assert settings.unknown_rendezvous_status == 403
    assert settings.listener_limit_status == 429
    assert settings.no_listener_http_status == 404


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"accept_timeout_seconds": 0}, "AcceptTimeoutSeconds"),
        ({"ping_interval_seconds": -1.0}, "PingIntervalSeconds"),
        ({"tls_timeout_seconds": float("nan")}, "TlsTimeoutSeconds"),
        ({"drain_seconds": float("inf")}, "DrainSeconds"),
        ({"close_forward_delay_seconds": -0.1}, "CloseForwardDelaySeconds"),
        ({"max_listeners": 0}, "MaxListeners"),
        ({"unknown_rendezvous_status": 200}, "UnknownRendezvousStatus"),
        ({"listener_limit_status": 600}, "ListenerLimitStatus"),
        ({"port": 65_536}, "Port"),
        ({"admin_port": -1}, "AdminPort"),
        ({"host": "a b"}, "Host"),
        ({"admin_host": "*"}, "AdminHost"),
        ({"public_host": "https://x"}, "PublicHost"),
        ({"default_response_content_type": "a\r\nb"}, "DefaultResponseContentType"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_name(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidSetting, match=f"^{key}: ") as caught:
        RelaySettings(state_dir=Path("x"), **changes)

    assert caught.value.hint


def test_some_waits_may_be_nothing(tmp_path: Path) -> None:
    settings = RelaySettings(state_dir=tmp_path, drain_seconds=0, token_grace_seconds=0)

    assert settings.drain_seconds == 0


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.8.8.8", "::1"])
def test_a_loopback_opens_no_door(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "localhost.test", "relay"])  # noqa: S104
def test_every_other_address_does(host: str) -> None:
    assert not is_loopback(host)
    assert not RelaySettings(state_dir=Path("x"), host=host).is_loopback_only
    assert not RelaySettings(state_dir=Path("x"), admin_host=host).is_loopback_only


@pytest.mark.parametrize(
    ("public_host", "name"),
    [
        ("relay.example.test", "relay.example.test"),
        ("relay.example.test:8443", "relay.example.test"),
        ("[::1]:8443", "::1"),
        ("[::1]", "::1"),
        ("::1", "::1"),
    ],
)
def test_the_public_host_may_have_a_port(public_host: str, name: str) -> None:
    assert public_name(public_host) == name


def test_every_setting_has_a_key_of_its_own() -> None:
    names = [field.name for field in dataclasses.fields(RelaySettings)]

    assert len({file_key(name) for name in names}) == len(names)
    assert file_key("no_listener_http_status") == "NoListenerHttpStatus"
