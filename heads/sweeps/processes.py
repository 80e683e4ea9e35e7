"""The fits of a sweep in several processes, each of which takes one unit after another."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from tier4k.cache.errors import TierError
from tier4k.heads.protocol.fit import fit_plans
from tier4k.heads.protocol.plan import Plan
from tier4k.heads.protocol.publish import Run

POLL_SECONDS = 0.2

SEMAPHORES_OF_POOL = 8  # of a ProcessPoolExecutor, with some to spare


class ProcessError(TierError):
    """A process of a sweep that died."""


def fit_in_processes(
    units: Sequence[Sequence[Plan]],
    out: Path,
    command: Sequence[str],
    jobs: int,
    finished: Callable[[int], None],
) -> list[list[Run]]:
    """Fit the runs of every unit, as `fit_plans` does; cores are shared out among the processes.

    However this ends, no process is left, and runs that were finished are there.

    Args:
        units: Plans that are `alike`, together.
        out: Folder of runs.
        command: Command line, recorded.
        jobs: Processes.
        finished: Called again and again with the number of heads that are fitted.

    Raises:
        ProcessError: The system killed a process.
        TierError: Of the first unit that failed.
    """
    jobs = min(jobs, len(units))
    # Neither PyTorch's threads nor HDF5's state survive a fork.
    context = multiprocessing.get_context("spawn")
    done = context.Array("q", len(units), lock=False)
    with (
        ProcessPoolExecutor(jobs, context, _begin, (done, max(1, (os.cpu_count() or 1) // jobs))) as pool,
        _killed_on_error(pool),
    ):
        with _signals_held():
            futures = [pool.submit(_fit, number, unit, out, command) for number, unit in enumerate(units)]
        while wait(futures, POLL_SECONDS, FIRST_EXCEPTION).not_done:
            _require_sound(futures)
            finished(sum(done))
        _require_sound(futures)
        finished(sum(done))
        return [future.result() for future in futures]


def _require_sound(futures: Sequence["Future[list[Run]]"]) -> None:
    errors = [error for future in futures if future.done() and (error := future.exception())]
    if errors and isinstance(errors[0], BrokenProcessPool):
        raise ProcessError(
            "a process of the sweep was killed, most likely for want of memory: give fewer --jobs"
        ) from errors[0]
    if errors:
        raise errors[0]


@contextmanager
def _killed_on_error(pool: ProcessPoolExecutor) -> Iterator[None]:
    others = set(multiprocessing.active_children())
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        mine = set(multiprocessing.active_children()) - others
        for process in mine:
            process.kill()
        for process in mine:
            process.join()
        raise


@contextmanager
def _signals_held() -> Iterator[None]:
    """Processes started herein never see Ctrl-C or a batch system's kill: this one does, and ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_done: list[int] = []  # of a process: the heads fitted so far of every unit, in memory that all share


def _begin(done: list[int], threads: int) -> None:
    global _done
    _done = done
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


def _fit(number: int, unit: Sequence[Plan], out: Path, command: Sequence[str]) -> list[Run]:
    def count(done: int, _: int) -> None:
        _done[number] = done

    return fit_plans(unit, out, command, count)
