"""A target for the test kit's own tests, and projects that use its plugin."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devstack.testing import background_relay
from tests.support.echo import echo_target
from tests.support.plugin_project import ROOT, make_project


@pytest.fixture(scope="session")
def target() -> Iterator[tuple[str, int]]:
    with echo_target() as address:
        yield address


@pytest.fixture(scope="session")
def _imported() -> None:
    # Each run forgets what it has imported, and cryptography does not bear being imported twice.
    with background_relay():
        pass


@pytest.fixture
def project(
    _imported: None, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return make_project(pytester)
