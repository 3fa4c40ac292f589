"""Batch sizes, and how a number of pictures is made up of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.core.batches import sizes, split


@pytest.mark.parametrize(
    ("largest", "expected"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (4, (1, 2, 4)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))],
)
def test_sizes_double_up_to_the_largest(largest: int, expected: tuple[int, ...]) -> None:
    """The largest itself is always one, a power of two or not."""
    assert sizes(largest) == expected


@given(st.integers(1, 64), st.data())
def test_every_number_is_made_up_without_padding(largest: int, data: st.DataObject) -> None:
    """The parts are prepared sizes, add up, and are few."""
    count = data.draw(st.integers(1, largest))
    parts = split(count, sizes(largest))
    assert sum(parts) == count
    assert set(parts) <= set(sizes(largest))
    assert len(parts) <= count.bit_length()
