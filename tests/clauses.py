"""Which test checks which clause, and how it ended: the last two columns of docs/protocol.md.

    python -m tests.clauses            which clauses have no test yet
    python -m tests.clauses 71         the tests of clause 71
    python -m tests.clauses --write    bring the column of tests up to date
    python -m tests.clauses --results  each clause: its statement, its tests, and how they ended
    python -m tests.clauses --write-results   bring both columns up to date

How tests ended is noted by each run of pytest, for the tests that ran: after ``make test`` and
``make interop`` the results are those of both.

The tests are read, not imported: a marker is ``@pytest.mark.clause(71)`` on a function or a class,
or the same inside ``pytest.param(..., marks=...)``, there also by way of the known answers in
``tests/vectors``.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOCOL = ROOT / "docs" / "protocol.md"

CLAUSES = range(1, 132)
"""All clauses of the checklist."""

NOT_YET = frozenset({127, 128})
"""Those that need the management API: not in this version."""

REQUIRED = tuple(number for number in CLAUSES if number not in NOT_YET)
"""Those that a test must name."""

MAX_SHOWN = 2
"""Tests that the table names; the rest is counted."""

INTEROP = "tests/interop/"
"""Tests that only ``make interop`` runs: for a clause they are not enough."""

OUTCOMES = ROOT / ".pytest_cache" / "clauses.json"
"""How each test that names a clause ended when it last ran."""

_ROW = re.compile(r"^\| (\d+) \|(.*)\|([^|]*)\|([^|]*)\|$")
_RESULTS_LINE = re.compile(r"^Results: .*$", re.M)


@dataclass(frozen=True, slots=True, order=True)
class NamedTest:
    """A test, where it stands, and what it says of itself."""

    path: str
    line: int
    name: str

    @property
    def id(self) -> str:
        """What pytest calls it, without its class and parameters."""
        return f"{self.path}::{self.name}"

    @property
    def sentence(self) -> str:
        return self.name.removeprefix("test_").replace("_", " ")


@functools.cache
def read_markers() -> dict[int, list[NamedTest]]:
    """Read the markers of all tests."""
    found: dict[int, list[NamedTest]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        shown = path.relative_to(ROOT).as_posix()
        text = path.read_text(encoding="utf-8")
        if "clause(" not in text:
            continue
        tree = ast.parse(text)
        for function, numbers in _marked_functions(tree.body, inherited=_module_marks(tree)):
            test = NamedTest(shown, function.lineno, function.name)
            for number in sorted(numbers):
                found.setdefault(number, []).append(test)
    return found


def _marked_functions(
    body: list[ast.stmt], *, inherited: set[int]
) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, set[int]]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            marks = inherited | _marks(node.decorator_list)
            yield from _marked_functions(node.body, inherited=marks)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
            "test"
        ):
            yield node, inherited | _marks(node.decorator_list)


def _module_marks(tree: ast.Module) -> set[int]:
    return {
        number
        for node in tree.body
        if isinstance(node, ast.Assign)
        and any(isinstance(name, ast.Name) and name.id == "pytestmark" for name in node.targets)
        for number in _marks([node.value])
    }


def _marks(nodes: list[ast.expr]) -> set[int]:
    found: set[int] = set()
    for node in nodes:
        calls = [call for call in ast.walk(node) if isinstance(call, ast.Call)]
        marks = [call for call in calls if _is(call, "clause")]
        arguments = [argument for call in marks for argument in call.args]
        constants = [each.value for each in arguments if isinstance(each, ast.Constant)]
        found |= {number for number in constants if isinstance(number, int)}
        if any(isinstance(each, ast.Starred) for each in arguments):
            # clause(*row["clauses"]): the known answers themselves name the clauses.
            for call in calls:
                if _is(call, "load_vectors") and isinstance(call.args[0], ast.Constant):
                    found |= _clauses_of_vectors(str(call.args[0].value))
    return found


def _is(call: ast.Call, name: str) -> bool:
    function = call.func
    return name == (
        function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    )


def _clauses_of_vectors(name: str) -> set[int]:
    text = (ROOT / "tests" / "vectors" / f"{name}.json").read_text(encoding="utf-8")
    lists: list[list[int]] = []

    def note(fields: dict[str, object]) -> dict[str, object]:
        numbers = fields.get("clauses")
        if isinstance(numbers, list):
            lists.append(numbers)
        return fields

    json.loads(text, object_hook=note)
    return {number for numbers in lists for number in numbers}


def cell(number: int, tests: list[NamedTest]) -> str:
    """Give the table's last cell for a clause."""
    if not tests:
        return "" if number in REQUIRED else "not yet"
    shown = [f"[{test.sentence}](../{test.path})" for test in tests[:MAX_SHOWN]]
    more = len(tests) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def with_tests(
    text: str, found: dict[int, list[NamedTest]], results: Mapping[int, str] | None = None
) -> str:
    """Give the protocol's page with the column of tests filled in, and that of results if given."""
    lines = []
    for line in text.splitlines():
        row = _ROW.match(line)
        if row is not None:
            number = int(row[1])
            ended = row[4].strip() if results is None else results[number]
            cells = [cell(number, found.get(number, [])), ended]
            line = f"| {number} |{row[2]}|" + "".join(
                f" {each} |" if each else " |" for each in cells
            )
        lines.append(line)
    return "\n".join(lines) + "\n"


def with_results(text: str, found: dict[int, list[NamedTest]], *, today: str) -> str:
    """Give the protocol's page with both columns filled in, and the day of the results."""
    outcomes = read_outcomes()
    said = {number: _said(number, found, outcomes) for number in CLAUSES}
    summary = results_summary(found, outcomes)
    line = f"Results: of `make test` and `make interop`, {today}. {summary}."
    return with_tests(_RESULTS_LINE.sub(line, text, count=1), found, said)


def without_test(found: dict[int, list[NamedTest]]) -> list[int]:
    """Give the clauses that ``make test`` does not check, and must."""
    return [
        number
        for number in REQUIRED
        if all(test.path.startswith(INTEROP) for test in found.get(number, []))
    ]


# --- results -------------------------------------------------------------------------------------


def note_outcomes(ended: Mapping[str, str]) -> None:
    """Keep how tests ended, beside those that did not run now.

    Args:
        ended: ``passed``, ``skipped`` or ``failed`` by pytest's name of the test.
    """
    kept = read_outcomes() | {_without_class(name): outcome for name, outcome in ended.items()}
    OUTCOMES.parent.mkdir(exist_ok=True)
    text = json.dumps(kept, indent=1, sort_keys=True)
    # In one step: two runs at a time may both write.
    written = OUTCOMES.with_suffix(f".{os.getpid()}")
    written.write_text(text, encoding="utf-8")
    written.replace(OUTCOMES)


def read_outcomes() -> dict[str, str]:
    """Give how tests ended; empty where none has run."""
    try:
        document = json.loads(OUTCOMES.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return {str(name): str(outcome) for name, outcome in document.items()}


def _without_class(name: str) -> str:
    path, *_, function = name.split("::")
    return f"{path}::{function}"


def result(tests: list[NamedTest], outcomes: Mapping[str, str]) -> str:
    """Sum up a clause in a word or two: passed, failed, not run, no test."""
    ended = [outcomes.get(test.id, "") for test in tests]
    if "failed" in ended:
        return "FAILED: " + next(t.id for t in tests if outcomes.get(t.id) == "failed")
    if "passed" in ended:
        return "passed"
    return "not run" if tests else "no test"


def _said(number: int, found: dict[int, list[NamedTest]], outcomes: Mapping[str, str]) -> str:
    tests = found.get(number, [])
    return "not yet" if number in NOT_YET and not tests else result(tests, outcomes)


def results_table(found: dict[int, list[NamedTest]], outcomes: Mapping[str, str]) -> list[str]:
    """Give the checklist as a table: clause, statement, tests, result."""
    rows = ["| # | Statement | Tests | Result |", "|---|---|---|---|"]
    for line in PROTOCOL.read_text(encoding="utf-8").splitlines():
        row = _ROW.match(line)
        if row is not None:
            number, statement = int(row[1]), row[2].partition(" | ")[0].strip()
            tests = found.get(number, [])
            said = _said(number, found, outcomes)
            rows.append(f"| {number} | {statement} | {len(tests)} | {said} |")
    return rows


def results_summary(found: dict[int, list[NamedTest]], outcomes: Mapping[str, str]) -> str:
    """Count the clauses by their result, in one line."""
    said = [_said(number, found, outcomes).partition(":")[0] for number in CLAUSES]
    counts = ", ".join(f"{said.count(each)} {each}" for each in dict.fromkeys(said))
    return f"{len(CLAUSES)} clauses: {counts}"


def main(arguments: list[str]) -> int:
    found = read_markers()
    if arguments == ["--write"]:
        text = PROTOCOL.read_text(encoding="utf-8")
        PROTOCOL.write_text(with_tests(text, found), encoding="utf-8")
    elif arguments == ["--write-results"]:
        text = PROTOCOL.read_text(encoding="utf-8")
        today = time.strftime("%Y-%m-%d", time.gmtime())
        PROTOCOL.write_text(with_results(text, found, today=today), encoding="utf-8")
    elif arguments == ["--results"]:
        outcomes = read_outcomes()
        summary = results_summary(found, outcomes)
        sys.stdout.write("\n".join([*results_table(found, outcomes), "", summary]) + "\n")
    elif arguments:
        for number in map(int, arguments):
            for test in found.get(number, []):
                sys.stdout.write(f"{number}  {test.path}:{test.line}  {test.sentence}\n")
    missing = without_test(found)
    if missing:
        sys.stderr.write(f"no test names these clauses: {', '.join(map(str, missing))}\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
