from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.wire import ORDER_BYTES, PATTERN, Kind, Order, PatternCheck

orders = st.builds(
    Order,
    kind=st.sampled_from(Kind),
    size=st.integers(0, 2**64 - 1),
    pause_ms=st.integers(0, 2**32 - 1),
)


@given(orders)
def test_an_order_survives_the_wire(order: Order) -> None:
    data = order.serialize()

    assert len(data) == ORDER_BYTES
    assert Order.parse(data) == order


def test_an_unknown_order_is_an_error() -> None:
    with pytest.raises(ValueError, match="is not a valid Kind"):
        Order.parse(b"?" + bytes(ORDER_BYTES - 1))


@given(st.lists(st.integers(1, 100_000), max_size=12))
def test_the_pattern_is_right_wherever_it_is_cut(lengths: list[int]) -> None:
    size = sum(lengths)
    stream = memoryview(PATTERN * (size // len(PATTERN) + 1))[:size]
    check = PatternCheck()
    for length in lengths:
        check.feed(stream[:length])
        stream = stream[length:]

    assert check.is_right
    assert check.position == size


@pytest.mark.parametrize("place", [0, 1, len(PATTERN) - 1, len(PATTERN), len(PATTERN) + 7])
def test_one_wrong_byte_is_seen(place: int) -> None:
    stream = bytearray(PATTERN * 2)
    stream[place] ^= 1
    check = PatternCheck()
    check.feed(memoryview(stream))

    assert not check.is_right
