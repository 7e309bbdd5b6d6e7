from __future__ import annotations

from hybridge.protocol.claims import Claim
from hybridge.protocol.secret import Secret
from relay.namespace import AuthorizationRule, HybridConnection, Namespace


def namespace(*names: str) -> Namespace:
    return Namespace(
        name="ns1",
        hosts=("ns1.servicebus.windows.net",),
        hybrid_connections={name.lower(): HybridConnection(name=name) for name in names},
    )


def test_a_path_leads_to_a_hybrid_connection_and_a_suffix() -> None:
    found = namespace("Orders", "orders/archive").find(("ORDERS", "archive", "2026"))

    assert found is not None
    hybrid_connection, suffix = found
    assert hybrid_connection.name == "orders/archive"
    assert suffix == ("2026",)


def test_an_unknown_path_leads_nowhere() -> None:
    assert namespace("orders").find(("order",)) is None


def test_the_target_is_read_from_the_metadata() -> None:
    metadata = '[{"key":"endpoint","value":"db.corp.local:5432"}]'

    assert HybridConnection(name="a", user_metadata=metadata).target_from_metadata == (
        "db.corp.local",
        5432,
    )
    assert HybridConnection(name="a", user_metadata="our database").target_from_metadata is None


def test_a_rule_does_not_show_its_keys() -> None:
    rule = AuthorizationRule(
        name="r", claims=Claim.SEND, primary_key=Secret("key1"), secondary_key=Secret("key2")
    )

    assert "key1" not in repr(rule)
    assert [key.reveal() for key in rule.keys] == ["key1", "key2"]
