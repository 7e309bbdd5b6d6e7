from __future__ import annotations

import json

from benchmarks.report import Results, markdown, spread


def results() -> Results:
    return Results(
        machine={"Python": "3.11.7"},
        labels={"direct": "direct", "openssh": "OpenSSH", "ours": "Hybridge"},
        rounds=[
            {
                "direct": {"bulk_down": 3000.0},
                "openssh": {"bulk_down": 200.0, "round_trip_p50": 200.0},
                "ours": {"bulk_down": 300.0, "round_trip_p50": 100.0},
            },
            {"openssh": {"bulk_down": 400.0}, "ours": {"bulk_down": 400.0}},
            {"ours": {"bulk_down": 500.0}},
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


def test_ratios_compare_what_the_same_round_measured() -> None:
    report = markdown(results())

    assert row(report, "bulk down", number=1)[1:] == ["1.25 (1.00 to 1.50)"]
    assert row(report, "round trip 64 B, p50", number=1)[1:] == ["0.50"]


def test_without_openssh_there_are_no_ratios_and_the_reason_is_said() -> None:
    found = results()
    found.labels = {"direct": "direct", "ours": "Hybridge"}
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

    assert fields["rounds"][1]["ours"] == {"bulk_down": 400.0}
