"""The API reference is what the code says."""

from __future__ import annotations

import hybridge
from tests import api_reference


def test_the_page_is_made_from_the_code_as_it_is() -> None:
    assert api_reference.PAGE.read_text(encoding="utf-8") == api_reference.page(), (
        "run: python -m tests.api_reference --write"
    )


def test_every_public_name_of_the_sdk_is_in_it() -> None:
    described = {name for chapter in api_reference.CHAPTERS for name in chapter.names}

    assert set(hybridge.__all__) - described == set(api_reference.ELSEWHERE)


def test_every_parameter_of_what_callers_call_is_described() -> None:
    assert api_reference.undescribed() == []
