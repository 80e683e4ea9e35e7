"""Figures that are asked for again and again of the same rows, computed once."""

import hashlib
from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

MOST = 1024  # results that are remembered of each function

Function = TypeVar("Function", bound=Callable[..., Any])


def memoized(function: Function) -> Function:
    """A pure function of numeric arrays and hashable values that remembers its latest results by the content of the arrays.

    A floor is the same under every head of a sweep, three floors are one where no prompt leaks, and the only epoch of ridge is both its
    last and its best: whoever asks for a figure of these need not know. Results are shared, so that nobody may change them.
    """

    known: dict[tuple[Hashable, ...], Any] = {}

    @wraps(function)
    def of_arguments(*arguments: np.ndarray | Hashable) -> Any:
        key = tuple(_content(one) if isinstance(one, np.ndarray) else one for one in arguments)
        result = known.pop(
            key, known
        )  # whatever is asked for becomes the latest; the dictionary itself is no result
        if result is known:
            result = function(*arguments)
            if isinstance(result, np.ndarray):
                result.setflags(write=False)
        known[key] = result
        if len(known) > MOST:
            known.pop(next(iter(known)), None)
        return result

    return of_arguments  # type: ignore[return-value]


def _content(array: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    """What an array has in common with another where type, shape and numbers are equal; it does not keep the array in memory."""
    return array.dtype.str, array.shape, hashlib.blake2b(array.tobytes()).digest()
