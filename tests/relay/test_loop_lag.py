from __future__ import annotations

import asyncio
import time

import pytest

from relay.loop_lag import BUCKET_SECONDS, MEASURE_SECONDS, LoopLag
from tests.support.loops import on_every_loop
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


@on_every_loop
async def test_a_loop_that_is_held_up_is_late() -> None:
    lag = LoopLag()

    with lag.measured():
        time.sleep(MEASURE_SECONDS + 0.1)  # noqa: ASYNC251 - that is the point
        await until(lambda: lag.cumulative[-1][1])

    assert lag.total_seconds >= 0.1


async def test_it_measures_as_long_as_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.loop_lag.MEASURE_SECONDS", 0.001)
    lag = LoopLag()

    with lag.measured():
        await until(lambda: lag.cumulative[-1][1] >= 3)
    measured = lag.cumulative
    await asyncio.sleep(0.01)

    assert lag.cumulative == measured
