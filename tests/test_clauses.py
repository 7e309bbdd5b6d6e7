"""What a run notes of the clauses, and how it is summed up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import clauses
from tests.clauses import NamedTest

FIRST = NamedTest("tests/relay/test_a.py", 1, "test_first")
SECOND = NamedTest("tests/interop/test_b.py", 1, "test_second")


@pytest.mark.parametrize(
    ("outcomes", "result"),
    [
        ({}, "not run"),
        ({FIRST.id: "passed"}, "passed"),
        ({FIRST.id: "passed", SECOND.id: "skipped"}, "passed"),
        ({FIRST.id: "skipped", SECOND.id: "skipped"}, "not run"),
        ({FIRST.id: "passed", SECOND.id: "failed"}, f"FAILED: {SECOND.id}"),
    ],
)
def test_one_failure_fails_a_clause_and_one_success_is_enough(
    outcomes: dict[str, str], result: str
) -> None:
    assert clauses.result([FIRST, SECOND], outcomes) == result


def test_a_clause_without_a_test_says_so() -> None:
    assert clauses.result([], {FIRST.id: "passed"}) == "no test"


def test_an_interop_test_alone_is_not_enough_for_a_clause() -> None:
    found = {number: [SECOND] if number == 1 else [FIRST] for number in clauses.REQUIRED}

    assert clauses.without_test(found) == [1]


def test_a_run_replaces_what_it_ran_and_keeps_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clauses, "OUTCOMES", tmp_path / "cache" / "clauses.json")

    clauses.note_outcomes({"tests/a.py::test_one": "failed", "tests/a.py::In::test_two": "passed"})
    clauses.note_outcomes({"tests/a.py::test_one": "passed"})

    assert clauses.read_outcomes() == {
        "tests/a.py::test_one": "passed",
        "tests/a.py::test_two": "passed",
    }
