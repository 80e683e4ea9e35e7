"""Figures that are asked for again and again of the same rows, computed once."""

import hashlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from typing import Any, TypeVar

import numpy as np

MOST = 1024  # results that are remembered of each function
Function = TypeVar("Function", bound=Callable[..., Any])


def remembered(function: Function) -> Function:
    """A pure function of numeric arrays and hashable values that remembers its latest results by the content of the arrays.

    A floor is the same under every head of a sweep, three floors are one where no prompt leaks, and the only epoch of ridge is both its
    last and its best: whoever asks for a figure of these need not know. Results are shared, so that nobody may change them.
    """

    @lru_cache(MOST)
    def of_contents(*arguments: Any) -> Any:
        result = function(*(one.array if isinstance(one, _Content) else one for one in arguments))
        if isinstance(result, np.ndarray):
            result.setflags(write=False)
        return result

    @wraps(function)
    def of_arguments(*arguments: np.ndarray | Hashable) -> Any:
        return of_contents(*(_Content.of(one) if isinstance(one, np.ndarray) else one for one in arguments))

    return of_arguments  # type: ignore[return-value]


@dataclass(frozen=True)
class _Content:
    """An array that equals another where type, shape and numbers do."""

    kind: str
    shape: tuple[int, ...]
    digest: bytes
    array: np.ndarray = field(compare=False, repr=False)

    @classmethod
    def of(cls, array: np.ndarray) -> "_Content":
        return cls(array.dtype.str, array.shape, hashlib.blake2b(array.tobytes()).digest(), array)
