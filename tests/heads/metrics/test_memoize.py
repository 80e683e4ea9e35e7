"""A memoized function computes equal arguments once, and returns what a new computation would."""

import weakref

import numpy as np
import pytest

from tier4k.heads.metrics.memoize import CAPACITY, memoized


def test_equal_contents_are_computed_once_and_others_anew() -> None:
    calls = []

    @memoized
    def total(scale: float, *arrays: np.ndarray) -> float:
        calls.append(arrays)
        return scale * sum(float(array.sum()) for array in arrays)

    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert total(2.0, x, x[:2]) == total(2.0, x.copy(), np.array([1.0, 2.0])) == 26 and len(calls) == 1
    for arguments in (
        (3.0, x, x[:2]),
        (2.0, x[:2], x),
        (2.0, x),
        (2.0, x.reshape(2, 2), x[:2]),
        (2.0, x.view(np.int64), x[:2]),
    ):
        total(*arguments)
    assert len(calls) == 6
    x[0] = 5
    assert total(2.0, x, x[:2]) == 42  # not what it was before the array was changed


def test_a_shared_array_is_read_only() -> None:
    doubled = memoized(lambda x: 2 * x)
    with pytest.raises(ValueError, match="read-only"):
        doubled(np.ones(3))[0] = 7


def test_only_the_latest_results_are_kept_and_no_arguments() -> None:
    calls = []
    first = memoized(lambda x, number: calls.append(number) or float(x[0]) + number)
    x = np.ones(3)
    kept = weakref.ref(x)
    for number in (*range(CAPACITY), 0, CAPACITY):  # the second 0 is known, and then is younger than 1
        first(x, number)
    assert len(calls) == CAPACITY + 1
    assert [first(x, 0), first(x, 1)] == [1.0, 2.0] and calls[CAPACITY + 1 :] == [1]
    del x
    assert kept() is None
