from __future__ import annotations

import pytest

from benchmarks.tokens import CASES, NAMESPACE, NOW, ORDERS, PATH, Case, decide
from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import AuthorizationFailed
from relay.core.authorization import authorize


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_kind_of_token_is_what_its_name_says(case: Case) -> None:
    try:
        authorize(NAMESPACE, ORDERS, case.token, claim=Claim.SEND, path_segments=PATH, now=NOW)
    except AuthorizationFailed:
        assert case.name.startswith("refused: ")
    else:
        assert not case.name.startswith("refused: ")


def test_deciding_takes_time_that_is_measured() -> None:
    assert decide(CASES[0].token, 200) > 0
