"""The harness that measures reconnecting: everybody comes back, and the figures are shown."""

from __future__ import annotations

import pytest

from benchmarks.reconnect import distribution, many_agents, relay_restarts, spread
from tests.support.chain import FULL_LENGTH, is_full_length


def test_a_distribution_is_one_line() -> None:
    line = distribution("kills", [float(each) for each in range(101)])

    assert line == (
        "kills (101): least 0.00 s, median 50.00 s, p90 90.00 s, p99 99.00 s, most 100.00 s"
    )


def test_a_spread_has_a_row_for_each_half_second() -> None:
    assert spread([0.1, 0.2, 1.4]) == "   0.0 s  # 2\n   0.5 s   0\n   1.0 s   1"


def test_an_agent_comes_back_after_each_relay_restart() -> None:
    back, first_tries = relay_restarts(2)

    assert len(back) == len(first_tries) == 2
    assert all(seconds >= 0 for seconds in first_tries)


@pytest.mark.skipif(not is_full_length(), reason=f"long: set {FULL_LENGTH}")
def test_all_agents_of_one_process_come_back() -> None:
    assert len(many_agents(50, processes=1)) == 50
