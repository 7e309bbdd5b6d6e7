"""The pytest plugin as its users see it: the guide, options, and used wrongly."""

from __future__ import annotations

import logging
import re
import subprocess
import sys

import pytest

from devstack import pytest_plugin
from tests.support.plugin_project import ROOT, run

pytest_plugins = ["pytester"]


# --- the guide ------------------------------------------------------------------------------------


def _examples() -> tuple[str, list[str]]:
    """The guide's Python: all tests and fixtures in one, and the scripts."""
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    tests = [block for block in blocks if "def test_" in block or "@pytest.fixture" in block]
    return "\n".join(tests), [block for block in blocks if block not in tests]


def test_the_tests_in_the_guide_pass(project: pytest.Pytester) -> None:
    tests, _ = _examples()

    run(project, tests).assert_outcomes(
        passed=tests.count("def test_") + 2
    )  # One runs three times.


def test_the_scripts_in_the_guide_print_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    _, scripts = _examples()
    assert len(scripts) == 2

    for script in scripts:
        exec(compile(script, "docs/testing.md", "exec"), {"__name__": "__main__"})  # noqa: S102
        assert capsys.readouterr().out == "b'hello'\n"


def test_every_option_is_in_the_guide() -> None:
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")

    assert re.findall(r"^\| `(--hybridge-[\w-]+)`", page, re.M) == [
        f"--{name.replace('_', '-')}" for name, _, _ in pytest_plugin.OPTIONS
    ]


# --- used wrongly, and options -------------------------------------------------------------------


def test_a_wrong_target_in_a_fixture_is_two_lines_that_help(project: pytest.Pytester) -> None:
    result = run(
        project,
        """
        @pytest.fixture
        def orders(hybrid_connection):
            return hybrid_connection('db.corp.local')

        def test_it(orders):
            pass
        """,
    )

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            ">*return hybrid_connection('db.corp.local')",
            "E  *InvalidSetting: target: 'db.corp.local' has no port",
            "E  *hint: write HOST:PORT, such as db.corp.local:5432 or [[]::1]:5432",
        ]
    )
    result.stdout.no_fnmatch_line("*host_port.py*")


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("--hybridge-leaks=maybe", "hybridge_leaks: 'maybe' is none of fail, warn, off"),
        ("--hybridge-leak-seconds=-1", "hybridge_leak_seconds: '-1' is not a number of seconds"),
        ("--hybridge-leak-seconds=x", "hybridge_leak_seconds: 'x' is not a number of seconds"),
        ("--hybridge-log-level=loud", "hybridge_log_level: 'loud' is none of debug, info, *"),
    ],
)
def test_an_option_that_is_none_ends_the_session_before_it_begins(
    project: pytest.Pytester, option: str, problem: str
) -> None:
    result = run(project, "", option)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {problem}"])


def test_logs_of_all_three_are_shown_from_the_level_that_is_asked_for(
    project: pytest.Pytester, caplog: pytest.LogCaptureFixture
) -> None:
    test = """
        def test_it(hybrid_connection, target):
            hybrid_connection(target)
            assert not "reached"
    """
    for name in ("relay", "hcm_agent", "app_client"):
        # It runs in this process, where an earlier test may have left another level.
        caplog.set_level(logging.NOTSET, logger=name)

    silent, talking = run(project, test), run(project, test, "--hybridge-log-level=info")

    silent.stdout.no_fnmatch_line("*INFO*hcm_agent.status*online")
    talking.stdout.fnmatch_lines(["*INFO*relay.diagnostics*a listener is online"])
    talking.stdout.fnmatch_lines(["*INFO*hcm_agent.status*online"])


def test_the_certificate_authority_may_be_kept(project: pytest.Pytester) -> None:
    test = """
        def test_it(hybridge_relay, pytestconfig):
            assert hybridge_relay.ca == pytestconfig.rootpath / "ca" / "ca.pem"
    """
    folder = project.path / "ca"

    run(project, test, "--hybridge-ca-dir=ca").assert_outcomes(passed=1)
    before = (folder / "ca.pem").read_bytes()
    run(project, test, "--hybridge-ca-dir=ca").assert_outcomes(passed=1)

    assert (folder / "ca.pem").read_bytes() == before


def test_installed_and_unused_it_imports_nothing_of_ours() -> None:
    script = (
        "import sys, devstack.pytest_plugin;"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in "
        "('relay', 'hcm_agent', 'app_client', 'hybridge', 'pydantic', 'websockets', 'asyncio')))"
    )

    found = subprocess.run(  # noqa: S603 - ours
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert found.stdout == "[]\n"
