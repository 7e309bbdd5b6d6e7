"""Targets with port names, as flags and as a file have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hcm_agent.port_names import MAX_PORTS, NamedTarget, check_ports, parse_target
from hcm_agent.settings import AgentSources
from hybridge.program.connection_strings import GivenConnectionStrings
from hybridge.protocol.azbridge import Mode
from hybridge.protocol.errors import InvalidSetting
from tests.support.agent_ends import connection_string

GIVEN = GivenConnectionStrings(texts=(connection_string("orders"),))


@pytest.mark.parametrize(
    ("text", "shown", "mode"),
    [
        ("db:5432", "5432/db:5432", Mode.STREAM),
        ("test/db:5432", "test/db:5432", Mode.STREAM),
        ("test/[::1]:5432", "test/[::1]:5432", Mode.STREAM),
        ("MENU/db:5432", "MENU/db:5432", Mode.STREAM),
        ("udp://10.0.0.5:161", "161U/udp://10.0.0.5:161", Mode.DATAGRAM),
        ("snmp/udp://10.0.0.5:161", "snmp/udp://10.0.0.5:161", Mode.DATAGRAM),
        ("10.0.0.5:161U", "161U/udp://10.0.0.5:161", Mode.DATAGRAM),
        ("snmp/10.0.0.5:161U", "snmp/udp://10.0.0.5:161", Mode.DATAGRAM),
        ("162U/10.0.0.5:161", "162U/udp://10.0.0.5:161", Mode.DATAGRAM),
    ],
)
def test_a_target_is_read_with_its_name(text: str, shown: str, mode: Mode) -> None:
    target = parse_target(text, setting="--target")

    assert (str(target), target.mode) == (shown, mode)
    assert parse_target(shown, setting="--target") == target


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("db", "'db' has no port"),
        ("test/db", "'db' has no port"),
        ("test/", "'' has no port"),
        ("/db:5432", "the port name is empty"),
        ("a b/db:5432", "has blanks"),
        ("x" * 256 + "/db:5432", "has 256 bytes"),
        ("test/db:0", "port 0 is not between 1 and 65535"),
        ("udp://10.0.0.5:99999", "port 99999"),
        ("test/udp://", "'' has no port"),
        ("test/tcp://db:5432", "is an address with a scheme"),
        ("http://db:80", "is an address with a scheme"),
        ("one/two/db:5432", "is not a host name"),
    ],
)
def test_a_target_that_cannot_be_read_is_said_with_a_hint(text: str, problem: str) -> None:
    with pytest.raises(InvalidSetting, match=problem) as caught:
        parse_target(text, setting="--target")

    assert caught.value.setting == "--target"
    assert caught.value.hint


def test_names_are_unique_and_not_too_many() -> None:
    def ports(count: int) -> list[NamedTarget]:
        return [NamedTarget(port_name=str(each), host="db", port=1) for each in range(count)]

    assert len(check_ports(ports(MAX_PORTS), setting="AzBridge")) == MAX_PORTS
    with pytest.raises(InvalidSetting, match="at most 1000"):
        check_ports(ports(MAX_PORTS + 1), setting="AzBridge")
    with pytest.raises(InvalidSetting, match="two targets have the port name '0'"):
        check_ports(ports(1) * 2, setting="AzBridge")
    with pytest.raises(InvalidSetting, match="names no target"):
        check_ports([], setting="AzBridge")


def test_the_flags_give_one_hybrid_connection_several_targets() -> None:
    sources = AgentSources(
        connection_strings=GIVEN, azbridge=True, targets=("test/db:5432", "udp://10.0.0.5:161")
    )

    (entry,) = sources.load().hybrid_connections

    assert [str(each) for each in entry.azbridge] == ["test/db:5432", "161U/udp://10.0.0.5:161"]
    assert entry.target is None
    assert entry.datagram_idle_seconds == 240


def from_file(path: Path, **entry: object) -> AgentSources:
    document = {
        "HybridConnections": [{"ConnectionString": connection_string("orders"), **entry}],
        "Settings": {"DatagramIdleSeconds": 60},
    }
    path.write_text(json.dumps(document))
    path.chmod(0o600)
    return AgentSources(config=path)


def test_a_file_names_the_targets_in_an_object(tmp_path: Path) -> None:
    ports = {"test": "db:5432", "161U": "10.0.0.5:161", "snmp": "udp://10.0.0.5:161"}

    (entry,) = from_file(tmp_path / "hcm.json", AzBridge=ports).load().hybrid_connections

    assert [str(each) for each in entry.azbridge] == [
        "test/db:5432",
        "161U/udp://10.0.0.5:161",
        "snmp/udp://10.0.0.5:161",
    ]
    assert entry.datagram_idle_seconds == 60


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"AzBridge": {}}, r"HybridConnections\[0\]\.AzBridge: names no target"),
        ({"AzBridge": {"test": "db"}}, r"\[0\]\.AzBridge\.test: 'db' has no port"),
        ({"AzBridge": {"test": "a/db:1"}}, r"AzBridge\.test: 'a/db' is not a host name"),
        ({"AzBridge": {"": "db:1"}}, "the port name is empty"),
        ({"AzBridge": {"test": 5432}}, r"AzBridge\.test: must be a text"),
        ({"AzBridge": True}, "AzBridge: must be an object"),
        ({"AzBridge": {"test": "db:1"}, "Target": "db:1"}, "stands beside Target"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_place(
    tmp_path: Path, entry: dict[str, object], problem: str
) -> None:
    with pytest.raises(InvalidSetting, match=problem):
        from_file(tmp_path / "hcm.json", **entry).load()
