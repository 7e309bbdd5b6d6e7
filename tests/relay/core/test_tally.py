from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.tally import NAMESPACE_ONLY, SENDER_LEFT, Attempt, Kind, Labels, Side, Tally
from tests.support.relay import hybrid_connection, namespace

ORDERS = Labels("Demo-NS", "Orders")


def tally(*names: str) -> Tally:
    made = Tally()
    serve(made, *names)
    return made


def serve(served: Tally, *names: str) -> None:
    connections = [hybrid_connection(name) for name in names]
    served.serve([namespace(*connections, name="Demo-NS")])


def test_labels_are_spelled_as_configured() -> None:
    counts = tally("Orders")

    assert counts.labels("demo-ns/orders") == ORDERS
    assert counts.labels("demo-ns/orders/suffix") == Labels("Demo-NS", NAMESPACE_ONLY)
    assert counts.labels("demo-ns/") == Labels("Demo-NS", NAMESPACE_ONLY)
    assert counts.labels("other-ns/orders") == Labels("", NAMESPACE_ONLY)


@pytest.mark.parametrize(
    ("status", "kind", "result"),
    [
        (400, Kind.CLIENT_ERROR, "BadRequest"),
        (401, Kind.CLIENT_ERROR, "TokenMissingOrInvalid"),
        (499, Kind.CLIENT_ERROR, "BadRequest"),
        (500, Kind.SERVER_ERROR, "InternalServerError"),
        (503, Kind.SERVER_ERROR, "ServerBusy"),
        (599, Kind.SERVER_ERROR, "InternalServerError"),
    ],
)
def test_from_500_on_it_is_the_servers_error(status: int, kind: Kind, result: str) -> None:
    counts = tally("Orders")

    counts.refused(Side.SENDER, "demo-ns/orders", status)

    assert dict(counts.attempts) == {Attempt(Side.SENDER, ORDERS, kind, result): 1}


@given(st.lists(st.tuples(st.text(), st.integers(400, 599))))
def test_whatever_is_asked_for_memory_is_bounded_and_nothing_is_lost(
    asked: list[tuple[str, int]],
) -> None:
    counts = tally("Orders")

    for name, status in asked:
        counts.refused(Side.LISTENER, f"demo-ns/{name}", status)

    assert counts.attempts.total() == len(asked)
    assert {attempt.labels for attempt in counts.attempts} <= {
        ORDERS,
        Labels("Demo-NS", NAMESPACE_ONLY),
    }
    assert len(counts.attempts) <= 2 * 10


def test_what_a_reload_removes_is_forgotten_and_the_rest_goes_on() -> None:
    counts = tally("Orders", "Invoices")
    for name in ("orders", "invoices", "stranger"):
        counts.accepted(Side.LISTENER, f"demo-ns/{name}")
        counts.refused(Side.SENDER, f"demo-ns/{name}", 400, SENDER_LEFT)
        counts.disconnected(Side.SENDER, f"demo-ns/{name}", payload_bytes=7)

    serve(counts, "Orders", "New")

    kept = {ORDERS, Labels("Demo-NS", NAMESPACE_ONLY)}
    assert {attempt.labels for attempt in counts.attempts} == kept
    assert {labels for _, labels in counts.disconnects} == kept
    assert dict(counts.bytes_transferred) == dict.fromkeys(kept, 7)
    assert [labels.entity_name for _, labels in counts.configured] == ["Orders", "New"]
