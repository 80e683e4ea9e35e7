"""Commands in forked processes of their own session, which a campaign stops and kills.

The campaign's process has imported what the commands import and has started no thread, so a command costs
little more than its work. It becomes the parent of all processes that a killed command leaves behind.
"""

import atexit
import ctypes
import mmap
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import psutil

from tier4k.tests.builders.forking import Imports

BATCH, UNIT_ROWS, SHARD_ROWS = 4, 4, 8  # of an extraction, so that it publishes often

PR_SET_CHILD_SUBREAPER = 36

SECONDS_TO_END = 90.0  # in which processes must end whose command was killed, on a busy machine
LONGEST = 900.0  # seconds of a command that nobody kills, on a busy machine


@dataclass
class Started:
    """A command that runs in a process.

    Attributes:
        pid: Number of the process, and of its session.
        log: File of what it prints.
        marks: One byte, not 0 once the command has opened a file of its folder.
        start: When it was started.
        code: Exit code, negative for a signal; None while it runs.
    """

    pid: int
    log: Path
    marks: mmap.mmap
    start: float
    code: int | None = None

    @property
    def output(self) -> str:
        """What the command has printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def has_begun(self) -> bool:
        """Whether the command has opened a file of its folder."""
        return self.marks[0] != 0

    def has_ended(self) -> bool:
        """Look whether the process has ended."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def wait(self, until: float) -> bool:
        """Wait for the end of the process, at most until a time; return whether it has ended."""
        while not self.has_ended() and time.monotonic() < until:
            time.sleep(0.0005)
        return self.code is not None

    def processes(self) -> list[psutil.Process]:
        """Return the process and those that it has started, oldest first."""
        try:
            process = psutil.Process(self.pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def adopt_orphans() -> None:
    """Make this process the parent of all processes whose parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def send(processes: Sequence[psutil.Process], number: int) -> None:
    """Send a signal to processes; some may have ended."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def is_resource_tracker(process: psutil.Process) -> bool:
    """Whether a process is the tracker of multiprocessing, which Python starts again with a traceback."""
    with suppress(psutil.Error):
        return "resource_tracker" in " ".join(process.cmdline())
    return False


def outliving(running: Sequence[Started], seconds: float = SECONDS_TO_END) -> list[str]:
    """Wait until all processes but the running commands have ended; kill and name those that have not."""
    mine = psutil.Process()
    end = time.monotonic() + seconds
    while left := _left(mine, {one.pid for one in running if one.code is None}):
        if time.monotonic() > end:
            names = [_name(process) for process in left]
            send(left, signal.SIGKILL)
            return names
        time.sleep(0.005)
    return []


def _left(mine: psutil.Process, running: set[int]) -> list[psutil.Process]:
    """Return the processes whose command has ended, and reap those that have ended themselves."""
    left = []
    for child in mine.children():
        if child.pid in running:
            continue
        with suppress(psutil.NoSuchProcess, ChildProcessError):
            if os.waitpid(child.pid, os.WNOHANG)[0] == 0:
                left.append(child)
    return left


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:200] or process.name()
    except psutil.Error:
        return str(process.pid)


def start(
    work: Sequence[str] | Callable[[], None],
    folder: Path,
    log: Path,
    imports: Imports | None,
    room: bool = False,
) -> Started:
    """Start a command in a folder.

    Args:
        work: Arguments of `tier`, or a function.
        folder: Its working directory.
        log: File of what it prints.
        imports: Is told which modules the command has imported, if it is given.
        room: Whether the command is told that the disk has much room, as if it filled later.
    """
    log.unlink(missing_ok=True)
    marks = mmap.mmap(-1, 1)
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        _become(work, folder, log, imports, marks, room)
    return Started(pid, log, marks, time.monotonic())


def _become(
    work: Sequence[str] | Callable[[], None],
    folder: Path,
    log: Path,
    imports: Imports | None,
    marks: mmap.mmap,
    room: bool,
) -> None:
    """Run a command in this process, and end it."""
    code, before = 1, set(sys.modules)
    try:
        os.setsid()
        _redirect(log)
        os.chdir(folder)
        if room:
            shutil.disk_usage = lambda _: SimpleNamespace(free=2**40)  # type: ignore[assignment]
        _mark_first_file(folder, marks)
        code = _run(work)
    except BaseException:
        traceback.print_exc()
    try:
        if imports:
            imports.name(before)
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)  # an error here must not reach the code of the campaign


def _run(work: Sequence[str] | Callable[[], None]) -> int:
    if callable(work):
        work()
        return 0
    _make_extractions_small()
    from tier4k import cli

    sys.argv = ["tier", *work]
    try:
        cli.main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def _redirect(log: Path) -> None:
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for source, number in ((os.open(os.devnull, os.O_RDONLY), 0), (target, 1), (target, 2)):
        os.dup2(source, number)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")


def _mark_first_file(folder: Path, marks: mmap.mmap) -> None:
    """Mark that the command has opened the first file of its folder."""
    outside = str(folder.parent)

    def note(event: str, arguments: tuple) -> None:
        if event == "open" and not marks[0] and isinstance(arguments[0], str):
            marks[0] = os.path.abspath(arguments[0]).startswith(outside)

    sys.addaudithook(note)


def _make_extractions_small() -> None:
    import tier4k.extract.pipeline.options

    options = tier4k.extract.pipeline.options.ExtractionOptions
    make = options.__init__

    def make_small(self: object, *arguments: object, **named: object) -> None:
        small = {"text_batch_size": BATCH, "unit_rows": UNIT_ROWS, "shard_rows": SHARD_ROWS}
        make(self, *arguments, **{**named, **small})  # type: ignore[arg-type]

    options.__init__ = make_small  # type: ignore[assignment, method-assign]
