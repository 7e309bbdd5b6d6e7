"""Notes how the tests of each clause ended: `python -m tests.clauses --results` shows it.

And says how Hypothesis looks for examples. Its time limits measure the machine, which other tests
keep busy, so there are none. A run has the same examples each time, so that what fails has a cause
in what was changed; ``make test ARGS=--hypothesis-profile=explore`` looks for new ones.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from hybridge.program.logs import OUR_LOGGERS
from tests import clauses

settings.register_profile(
    "explore", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("same", settings.get_profile("explore"), derandomize=True)
settings.load_profile("same")

_ended = pytest.StashKey[dict[str, str]]()
"""How each test that names a clause ended in this run."""

_WORST_LAST = ("passed", "skipped", "failed")


def _log_levels() -> dict[str, int]:
    return {name: logging.getLogger(name).level for name in OUR_LOGGERS}


@pytest.fixture(scope="module", autouse=True)
def _logging_stays_as_it_was() -> Iterator[None]:
    """Fail the module that leaves the log otherwise: its neighbours would see other lines."""
    before = _log_levels()
    yield
    assert _log_levels() == before, "a program ran in this process without logging_kept"


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ended] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if item.get_closest_marker("clause") is not None:
        # It travels with the report from a worker process of xdist to the one that sums up.
        report.user_properties.append(("has_clause", True))
    return report


class _Notes:
    """Hears of every report: in the process that sums up."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if ("has_clause", True) not in [tuple(each) for each in report.user_properties]:
            return
        ended = self._config.stash[_ended]
        name = report.nodeid.partition("[")[0]
        ended[name] = max(ended.get(name, "passed"), report.outcome, key=_WORST_LAST.index)

    def pytest_sessionfinish(self) -> None:
        ended = self._config.stash[_ended]
        clauses.note_outcomes(ended)


def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput") and not session.config.option.collectonly:
        session.config.pluginmanager.register(_Notes(session.config))
