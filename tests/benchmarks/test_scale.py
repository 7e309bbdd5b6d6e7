from __future__ import annotations

import pytest

from benchmarks.lag import Look, percentile_between
from benchmarks.run import target
from benchmarks.scale import QUICK, Load, report, run, set_ups_at_a_rate
from tests.support.chain import FULL_LENGTH, is_full_length

EXPOSITION = """\
# TYPE ActiveListeners gauge
ActiveListeners{Namespace="a",EntityName="b"} 2.0
ActiveListeners{Namespace="a",EntityName="c"} 1.0
# TYPE ActiveConnections gauge
ActiveConnections{Namespace="a",EntityName="b"} 7.0
# TYPE hybridge_event_loop_lag_seconds histogram
hybridge_event_loop_lag_seconds_bucket{le="0.01"} 90.0
hybridge_event_loop_lag_seconds_bucket{le="0.05"} 99.0
hybridge_event_loop_lag_seconds_bucket{le="+Inf"} 100.0
hybridge_event_loop_lag_seconds_count 100.0
hybridge_event_loop_lag_seconds_sum 1.0
"""


def look(*counts: float) -> Look:
    bounds = (0.01, 0.05, float("inf"))
    return Look(lag=dict(zip(bounds, counts, strict=True)), listeners=0, connections=0)


def test_a_look_adds_up_what_the_relay_says_of_all_hybrid_connections() -> None:
    found = Look.parse(EXPOSITION)

    assert (found.listeners, found.connections) == (3, 7)
    assert found.lag == {0.01: 90.0, 0.05: 99.0, float("inf"): 100.0}


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ((110, 110, 110), (0.0, 0.01)),
        ((10, 109, 110), (0.01, 0.05)),
        ((10, 100, 110), (0.05, float("inf"))),
    ],
)
def test_a_percentile_of_the_lag_lies_in_the_bucket_of_what_came_in_between(
    after: tuple[float, float, float], expected: tuple[float, float]
) -> None:
    assert percentile_between(look(10, 10, 10), look(*after), 99) == expected


def test_without_a_measurement_in_between_there_is_no_percentile() -> None:
    with pytest.raises(ValueError, match="no lag"):
        percentile_between(look(1, 1, 1), look(1, 1, 1), 99)


def test_the_report_says_which_goals_were_reached() -> None:
    _, set_up, lag = report(Load(), [0.1] * 90 + [0.4] * 10, look(0, 0, 0), look(100, 100, 100))

    assert set_up.startswith("set-up: p50 100.0 ms, p99 400.0 ms")
    assert set_up.endswith("missed)")
    assert lag == "event-loop lag: p99 between 0 and 10 ms (goal: ≤ 50 ms: reached)"


def test_connections_are_opened_at_a_rate() -> None:
    with target() as address:
        assert len(set_ups_at_a_rate(address, a_second=1_000, seconds=0.02)) == 20


@pytest.mark.skipif(not is_full_length(), reason=f"starts nine programs: set {FULL_LENGTH}")
def test_a_little_load_is_carried() -> None:
    load, set_up, lag, relay = run(QUICK)

    assert "50 pairs" in load
    assert "22 listeners" in relay
    assert "p99" in set_up
    assert "p99" in lag
