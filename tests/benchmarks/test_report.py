from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.figures import BY_KEY
from benchmarks.goals import GENERATOR_KEYS, GOALS
from benchmarks.growth import MEMORY
from benchmarks.plot import NoPlot, draw
from benchmarks.report import generator_check, markdown, spread, yes_or_no
from benchmarks.results import Results
from tests.support.chain import FULL_LENGTH, is_full_length


def results() -> Results:
    return Results(
        machine={"Python": "3.11.7"},
        labels={"direct": "direct", "openssh": "OpenSSH", "hybridge-uvloop": "Hybridge"},
        rounds=[
            {
                "direct": {"bulk_down": 3000.0},
                "openssh": {"bulk_down": 200.0, "round_trip_p50": 200.0},
                "hybridge-uvloop": {"bulk_down": 300.0, "round_trip_p50": 100.0},
            },
            {"openssh": {"bulk_down": 400.0}, "hybridge-uvloop": {"bulk_down": 400.0}},
            {"hybridge-uvloop": {"bulk_down": 500.0}},
        ],
    )


def row(report: str, title: str, *, number: int = 0) -> list[str]:
    lines = [line for line in report.splitlines() if line.startswith(f"| {title}")]
    return [cell.strip() for cell in lines[number].strip("|").split("|")]


def test_a_figure_is_its_median_with_lowest_and_highest() -> None:
    assert spread([3.0, 1.0, 2.0], 1) == "2.0 (1.0 to 3.0)"
    assert spread([2.5], 1) == "2.5"
    assert spread([], 1) == "-"


def test_the_report_has_a_row_for_each_figure_that_was_measured() -> None:
    report = markdown(results())

    cells = row(report, "bulk down")
    assert cells[1:] == ["3000", "300 (200 to 400)", "400 (300 to 500)"]
    assert "bulk up" not in report
    assert "- Python: 3.11.7" in report


def ratios(report: str, title: str) -> list[str]:
    return row(report[report.index("## Against") :], title)[1:]


def goals(report: str, title: str) -> list[str]:
    return row(report[report.index("## Figures to reach") :], title)[1:]


def test_ratios_compare_what_the_same_round_measured() -> None:
    report = markdown(results())

    assert ratios(report, "bulk down") == ["1.25 (1.00 to 1.50)"]
    assert ratios(report, "round trip 64 B, p50") == ["0.50"]


def test_a_goal_is_reached_or_missed_by_the_median_of_the_ratios() -> None:
    found = results()
    found.labels = {**found.labels, "c-chain": "C chain"}
    found.rounds[0]["c-chain"] = {"bulk_down": 600.0}
    report = markdown(found)

    assert goals(report, "bulk down") == [
        "1.25 (1.00 to 1.50), ≥ 1: reached",
        "0.50, ≥ 0.9: **missed**",
        "-, ≥ 3: not compared",
    ]
    assert goals(report, "round trip")[0] == "0.50, ≤ 0.85: reached"


def test_of_several_rivals_the_best_of_each_round_counts() -> None:
    found = results()
    found.rounds[0] |= {
        "frp": {"bulk_down": 100.0, "round_trip_p50": 400.0},
        "chisel": {"bulk_down": 150.0, "round_trip_p50": 800.0},
    }
    found.rounds[1]["frp"] = {"bulk_down": 100.0}

    assert found.ratios("hybridge-uvloop", "bulk_down", ("frp", "chisel")) == [2.0, 4.0]
    assert found.ratios("hybridge-uvloop", "round_trip_p50", ("frp", "chisel")) == [0.25]


def test_memory_that_grows_while_a_reader_stalls_has_a_limit() -> None:
    found = results()
    found.rounds[0]["hybridge-uvloop"] |= {"stalled_down": 1024.0, "stalled_up": 1025.0}
    report = markdown(found)

    assert goals(report, "memory growth, stalled reader, down")[0] == "1024 KiB, ≤ 1024: reached"
    assert "**missed**" in goals(report, "memory growth, stalled reader, up")[0]


def test_goals_are_set_for_figures_that_exist() -> None:
    assert {*GOALS, *GENERATOR_KEYS} <= set(BY_KEY)


def test_a_load_generator_that_is_far_ahead_is_not_the_limit() -> None:
    found = results()
    found.rounds = [{"direct": {"bulk_down": 900.0}, "openssh": {"bulk_down": 200.0}}]

    assert list(generator_check(found)) == [
        "the load generator is not the limit: 4.5 times any peer (bulk down, 1 stream, OpenSSH)"
    ]


def test_a_load_generator_that_is_not_far_ahead_is_warned_of() -> None:
    found = results()
    found.rounds = [{"direct": {"round_trip_p50": 50.0}, "openssh": {"round_trip_p50": 100.0}}]

    (warning,) = generator_check(found)
    assert warning.startswith("warning: the load generator may be the limit: round trip")
    assert "only 2.0 times" in warning
    assert warning in markdown(found)


def test_a_truth_is_what_the_rounds_say() -> None:
    assert [yes_or_no(each) for each in ([], [1.0, 1.0], [0.0], [1.0, 0.0])] == [
        "-", "yes", "no", "yes in 1 of 2",
    ]  # fmt: skip


def test_growth_is_a_table_with_its_slope() -> None:
    found = results()
    values = {MEMORY.at(count): 50.0 + 5.0 * count for count in (100, 1_000, 5_000)}
    found.rounds = [{"hybridge-uvloop": values}]
    report = markdown(found)

    assert "## How cost grows: Hybridge" in report
    assert row(report, "5000 ")[2] == "25050"
    assert row(report, "slope")[2] == "n^0.98, linear; 50 KiB + 5 each"


@pytest.mark.skipif(not is_full_length(), reason=f"slow to import: set {FULL_LENGTH}")
def test_the_figures_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")

    png, svg = draw(results(), tmp_path, "name")

    assert png.read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in svg.read_text(encoding="utf-8")


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    found = results()
    found.rounds = []

    with pytest.raises(NoPlot, match="no figure"):
        draw(found, tmp_path, "name")
    assert list(tmp_path.iterdir()) == []


def test_without_openssh_there_are_no_ratios_and_the_reason_is_said() -> None:
    found = results()
    found.labels = {"direct": "direct", "hybridge-uvloop": "Hybridge"}
    found.skipped = {"OpenSSH": "no sshd was found"}

    report = markdown(found)

    assert "## Against" not in report
    assert "- not here: OpenSSH, no sshd was found" in report


def test_failures_stand_in_the_report() -> None:
    found = results()
    found.failures.append("bulk, Hybridge: Connection reset by peer")

    assert "- failed: bulk, Hybridge: Connection reset by peer" in markdown(found)


def test_the_raw_data_are_json() -> None:
    fields = json.loads(json.dumps(results().to_fields()))

    assert fields["rounds"][1]["hybridge-uvloop"] == {"bulk_down": 400.0}
