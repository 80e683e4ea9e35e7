"""Values that are made once, when the first thread needs them."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Once(Generic[Value]):
    """A value that the first thread makes, while others wait. After an error, the next thread tries again.

    Args:
        make: Makes the value.
    """

    def __init__(self, make: Callable[[], Value]) -> None:
        self._make = make
        self._made: list[Value] = []
        self._lock = threading.Lock()

    def __call__(self) -> Value:
        """Return the value, which is made now if it does not exist yet."""
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]
