"""The threads of loops that Numba compiled."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock

import numba
import torch
from threadpoolctl import ThreadpoolController

from tier4k.heads.regressors.options import HeadError

_one_caller = Lock()

_owners: list[int] = []  # the process that started Numba's threads, once there are any


@contextmanager
def threads() -> Iterator[int]:
    """Run compiled loops with as many threads of Numba as torch has; yield their number.

    Each thread calls BLAS with one thread, and meanwhile so does the whole process. One caller runs at a
    time, as not all of Numba's thread pools can be entered twice.

    Raises:
        HeadError: This process was forked from a process that has fitted heads; it has no threads.
    """
    _require_own_threads()
    with _one_caller, _blas().limit(limits=1, user_api="blas"):
        threads_before = numba.get_num_threads()
        workers = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
        numba.set_num_threads(workers)
        _owners[:] = [os.getpid()]
        try:
            yield workers
        finally:
            numba.set_num_threads(threads_before)


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _require_own_threads() -> None:
    # OpenMP kills a forked process that enters the pool of its parent.
    forked = bool(_owners) and os.getpid() not in _owners
    if forked and numba.threading_layer() == "omp":  # type: ignore[attr-defined]
        raise HeadError(
            "this process cannot fit heads: it was forked from a process that has fitted heads, and threads "
            "do not survive a fork. Start processes by 'spawn' or 'forkserver'"
        )
