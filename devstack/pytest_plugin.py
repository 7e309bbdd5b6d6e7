"""Fixtures for pytest: a relay for the session, a namespace for each test, hybrid connections.

pytest imports this wherever the package is installed, needed or not: so it imports nothing itself
before a fixture is asked for. docs/testing.md is the guide.
"""

from __future__ import annotations

import logging
import re
import secrets
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from devstack.testing import (
        BackgroundNamespace,
        BackgroundRelay,
        HybridConnectionFactory,
        RelaySettings,
    )

LEAK_MODES = ("fail", "warn", "off")
LOG_LEVELS = ("debug", "info", "warning", "error")
LOGGERS = ("relay", "hcm_agent", "app_client", "hybridge")

_MAX_TEST_CHARACTERS = 40
_failed = pytest.StashKey[bool]()
_ran = pytest.StashKey[bool]()


class HybridgeLeak(UserWarning):
    """A test left something open, and ``hybridge_leaks`` is ``warn``."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options; each has a twin in the configuration file."""
    group = parser.getgroup("hybridge", "Azure Relay Hybrid Connections")
    for name, metavar, text in OPTIONS:
        flag = f"--{name.replace('_', '-')}"
        group.addoption(flag, dest=name, metavar=metavar, default=None, help=text)
        parser.addini(name, text, type="string", default="")


OPTIONS = (
    ("hybridge_leaks", "|".join(LEAK_MODES), "what becomes of a test that leaves something open"),
    ("hybridge_leak_seconds", "SECONDS", "how long what a test has closed may take to be over"),
    ("hybridge_log_level", "|".join(LOG_LEVELS), "what relay, agents and clients log"),
    ("hybridge_ca_dir", "DIR", "keep the certificate authority here, to trust it for good"),
)


def _setting(config: pytest.Config, name: str) -> str:
    value = config.getoption(name)
    return str(config.getini(name) if value is None else value).strip()


def _choice(config: pytest.Config, name: str, choices: tuple[str, ...], default: str) -> str:
    value = _setting(config, name).lower() or default
    if value and value not in choices:
        raise pytest.UsageError(f"{name}: {value!r} is none of {', '.join(choices)}")
    return value


def _leak_seconds(config: pytest.Config) -> float | None:
    text = _setting(config, "hybridge_leak_seconds")
    try:
        seconds = float(text) if text else None
    except ValueError:
        seconds = -1.0
    if seconds is not None and not 0 <= seconds < float("inf"):
        raise pytest.UsageError(f"hybridge_leak_seconds: {text!r} is not a number of seconds")
    return seconds


def pytest_configure(config: pytest.Config) -> None:
    """Check what was given, before any test runs."""
    _choice(config, "hybridge_leaks", LEAK_MODES, "fail")
    _choice(config, "hybridge_log_level", LOG_LEVELS, "")
    _leak_seconds(config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note that a test has failed: what it left open is not its first trouble then."""
    report = yield
    if report.failed:
        item.stash[_failed] = True
    if report.when == "call":
        item.stash[_ran] = True
    return report


@pytest.fixture(scope="session")
def hybridge_relay_settings() -> RelaySettings | None:
    """Waits and limits of the relay. Override it, to have others than the relay's defaults."""
    return None


@pytest.fixture(scope="session")
def hybridge_relay(
    pytestconfig: pytest.Config, hybridge_relay_settings: RelaySettings | None
) -> Iterator[BackgroundRelay]:
    """Give the relay of this session, in a thread with an event loop of its own."""
    from devstack.testing import background_relay

    folder = _setting(pytestconfig, "hybridge_ca_dir")
    ca_dir = pytestconfig.rootpath / Path(folder).expanduser() if folder else None
    with (
        _logged(_choice(pytestconfig, "hybridge_log_level", LOG_LEVELS, "")),
        background_relay(settings=hybridge_relay_settings, ca_dir=ca_dir) as relay,
    ):
        yield relay


@pytest.fixture
def hybridge_namespace(
    request: pytest.FixtureRequest, hybridge_relay: BackgroundRelay
) -> Iterator[BackgroundNamespace]:
    """Give this test a namespace of its own; at its end nothing may be left open in it."""
    from devstack.testing import LEAK_SECONDS, LeaksFound

    mode = _choice(request.config, "hybridge_leaks", LEAK_MODES, "fail")
    seconds = _leak_seconds(request.config)
    with hybridge_relay.namespace(_name_for(request.node.name), leak_seconds=None) as namespace:
        yield namespace
        # Where it was interrupted there is no report, and an error here would hide that.
        stash = request.node.stash
        has_failed = stash.get(_failed, False) or not stash.get(_ran, False)
        wait = None if has_failed or mode == "off" else LEAK_SECONDS if seconds is None else seconds
        leaks = namespace.end(leak_seconds=wait)
    if not leaks or mode == "off":
        return
    found = LeaksFound(f"namespace {namespace.name}", leaks)
    text = f"{found}\nhint: {found.hint}"
    if has_failed:
        request.node.add_report_section("teardown", "hybridge", text)
    elif mode == "fail":
        pytest.fail(text, pytrace=False)
    else:
        warnings.warn(text, HybridgeLeak, stacklevel=1)


@pytest.fixture
def hybrid_connection(hybridge_namespace: BackgroundNamespace) -> HybridConnectionFactory:
    """Give a function that makes hybrid connections: ``hybrid_connection("127.0.0.1:5432")``."""
    return hybridge_namespace.hybrid_connection


def _name_for(test: str) -> str:
    """Name a namespace so that the logs tell whose it is, and no two are the same."""
    words = re.sub(r"[^0-9a-z]+", "-", test.lower().removeprefix("test")).strip("-")
    return f"t-{words[:_MAX_TEST_CHARACTERS].strip('-') or 'test'}-{secrets.token_hex(3)}"


@contextmanager
def _logged(level: str) -> Iterator[None]:
    """Have our loggers log from a level on, where one was asked for."""
    before = {name: logging.getLogger(name).level for name in LOGGERS}
    for name in LOGGERS if level else ():
        logging.getLogger(name).setLevel(level.upper())
    try:
        yield
    finally:
        for name, number in before.items():
            logging.getLogger(name).setLevel(number)
