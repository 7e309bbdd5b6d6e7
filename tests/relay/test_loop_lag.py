from __future__ import annotations

import asyncio

import pytest

from relay.loop_lag import BUCKET_SECONDS, LoopLag
from tests.support.until import until


@pytest.mark.parametrize(
    ("seconds", "bound"),
    [(0.0, 0.001), (0.001, 0.001), (0.0011, 0.0025), (5.0, 5.0), (5.1, float("inf"))],
)
def test_a_measurement_counts_in_every_bucket_from_its_own_on(seconds: float, bound: float) -> None:
    lag = LoopLag()

    lag.observe(seconds)

    assert dict(lag.cumulative) == {
        each: int(each >= bound) for each in (*BUCKET_SECONDS, float("inf"))
    }
    assert lag.total_seconds == seconds


async def test_it_measures_as_long_as_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.loop_lag.MEASURE_SECONDS", 0.001)
    lag = LoopLag()

    with lag.measured():
        await until(lambda: lag.cumulative[-1][1] >= 3)
    measured = lag.cumulative
    await asyncio.sleep(0.01)

    assert lag.cumulative == measured
