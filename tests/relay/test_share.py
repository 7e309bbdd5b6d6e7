from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridge.protocol import connection_string
from hybridge.protocol.claims import Claim
from hybridge.protocol.secret import Secret
from hybridge.transport.private_files import UnusableFile
from relay.namespace import AuthorizationRule, HybridConnection, Namespace
from relay.share import rule_strings, write


def rule(name: str) -> AuthorizationRule:
    return AuthorizationRule(
        name=name, claims=Claim.LISTEN, primary_key=Secret("cA=="), secondary_key=Secret("cw==")
    )


def namespace(*paths: str, name: str = "demo-ns", host: str = "localhost") -> Namespace:
    return Namespace(
        name=name,
        hosts=(host, f"{name}.servicebus.windows.net"),
        rules={"root": rule("Root")},
        hybrid_connections={
            path.lower(): HybridConnection(name=path, rules={"listen": rule("Listen")})
            for path in paths
        },
    )


def texts(*namespaces: Namespace, port: int) -> list[str]:
    return [each.serialize() for each in rule_strings(namespaces, port)]


def test_the_order_of_a_connection_string_is_fixed() -> None:
    assert texts(namespace("orders"), port=8443) == [
        "Endpoint=sb://localhost:8443/;SharedAccessKeyName=Root;SharedAccessKey=cA==",
        "Endpoint=sb://localhost:8443/;SharedAccessKeyName=Listen;SharedAccessKey=cA==;"
        "EntityPath=orders",
    ]


def test_the_port_443_is_left_out() -> None:
    assert texts(namespace(host="relay"), port=443)[0].startswith("Endpoint=sb://relay/;")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "relay.example.test"])
def test_every_string_can_be_read_by_the_library(host: str) -> None:
    for each in rule_strings([namespace("a/b", host=host)], 8443):
        assert connection_string.parse(each.serialize()) == each.connection_string


def test_the_shared_folder_holds_the_ca_and_one_file_a_rule(tmp_path: Path) -> None:
    folder = tmp_path / "share"

    write(folder, ca_pem="PEM", strings=rule_strings([namespace("orders", "a/b")], 443))

    assert sorted(each.name for each in folder.iterdir()) == [
        "ca.pem",
        "demo-ns.a%2Fb.Listen.connection-string",
        "demo-ns.namespace.Root.connection-string",
        "demo-ns.orders.Listen.connection-string",
    ]
    assert (folder / "ca.pem").read_text() == "PEM"
    text = (folder / "demo-ns.orders.Listen.connection-string").read_text()
    assert text == texts(namespace("orders"), port=443)[1] + "\n"


def test_only_the_ca_is_for_everybody(tmp_path: Path) -> None:
    write(tmp_path, ca_pem="PEM", strings=rule_strings([namespace("orders")], 443))

    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    assert modes.pop("ca.pem") == 0o644
    assert set(modes.values()) == {0o600}


def test_the_string_of_a_rule_that_is_gone_is_removed_and_nothing_else(tmp_path: Path) -> None:
    others = rule_strings([namespace("orders", name="other-ns")], 443)
    write(tmp_path, ca_pem="", strings=[*rule_strings([namespace("orders")], 443), *others])
    (tmp_path / "notes.txt").touch()

    write(tmp_path, ca_pem="", strings=rule_strings([namespace("stock")], 443))

    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "ca.pem",
        "demo-ns.namespace.Root.connection-string",
        "demo-ns.stock.Listen.connection-string",
        "notes.txt",
        "other-ns.namespace.Root.connection-string",
        "other-ns.orders.Listen.connection-string",
    ]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(UnusableFile, match="the directory cannot be made"):
        write(tmp_path / "file", ca_pem="", strings=())


part = st.text("abAB.-_~%", min_size=1, max_size=3) | st.text("ab.", min_size=100, max_size=256)
path = st.lists(part, min_size=1, max_size=3).map("/".join) | st.sampled_from(
    ["namespace", "NameSpace", "%6Eamespace"]
)


@given(st.sets(st.tuples(path, part), min_size=2, max_size=2))
def test_two_rules_never_share_a_file_name(pairs: set[tuple[str, str]]) -> None:
    found = [
        Namespace(
            name="demo-ns",
            hosts=("x",),
            rules={"x": rule(rule_name)},
            hybrid_connections={"x": HybridConnection(name=name, rules={"x": rule(rule_name)})},
        )
        for name, rule_name in pairs
    ]

    names = {
        (each.hybrid_connection, each.rule.name): each.file_name for each in rule_strings(found, 1)
    }

    assert len(set(names.values())) == len(names)
    assert all("/" not in name and len(name) <= 255 for name in names.values())
