"""docs/doctor.md is true: every command of it is run, and its tables are those of the code.

python -m tests.devstack.doctor.test_guide    writes the table of faults anew
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from devstack.doctor.examination import STEPS
from devstack.doctor.faults import Fault
from devstack.doctor.finding import Check
from hybridge.protocol.claims import Claim
from tests.support.agent_ends import free_port
from tests.support.examined import agent
from tests.support.relay import (
    KEY,
    SECOND_KEY,
    hybrid_connection,
    namespace,
    rule,
    running_relay,
)
from tests.support.transcripts import play, steps

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "doctor.md"
MARK = "<!-- faults -->\n"


def table() -> str:
    rows = ["", "| Code | Check | What it means | What to do |", "|---|---|---|---|"]
    rows += [
        f"| `{each.code}` | {each.check.value} | {each.meaning} | {each.next_step} |"
        for each in Fault
    ]
    return "\n".join(rows) + "\n"


async def test_every_command_of_the_guide_prints_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in os.environ:
        if name.startswith(("HYBRIDGE_", "HCM_", "APP_CLIENT_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "no-service"))
    monkeypatch.chdir(tmp_path)
    closed = free_port()
    rules = [rule("defaultListener", Claim.LISTEN), rule("defaultSender", Claim.SEND)]
    served = [
        hybrid_connection(name, target=("127.0.0.1", closed), rules=rules)
        for name in ("orders-db", "stock-db")
    ]
    async with (
        running_relay(namespace(*served)) as relay,
        agent(relay, path="stock-db", rule="defaultListener"),
    ):
        page = GUIDE.read_text(encoding="utf-8")
        page = page.replace(":8443", f":{relay.port}").replace(":5432", f":{closed}")
        environment = {"HYBRIDGE_CA": str(relay.ca)} | {
            name: f"Endpoint=sb://localhost:{relay.port}/;SharedAccessKeyName={rule_name};"
            f"SharedAccessKey={KEY};EntityPath={path}"
            for name, rule_name, path in (
                ("ORDERS_LISTEN", "defaultListener", "orders-db"),
                ("ORDERS_SEND", "defaultSender", "orders-db"),
                ("STOCK_SEND", "defaultSender", "stock-db"),
            )
        }
        found = steps(page)
        assert len(found) >= 8
        assert all(each.code is not None for each in found)
        for step in found:
            await asyncio.to_thread(play, step, environment=environment)
            assert KEY not in "".join(step.output)


def test_the_guides_table_of_faults_is_that_of_the_code() -> None:
    page = GUIDE.read_text(encoding="utf-8")

    assert page.partition(MARK)[2] == table(), "run: python -m tests.devstack.doctor.test_guide"


def test_the_guides_table_of_checks_is_that_of_the_code() -> None:
    page = GUIDE.read_text(encoding="utf-8").split("## The checks\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| ([^|]*)\|$", page, re.M)[1:]
    needs = {step.check: [each.value for each in step.needs] for step in STEPS}

    assert [name for name, _ in rows] == [each.value for each in Check]
    for name, after in rows:
        needed = needs.get(Check(name), ["token"])
        assert after.strip() == (needed[-1] if needed else "")


def test_every_fault_has_a_test_that_finds_it() -> None:
    source = "".join(
        path.read_text(encoding="utf-8")
        for path in GUIDE.parents[1].joinpath("tests", "devstack", "doctor").glob("test_*.py")
    )

    assert [each.name for each in Fault if f"Fault.{each.name}" not in source] == []


def test_no_secret_of_the_tests_is_in_the_guide() -> None:
    page = GUIDE.read_text(encoding="utf-8")

    assert KEY not in page
    assert SECOND_KEY not in page


if __name__ == "__main__":
    GUIDE.write_text(GUIDE.read_text(encoding="utf-8").partition(MARK)[0] + MARK + table())
