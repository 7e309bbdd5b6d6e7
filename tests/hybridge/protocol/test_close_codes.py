from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridge.protocol.close_codes import (
    MAX_REASON_BYTES,
    CloseCode,
    describe,
    is_clean,
    reason_bytes,
    valid_on_wire,
)


@pytest.mark.parametrize("code", [1000, 1001, 1005, None])
def test_an_orderly_end_is_clean(code: int | None) -> None:
    assert is_clean(code)


@pytest.mark.parametrize("code", [1002, 1006, 1008, 1011, 3000, 0])
def test_any_other_end_is_not_clean(code: int) -> None:
    assert not is_clean(code)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 4999])
def test_codes_that_a_frame_may_carry(code: int) -> None:
    assert valid_on_wire(code)


@pytest.mark.parametrize(
    "code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]
)
def test_codes_that_no_frame_may_carry(code: int) -> None:
    assert not valid_on_wire(code)


@pytest.mark.parametrize("code", list(CloseCode))
def test_every_code_has_a_meaning(code: CloseCode) -> None:
    assert describe(code) == f"{int(code)} {code.meaning}"


def test_codes_without_a_meaning_are_shown_as_they_are() -> None:
    assert describe(4242) == "4242"
    assert describe(None) == "closed without a code"


@given(st.text())
def test_a_reason_fits_and_is_the_beginning_of_the_text(text: str) -> None:
    data = reason_bytes(text)

    assert len(data) <= MAX_REASON_BYTES
    assert text.encode("utf-8", "replace").startswith(data)
    data.decode("utf-8")


def test_a_long_reason_is_cut_between_characters() -> None:
    assert reason_bytes("x" + "ø" * 100) == b"x" + "ø".encode() * 61
