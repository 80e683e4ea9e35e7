"""Attempts: work that fails, or ends its process, is tried `MOST_ATTEMPTS` times.

Ray itself repeats the work of a lost process without a limit, and counts the work that waited for it as lost
too. So attempts are counted here, and only those that had begun.
"""

import os
import traceback
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from tier4k.cache.errors import TierError
from tier4k.extract.pipeline.ray_session import import_ray

Result = TypeVar("Result")

MOST_ATTEMPTS = 3

LOST_PROCESS = (
    f"the process that had it ended in each of {MOST_ATTEMPTS} attempts, perhaps for lack of memory, or its "
    "machine was lost"
)


class Attempts:
    """Counts the attempts of work that is not finished. One actor of Ray does so for all others."""

    def __init__(self) -> None:
        self._begun: dict[Hashable, int] = {}
        self._reasons: dict[Hashable, str] = {}

    def begin(self, work: Hashable) -> str | None:
        """Count an attempt, and return None; after the last attempt return why the work is given up."""
        begun = self._begun.get(work, 0)
        if begun >= MOST_ATTEMPTS:
            return self._reasons.get(work, LOST_PROCESS)
        self._begun[work] = begun + 1
        return None

    def failed(self, work: Hashable, reason: str) -> None:
        """Keep the reason why an attempt failed."""
        self._reasons[work] = reason

    def finished(self, work: Hashable) -> None:
        """Forget work that has succeeded."""
        self._begun.pop(work, None)
        self._reasons.pop(work, None)


@dataclass(frozen=True)
class Fatal:
    """An error that another attempt cannot fix. It ends the extraction, as it does without Ray."""

    error: TierError


@dataclass(frozen=True)
class GaveUp:
    """Work failed in every attempt."""

    reason: str


def attempt(
    attempts: Any,
    work: Hashable,
    function: Callable[[], Result],
    *,
    ends_process: bool = False,
) -> Result | Fatal | GaveUp:
    """Return the result of a function, which is called again if it raises an error other than a TierError.

    Args:
        attempts: The actor that counts, an `Attempts`.
        work: Names the work.
        function: The work.
        ends_process: An error ends this process, and Ray starts another one: a GPU, or a library, may be in a
            state in which it always fails.

    Returns:
        The result; `Fatal` for a TierError, `GaveUp` after the last attempt.
    """
    ray = import_ray()
    while (reason := ray.get(attempts.begin.remote(work))) is None:
        try:
            result = function()
        except TierError as error:
            return Fatal(error)
        except Exception as error:
            ray.get(attempts.failed.remote(work, _described(error)))
            traceback.print_exc()  # into the log of the worker
            if ends_process:
                os._exit(1)
        else:
            attempts.finished.remote(work)
            return result
    return GaveUp(reason)


def _described(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
