from __future__ import annotations

import pytest

from benchmarks.figures import FIGURES
from benchmarks.measures import MEASURES
from benchmarks.statistic import exponent, line, percentile


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([5.0], 99, 5.0),
        ([3.0, 1.0, 2.0], 50, 2.0),
        ([float(number) for number in range(101)], 99, 99.0),
        ([float(number) for number in range(101)], 1, 1.0),
    ],
)
def test_a_percentile(values: list[float], percent: int, expected: float) -> None:
    assert percentile(values, percent) == expected


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], 0), ([1.0], 100)])
def test_a_percentile_of_nothing_is_an_error(values: list[float], percent: int) -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile(values, percent)


def test_figures_and_measures_have_names_of_their_own() -> None:
    assert len({figure.key for figure in FIGURES}) == len(FIGURES)
    assert len({measure.name for measure in MEASURES}) == len(MEASURES)


@pytest.mark.parametrize(
    ("costs", "expected"), [([7.0, 7.0, 7.0], 0.0), ([1.0, 10.0, 100.0], 1.0), ([1, 100, 1e4], 2.0)]
)
def test_an_exponent_says_how_cost_grows(costs: list[float], expected: float) -> None:
    assert exponent([1, 10, 100], costs) == pytest.approx(expected)


def test_what_costs_nothing_does_not_count_towards_an_exponent() -> None:
    assert exponent([1, 10, 100], [0.0, 10.0, 100.0]) == pytest.approx(1.0)
    assert exponent([1, 10], [0.0, 10.0]) is None
    assert exponent([], []) is None


def test_a_line_is_what_is_fixed_and_what_each_one_adds() -> None:
    assert line([0, 10, 20], [5.0, 25.0, 45.0]) == pytest.approx((5.0, 2.0))
    assert line([10], [5.0]) is None
