from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from hybridge.program import limits
from hybridge.program.limits import (
    LEAST_CONNECTIONS,
    MOST_DESCRIPTORS,
    TooFewDescriptors,
    raise_descriptor_limit,
)


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


def test_a_limit_that_leaves_no_room_is_an_error_that_says_how_much_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (83, 83))

    with pytest.raises(TooFewDescriptors, match="83 open descriptors, and at least 84") as caught:
        raise_descriptor_limit(descriptors_per_connection=2)
    assert "ulimit" in caught.value.hint

    monkeypatch.setattr(resource, "getrlimit", lambda _: (84, 84))
    assert raise_descriptor_limit(descriptors_per_connection=2) == LEAST_CONNECTIONS


def test_a_system_that_counts_no_descriptors_sets_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "resource", None)

    assert raise_descriptor_limit(descriptors_per_connection=1, reserve=0) == MOST_DESCRIPTORS
