"""Compilation by Numba."""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(signature: Any = None, **options: Any) -> Callable[[Function], Function]:
    """Return a decorator that compiles with these options of `numba.njit`.

    Compiled code is kept beside the module or in the user's cache folder. Where neither place is
    writable, every process compiles again.

    Args:
        signature: Types of the function, which is compiled at once. None: at each call with new types.
        options: Of `numba.njit`.
    """

    def compile_function(function: Function) -> Function:
        try:
            return njit(signature, cache=True, **options)(function)
        except RuntimeError:
            return njit(signature, **options)(function)

    return compile_function
