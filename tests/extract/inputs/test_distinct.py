"""Distinct keys among many, also where keys begin with the same bytes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tier4k.extract.inputs.distinct import DistinctKeys

KEYS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 1)), max_size=40)


@given(KEYS)
def test_each_key_has_the_number_of_its_first_occurrence(parts: list[tuple[int, int, int]]) -> None:
    """The first part lies in the bytes that are compared as one number, the others behind them."""
    keys = np.zeros((len(parts), 32), np.uint8)
    for row, (start, middle, end) in enumerate(parts):
        keys[row, [0, 12, 31]] = start, middle, end
    distinct = DistinctKeys.of(keys)
    first: dict[bytes, int] = {}
    for row, key in enumerate(keys):
        first.setdefault(bytes(key), row)
    assert distinct.first.tolist() == list(first.values())
    numbers = {key: number for number, key in enumerate(first)}
    assert distinct.numbers.tolist() == [numbers[bytes(key)] for key in keys]
