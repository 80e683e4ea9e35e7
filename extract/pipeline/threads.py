"""Threads that read ahead of the thread that encodes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Results that are made ahead, for each thread.
AHEAD = 2

# Bytes of finished results above which no further item begins.
BYTES_AHEAD = 2**30

# Open files of a process beside those that the threads read: libraries, stores, standard streams.
OTHER_FILES = 20


def map_ahead(
    function: Callable[[Item, Callable[[], bool]], Result],
    items: Iterable[Item],
    threads: int,
    bytes_of: Callable[[Result], int],
) -> Iterator[Result]:
    """Yield the result of a function for each item, in order, computed ahead by threads.

    An error of the function is raised where its result would be yielded. When the iterator is closed, no
    further item begins.

    Args:
        function: Called by several threads with an item, and with a function that returns whether its result
            is needed no more.
        items: Consumed as far as results are computed ahead.
        threads: Number of threads; with 0, this thread computes each result when it is needed.
        bytes_of: Returns the size of a result in memory.
    """
    stopped = Event()
    if not threads:
        for item in items:
            yield function(item, stopped.is_set)
        return
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            pending.append(pool.submit(function, item, stopped.is_set))
            while len(pending) > AHEAD * threads or _finished_bytes(pending, bytes_of) > BYTES_AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


def _finished_bytes(futures: Iterable["Future[Result]"], bytes_of: Callable[[Result], int]) -> int:
    finished = [future for future in futures if future.done() and not future.exception()]
    return sum(bytes_of(future.result()) for future in finished)


def possible_threads(threads: int) -> int:
    """Return a number of reading threads of which each can open a file, at most `threads`.

    Each thread opens one file at a time, and the system limits the open files of a process (`ulimit -n`).
    """
    with suppress(ImportError):  # Windows has no such limit
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit != resource.RLIM_INFINITY:
            return min(threads, max(limit - OTHER_FILES, 1))
    return threads
