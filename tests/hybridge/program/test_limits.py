from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from hybridge.program import limits
from hybridge.program.limits import MOST_DESCRIPTORS, raise_descriptor_limit


def test_the_soft_limit_becomes_the_hard_one_and_says_how_many_connections_fit() -> None:
    # In a process of its own: a hard limit cannot be raised again.
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300));"
        "from hybridge.program.limits import raise_descriptor_limit as r;"
        "print(r(descriptors_per_connection=2, reserve=100), "
        "resource.getrlimit(resource.RLIMIT_NOFILE))"
    )

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603

    assert shown.stdout.strip() == "100 (300, 300)"


def test_a_limit_that_cannot_be_raised_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (164, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)

    assert raise_descriptor_limit(descriptors_per_connection=1) == 100


def test_no_limit_is_taken_for_a_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: unlimited)

    assert raise_descriptor_limit(descriptors_per_connection=1, reserve=0) == MOST_DESCRIPTORS


def test_there_are_never_fewer_than_0_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10, 10))

    assert raise_descriptor_limit(descriptors_per_connection=2) == 0


def test_a_system_that_counts_no_descriptors_sets_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "resource", None)

    assert raise_descriptor_limit(descriptors_per_connection=1, reserve=0) == MOST_DESCRIPTORS
