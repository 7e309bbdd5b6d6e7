from __future__ import annotations

import pytest

from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import InvalidSetting


def test_rights_are_read_in_any_case_and_order() -> None:
    assert Claim.parse(["send", "LISTEN"]) == Claim.LISTEN | Claim.SEND


def test_manage_includes_the_others() -> None:
    assert Claim.parse(["Manage"]) == Claim.LISTEN | Claim.SEND | Claim.MANAGE


@pytest.mark.parametrize("needed", list(Claim))
def test_a_rule_with_manage_grants_everything(needed: Claim) -> None:
    assert Claim.MANAGE.grants(needed)


@pytest.mark.parametrize(
    ("held", "needed"),
    [(Claim.SEND, Claim.LISTEN), (Claim.LISTEN, Claim.SEND), (Claim.SEND, Claim.MANAGE)],
)
def test_a_claim_grants_no_other(held: Claim, needed: Claim) -> None:
    assert held.grants(held)
    assert not held.grants(needed)


def test_claims_are_shown_in_azures_words() -> None:
    assert str(Claim.LISTEN | Claim.SEND) == "Listen, Send"
    assert str(Claim.SEND) == "Send"


def test_a_misspelt_right_is_named() -> None:
    with pytest.raises(InvalidSetting, match="'Lissen' is not a right") as refused:
        Claim.parse(["Send", "Lissen"])

    assert "Listen, Send or Manage" in refused.value.hint


def test_a_rule_needs_a_right() -> None:
    with pytest.raises(InvalidSetting, match="empty"):
        Claim.parse([])
