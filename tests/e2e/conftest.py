"""A chain of three programs on each event loop, for the tests that leave it as it was."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from hybridge.program.lifetime import EVENT_LOOP_VARIABLE
from tests.support.chain import Chain, running_chain

EVENT_LOOPS = ["asyncio", *(["uvloop"] if importlib.util.find_spec("uvloop") else [])]


@pytest.fixture(scope="session", params=EVENT_LOOPS)
def chain(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chain]:
    environment = {EVENT_LOOP_VARIABLE: str(request.param)}
    with running_chain(tmp_path_factory.mktemp("chain"), environment=environment) as running:
        yield running
