"""Processes that run functions for this process, and that end when it ends or is killed.

Threads would not do: reading a small file is mostly work of the interpreter, which one thread does at a time.
"""

import os
import pickle
import queue
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import IO, TypeVar

from joblib import cpu_count

from tier4k.cache.errors import TierError

Argument = TypeVar("Argument")
Result = TypeVar("Result")

MOST_PROCESSES = 8  # more of them would wait for this process, which takes their results


class EndedProcessError(TierError):
    """The system or a user has ended a process whose result was needed."""


class Processes:
    """Processes that call functions of modules with picklable arguments and results.

    They start with the first call of `map`. Each reads its work from a pipe that only this process writes
    to, so it ends when the system closes the pipe of a process that is gone.
    """

    def __init__(self) -> None:
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._started: list[_Process] = []
        self._threads: ThreadPoolExecutor | None = None  # each thread waits for one process

    def map(
        self,
        function: Callable[[Argument], Result],
        arguments: Sequence[Argument],
    ) -> Iterator[Result]:
        """Yield what a function of a module returns for each argument, in order.

        Raises:
            EndedProcessError: A process has ended.
        """
        threads = self._threads or self._start()
        return threads.map(lambda argument: self._call(function, argument), arguments)

    def _start(self) -> ThreadPoolExecutor:
        self._started = [_Process() for _ in range(min(cpu_count(), MOST_PROCESSES))]
        for process in self._started:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(len(self._started))
        return self._threads

    def _call(self, function: Callable[[Argument], Result], argument: Argument) -> Result:
        process = self._idle.get()
        try:
            return process.call(function, argument)
        finally:
            self._idle.put(process)

    def close(self) -> None:
        """End the processes."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        for process in self._started:
            process.close()
        self._started = []
        self._threads = None
        self._idle = queue.SimpleQueue()


class _Process:
    """One process, which runs one call at a time."""

    def __init__(self) -> None:
        # Unlike multiprocessing, this does not import the main module of the user's program.
        program = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def call(self, function: Callable[[Argument], Result], argument: Argument) -> Result:
        """Return what a function of a module returns in the process.

        Raises:
            EndedProcessError: The process has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            _write(self._process.stdin, (function, argument))
            return pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            code = self._process.wait()
            reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise EndedProcessError(
                f"a process that reads images has ended ({reason}): run the same command "
                "again, which continues"
            ) from error

    def close(self) -> None:
        """Close the pipe that the process reads, and wait for its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdout.close()
        with suppress(BrokenPipeError):  # the process may have ended
            self._process.stdin.close()
        self._process.wait()


def serve() -> None:
    """Call the functions that arrive on standard input, until the process that started this one closes it."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C also reaches the process that started this one, and closes the pipe
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that what a library prints does not get among the results
    while True:
        try:
            function, argument = pickle.load(sys.stdin.buffer)
            _write(results, function(argument))
        except (EOFError, BrokenPipeError):
            return


def _write(file: IO[bytes], value: object) -> None:
    pickle.dump(value, file, pickle.HIGHEST_PROTOCOL)
    file.flush()
