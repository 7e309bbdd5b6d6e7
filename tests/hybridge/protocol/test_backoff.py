from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hybridge.protocol.backoff import (
    CAP_SECONDS,
    EARLY_CAP_SECONDS,
    EARLY_OUTAGE_SECONDS,
    HEALTHY_AFTER_SECONDS,
    Backoff,
)


def _bounds(_low: float, high: float) -> float:
    return high


def test_the_first_try_comes_at_once_and_then_the_bound_doubles() -> None:
    backoff = Backoff(_bounds)

    assert [backoff.next_delay(now) for now in (0, 1, 2, 4)] == [0, 0.8, 1.6, 2]


def test_after_five_minutes_of_outage_the_bound_goes_on_doubling_to_thirty_seconds() -> None:
    backoff = Backoff(_bounds)
    delays = [backoff.next_delay(now) for now in (0, 1, 2, EARLY_OUTAGE_SECONDS - 0.1)]

    assert delays[-1] == EARLY_CAP_SECONDS
    assert [backoff.next_delay(EARLY_OUTAGE_SECONDS + now) for now in range(4)] == [
        6.4,
        12.8,
        25.6,
        30,
    ]


def test_the_delay_is_drawn_between_zero_and_the_bound() -> None:
    backoff = Backoff(lambda low, high: low + (high - low) / 4)
    backoff.next_delay(0)

    assert backoff.next_delay(0) == 0.2


def test_a_thousand_delays_are_spread_within_their_bounds() -> None:
    backoff = Backoff(random.Random(2).uniform)  # noqa: S311 - the same draws each time
    delays: list[float] = []
    late: list[float] = []
    now = 0.0

    backoff.next_delay(now)
    for _ in range(1_000):
        delay = backoff.next_delay(now)
        (delays if now < EARLY_OUTAGE_SECONDS else late).append(delay)
        now += delay

    assert len(delays) + len(late) == 1_000
    assert all(0 <= delay <= EARLY_CAP_SECONDS for delay in delays)
    assert delays[0] <= 1
    assert all(0 <= delay <= CAP_SECONDS for delay in late)
    # Full jitter: also close to nothing, also close to all, and half on average.
    assert min(late) < 1
    assert max(late) > CAP_SECONDS - 1
    assert 14 < sum(late) / len(late) < 16


@given(st.lists(st.floats(0, 10_000), min_size=1, max_size=60))
def test_it_never_gives_up_and_never_waits_longer_than_the_cap(times: list[float]) -> None:
    backoff = Backoff(_bounds)
    times.sort()

    delays = [backoff.next_delay(now) for now in times]

    assert delays[0] == 0
    assert all(0 < delay <= CAP_SECONDS for delay in delays[1:])
    assert all(first <= second for first, second in pairwise(delays))


def test_after_health_the_first_try_comes_within_half_a_second() -> None:
    backoff = Backoff(_bounds)
    for now in range(100):
        backoff.next_delay(now)

    backoff.worked(HEALTHY_AFTER_SECONDS)

    assert [backoff.next_delay(now) for now in (200, 200, 201, 259)] == [0.5, 0.8, 1.6, 2]


def test_a_connection_that_breaks_sooner_is_the_same_outage() -> None:
    backoff = Backoff(_bounds)
    for now in range(400):
        backoff.next_delay(now)

    backoff.worked(HEALTHY_AFTER_SECONDS - 0.1)

    assert backoff.next_delay(400) == CAP_SECONDS


def test_after_a_connection_that_broke_soon_the_next_try_comes_within_a_second() -> None:
    backoff = Backoff(_bounds)
    delays: list[float] = []
    for now in range(0, 200, 5):
        delays.append(backoff.next_delay(now))
        delays.append(backoff.next_delay(now + 1))
        backoff.worked(HEALTHY_AFTER_SECONDS / 2)

    assert delays[:6] == [0, 0.8, 0.8, 1.6, 0.8, 1.6]
    assert set(delays[2::2]) == {0.8}


def test_connections_that_break_soon_for_five_minutes_are_tried_for_less_and_less() -> None:
    backoff = Backoff(_bounds)
    delays: list[float] = []
    for now in range(0, 400, 2):
        delays.append(backoff.next_delay(now))
        backoff.worked(HEALTHY_AFTER_SECONDS / 2)

    assert max(delays[:100]) == 0.8
    assert delays[-1] == CAP_SECONDS


def test_who_starts_afresh_tries_at_once_and_then_as_in_a_new_outage() -> None:
    backoff = Backoff(_bounds)
    for now in range(400):
        backoff.next_delay(now)

    backoff.start_afresh()

    assert [backoff.next_delay(now) for now in (400, 401, 402)] == [0, 0.8, 1.6]
