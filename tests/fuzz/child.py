"""The process that forks one `tier` for each input, watches it, and says how it ended."""

import os
import re
import resource
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tier4k.tests.builders.forking import Imports

MEMORY = 2**31  # bytes beyond what is loaded
SECONDS = 20  # of the processor, as other programs may be busy too
WAITING = 120.0  # seconds that a process may take that waits for something
LONGEST_MESSAGE = 10_000
LONGEST_LINE = 1500

CONTROL = re.compile("[\0-\x08\x0b\x0e-\x1f\x7f-\x9f]")
"""Characters that a terminal does not show, but obeys."""

OUTSIDE = "outside"
"""Name of the folder beside the project that no command may touch."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: Exit code; negative for a signal.
        seconds: How long it took.
        errors: What it wrote to standard error.
        output: What it wrote to standard output.
        violations: What it did outside its folder, or executed.
    """

    code: int
    seconds: float
    errors: str
    output: str
    violations: tuple[str, ...]

    @property
    def fault(self) -> str:
        """What is wrong with it; empty if nothing is."""
        if self.violations:
            return f"violation {self.violations[0]}"
        if self.code in (-signal.SIGXCPU, -signal.SIGKILL):
            return "hangs"
        if "Traceback (most recent call last)" in self.errors:
            return f"traceback {_raised_at(self.errors)}"
        if self.code not in (0, 2):
            return f"exit code {self.code}"
        if self.code == 2 and not self.errors.strip():
            return "no message"
        if len(self.errors) > LONGEST_MESSAGE:
            return f"message of {len(self.errors) // 10_000 + 1}0,000 characters or more"
        if any(len(line) > LONGEST_LINE for line in self.errors.splitlines()):
            return "line of more than 1,500 characters"
        if "Aborted" in self.errors or (self.code == 2 and "\n\n" in self.errors.strip()):
            return "not one paragraph"
        if CONTROL.search(self.errors + self.output):
            return "control characters on the terminal"
        return ""


def _raised_at(errors: str) -> str:
    """The kind of the last exception of a traceback and the innermost line of ours."""
    places = re.findall(r'File "([^"]+)", line (\d+), in (\S+)', errors)
    ours = [
        place
        for place in places
        if "tier4k" in place[0] and "site-packages" not in place[0] and "/tests/" not in place[0]
    ]
    path, line, function = ours[-1] if ours else places[-1]
    last = [
        text
        for text in errors.splitlines()
        if re.match(r"^[\w.]+(Error|Exception|Interrupt|Exit|Warning)?(:|$)", text)
    ]
    kind = last[-1].split(":")[0] if last else "?"
    return f"{kind} {path.split('/tier4k/')[-1]}:{line} {function}"


def run(
    arguments: list[str],
    folder: Path,
    imports: Imports,
    seconds: float = WAITING,
) -> Ended:
    """Run `tier` in a forked process with `folder` as working directory."""
    log = folder.parent / "errors.txt"
    notes = folder.parent / "violations.txt"
    printed = folder.parent / "output.txt"
    for path in (log, notes, printed):
        path.unlink(missing_ok=True)
    _commands()
    start = time.monotonic()
    child = os.fork()
    if not child:
        _become_tier(arguments, folder, imports, log, notes, printed)
    code = _wait(child, start + seconds)
    took = time.monotonic() - start
    errors = log.read_text(errors="replace") if log.exists() else ""
    output = printed.read_text(errors="replace") if printed.exists() else ""
    violations = tuple(notes.read_text(errors="replace").splitlines()) if notes.exists() else ()
    if list(folder.rglob("EXECUTED")):
        violations += ("executed",)
    return Ended(code, took, errors, output, violations)


@cache
def _commands() -> Any:
    """Return the module of the commands, which are built once and not in each forked process."""
    from typer.main import get_command

    from tier4k import cli

    cli.app = get_command(cli.app)  # type: ignore[assignment]
    return cli


def _wait(child: int, latest: float) -> int:
    pause = 0.001
    while time.monotonic() < latest:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            _end_group(child)
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause)
        pause = min(pause * 1.3, 0.02)
    _end_group(child)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _end_group(child: int) -> None:
    try:
        os.killpg(child, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _become_tier(
    arguments: list[str],
    folder: Path,
    imports: Imports,
    log: Path,
    notes: Path,
    printed: Path,
) -> None:
    """Run `tier` in this process, and end it."""
    code, before = 1, set(sys.modules)
    try:
        os.setpgid(0, 0)
        nothing = os.open(os.devnull, os.O_RDWR)
        output, errors = (os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for path in (printed, log))
        for source, target in ((nothing, 0), (output, 1), (errors, 2)):
            os.dup2(source, target)
        sys.stdin, sys.stdout, sys.stderr = (
            os.fdopen(number, mode) for number, mode in ((0, "r"), (1, "w"), (2, "w"))
        )
        os.chdir(folder)
        _limit_memory()
        _watch_actions(folder, os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        sys.path.insert(0, str(folder / "packages"))
        sys.argv = ["tier", *arguments]
        _commands().main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        imports.name(before)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


FORBIDDEN = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "socket.connect",
    "os.spawn",
    "pty.spawn",
)
WRITES = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "shutil.rmtree",
)
ELSEWHERE = ("/dev/", "/proc/", "/sys/")


def _watch_actions(folder: Path, notes: int) -> None:
    """Note what the process executes, and what it reads or writes where it may not."""
    outside = str(folder.parent / OUTSIDE)
    allowed = (str(folder), *ELSEWHERE, *_caches())

    def note(event: str, arguments: tuple) -> None:
        if event in FORBIDDEN and "uname" not in str(arguments):  # `platform` asks the processor's name
            _note(notes, f"{event} {str(arguments)[:100]}")
        elif event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.abspath(os.fsdecode(arguments[0]))
            mode, flags = arguments[1], arguments[2]
            writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (
                isinstance(flags, int) and flags & 3
            )
            if path.startswith(outside) or (writes and not path.startswith(allowed)):
                _note(notes, f"open {path} {mode}")
        elif event in WRITES and isinstance(arguments[0], str | bytes):
            path = os.path.abspath(os.fsdecode(arguments[0]))
            if not path.startswith(allowed):
                _note(notes, f"{event} {path}")

    sys.addaudithook(note)


def _note(notes: int, text: str) -> None:
    os.write(notes, text.replace("\n", " ").encode("utf-8", "replace") + b"\n")


def _caches() -> tuple[str, ...]:
    """Folders where libraries keep compiled code and temporary files."""
    import tempfile

    return tempfile.gettempdir(), os.path.expanduser("~"), str(Path(__file__).parents[2])
