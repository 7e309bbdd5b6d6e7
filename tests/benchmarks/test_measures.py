from __future__ import annotations

import pytest

from benchmarks.measures import FIGURES, MEASURES, percentile


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
