"""Fits a sweep in several processes, each of which fits one unit after another."""

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
from joblib import cpu_count
from threadpoolctl import threadpool_limits

from tier4k.heads.protocol.plan import Plan
from tier4k.heads.results.run import Run
from tier4k.heads.sweeps.blocks import SweepError

POLL_SECONDS = 0.2

SEMAPHORES_OF_POOL = 8  # more than a ProcessPoolExecutor needs

FitUnit = Callable[[Sequence[Plan], Path, Sequence[str], Callable[[int, int], None]], list[Run]]
"""(plans, folder of runs, command, listener) -> the runs of the plans."""


def fit_in_processes(
    fit: FitUnit,
    units: Sequence[Sequence[Plan]],
    out: Path,
    command: Sequence[str],
    jobs: int,
    finished: Callable[[int], None],
) -> list[list[Run]]:
    """Fit the runs of every unit; the processes share the cores equally.

    After a return or an error no process is left, and finished runs are on disk.

    Args:
        fit: Function that fits the runs of one unit; worker processes import it, as they do `fit_plans`.
        units: Groups of plans that differ in their targets only.
        out: Folder of runs.
        command: Command line, recorded in the runs.
        jobs: Number of processes.
        finished: Called repeatedly with the number of fitted heads.

    Returns:
        The runs of every unit.

    Raises:
        SweepError: The system killed a process.
        TierError: A unit failed; the error is that of the first such unit.
    """
    jobs = min(jobs, len(units))
    # Neither PyTorch's threads nor HDF5's state survive a fork.
    context = multiprocessing.get_context("spawn")
    done = context.Array("q", len(units), lock=False)
    threads = max(1, cpu_count() // jobs)
    with (
        ProcessPoolExecutor(jobs, context, _begin, (done, threads)) as pool,
        _kill_workers_on_error(pool),
    ):
        futures = []
        with _hold_signals():
            for number, unit in enumerate(units):
                futures.append(pool.submit(_fit, fit, number, unit, out, command))
        while wait(futures, POLL_SECONDS, FIRST_EXCEPTION).not_done:
            _raise_first_error(futures)
            finished(sum(done))
        _raise_first_error(futures)
        finished(sum(done))
        return [future.result() for future in futures]


def _raise_first_error(futures: Sequence["Future[list[Run]]"]) -> None:
    for future in futures:
        error = future.exception() if future.done() else None
        if isinstance(error, BrokenProcessPool):
            raise SweepError(
                "the system killed a process of the sweep, most likely for lack of memory: use fewer --jobs"
            ) from error
        if error:
            raise error


@contextmanager
def _kill_workers_on_error(pool: ProcessPoolExecutor) -> Iterator[None]:
    """On an error, kill the processes that were started inside the `with` block, and wait for their ends.

    The thread of the pool waits for the processes, and this thread for that thread: if both waited for one
    process, the system would tell only one of them that it has ended.
    """
    earlier_processes = set(multiprocessing.active_children())
    try:
        yield
    except BaseException:
        for process in set(multiprocessing.active_children()) - earlier_processes:
            process.kill()
        pool.shutdown(wait=True, cancel_futures=True)
        raise


@contextmanager
def _hold_signals() -> Iterator[None]:
    """Make processes started inside ignore SIGINT and SIGTERM: this process receives them and ends all."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_done: list[int] = []  # heads fitted so far of every unit, in memory that all processes share


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


def _fit(
    fit: FitUnit,
    number: int,
    unit: Sequence[Plan],
    out: Path,
    command: Sequence[str],
) -> list[Run]:
    def count(done: int, _: int) -> None:
        """Write the number of fitted heads where the parent reads it."""
        _done[number] = done

    return fit(unit, out, command, count)
