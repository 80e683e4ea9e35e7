"""Kills commands at random moments, or disturbs their folders, and checks what is left.

`make crash KILLS=250` runs it by hand, and seeds continue over runs. A seed draws a scenario, its disturbance
and all moments, so `--seed S --rounds 1` tries a round again; what a moment hits depends on the machine.
Failures lie in `.crash/failures/`, the table of the last run in `.crash/table.txt`.
"""

import argparse
import importlib.util
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from tier4k.tests.builders.forking import Imports
from tier4k.tests.crash.checks import (
    CrashError,
    Visible,
    all_files,
    leftovers,
    require_kept,
    require_no_doubles,
    require_not_repeated,
    require_same,
    rows_of,
    stamps,
    visible,
)
from tier4k.tests.crash.disturbances import KINDS, leave_room, may_mount, mounted, remount
from tier4k.tests.crash.processes import LONGEST, Started, adopt_orphans, outliving, send, start
from tier4k.tests.crash.scenarios import SCENARIOS, Scenario

STATE = Path(".crash")

FIRST_SEED = 1_000_000  # of runs by hand; the slow test uses those from 0

KILL = "kill"
KILL_SHARE = 0.8  # of the rounds

MOST_KILLS = 3  # of a round

SPARE_ROOM = 2**15  # bytes that a full disk has more than the results need, at most

INPUTS = ("data", "text", "weights", "runs")  # folders that may be removed beside the results


@dataclass(frozen=True)
class Undisturbed:
    """What undisturbed commands give.

    Attributes:
        seen: What readers see after the commands.
        files: All files after the last commands.
        seconds: How long each command took lately.
    """

    seen: Visible
    files: Visible
    seconds: list[float]


@dataclass
class Tally:
    """What happened in the rounds of a scenario.

    Attributes:
        rounds: Number of rounds.
        kills: Number of kills.
        working: Number of kills that hit a command after it had opened its first file.
        missed: Number of commands that ended before the drawn moment.
        disturbed: Number of disturbances of each kind.
        rows: Number of stored rows that were compared.
        files: Number of files that were compared.
        faults: Number of faults.
    """

    rounds: int = 0
    kills: int = 0
    working: int = 0
    missed: int = 0
    disturbed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    rows: int = 0
    files: int = 0
    faults: int = 0


class Campaign:
    """Runs rounds of scenarios in copies of a project.

    Args:
        root: An empty folder for the project and its copies.
        scenarios: The scenarios.
    """

    def __init__(self, root: Path, scenarios: Sequence[Scenario] = SCENARIOS) -> None:
        self._root, self._scenarios = root, scenarios
        self._imports = Imports()
        self._whole: dict[str, Undisturbed] = {}
        self.work = root / "place" / "work"
        self.work.mkdir(parents=True)
        self.tallies = {scenario.name: Tally() for scenario in scenarios}
        adopt_orphans()
        self._build()
        self._may_mount = may_mount(self.work)

    @property
    def kills(self) -> int:
        """Number of kills so far."""
        return sum(tally.kills for tally in self.tallies.values())

    @property
    def faults(self) -> int:
        """Number of faults so far."""
        return sum(tally.faults for tally in self.tallies.values())

    def run_seed(self, seed: int) -> tuple[str, str]:
        """Run the round of a seed, and return the name of its scenario and the fault, "" for none."""
        chance = random.Random(seed)
        scenario = chance.choices(self._scenarios, [one.weight for one in self._scenarios])[0]
        kinds = (KILL, *KINDS) if scenario.disturbed and self._may_mount else (KILL,)
        others = (1 - KILL_SHARE) / len(KINDS)
        kind = chance.choices(kinds, [KILL_SHARE, *[others] * (len(kinds) - 1)])[0]
        tally = self.tallies[scenario.name]
        tally.rounds += 1
        try:
            whole = self._undisturbed(scenario)
            one = Round(self, scenario, whole, tally, chance)
            with nullcontext() if kind == KILL else mounted(self.work):
                self.copy(scenario)
                try:
                    one.run(kind)
                except CrashError:
                    self._keep()
                    raise
        except CrashError as error:
            tally.faults += 1
            return scenario.name, f"{kind}: {error}"
        return scenario.name, ""

    def copy(self, scenario: Scenario) -> None:
        """Make a new copy of the project and prepare it."""
        for path in self.work.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self._root / "project", self.work, dirs_exist_ok=True)
        scenario.prepare(self.work)

    def succeed(self, arguments: Sequence[str], imports: bool = False) -> float:
        """Run a command that must succeed, and return its seconds."""
        process = self.start(arguments, imports=imports)
        if not process.wait(process.start + LONGEST):
            send(process.processes(), signal.SIGKILL)
        if imports:
            self._imports.repeat()
        if process.code:
            raise CrashError(f"{' '.join(arguments)} ends with {process.code}:\n{process.output[-3000:]}")
        return time.monotonic() - process.start

    def start(
        self,
        work: Sequence[str] | Callable[[], None],
        number: int = 0,
        imports: bool = False,
        room: bool = False,
    ) -> Started:
        """Start a command in the copy of the project."""
        log = self.work.parent / f"output-{number}.txt"
        return start(work, self.work, log, self._imports if imports else None, room)

    def _build(self) -> None:
        """Write the project in a forked process: threads of a fit would not survive later forks."""
        from tier4k.tests.crash.material import build  # imports much that children need, and starts nothing

        process = self.start(lambda: build(self._root / "project"), imports=True)
        if not process.wait(process.start + LONGEST) or process.code:
            raise RuntimeError(f"the project cannot be written ({process.code}):\n{process.output}")
        self._imports.repeat()

    def _undisturbed(self, scenario: Scenario) -> Undisturbed:
        """Run the commands of a scenario one after the other, once; what they import is imported here."""
        if scenario.name not in self._whole:
            self.copy(scenario)
            seconds = max(self.succeed(arguments, imports=True) for arguments in scenario.commands)
            seen = visible(self.work, scenario.results)
            for arguments in scenario.last:
                self.succeed(arguments, imports=True)
            files = all_files(self.work, scenario.results)
            self._whole[scenario.name] = Undisturbed(seen, files, [seconds])
        return self._whole[scenario.name]

    def _keep(self) -> None:
        """Keep the folder of a failure."""
        folder = self._root / "failure"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.work.parent, folder, symlinks=True)


@dataclass
class Round:
    """A scenario from a new copy of the project to its last command.

    Attributes:
        campaign: Starts its commands.
        scenario: The scenario.
        whole: What undisturbed commands give.
        tally: Counts what happens.
        chance: Draws everything.
        initial: What readers see at the beginning.
    """

    campaign: Campaign
    scenario: Scenario
    whole: Undisturbed
    tally: Tally
    chance: random.Random
    initial: Visible = field(default_factory=dict)

    @property
    def _work(self) -> Path:
        return self.campaign.work

    @property
    def _seconds(self) -> float:
        """Seconds that a command works."""
        return min(self.whole.seconds[-5:])

    def run(self, kind: str) -> None:
        """Disturb the commands, run them undisturbed, and compare their files."""
        self.initial = self._visible()
        if kind == KILL:
            for _ in range(self.chance.randint(1, MOST_KILLS)):
                if not self._kill():
                    break
        else:
            self.tally.disturbed[kind] += 1
            {"full disk": self._fill, "read-only": self._forbid, "removed folder": self._remove}[kind]()
        self._complete()

    def _visible(self) -> Visible:
        return visible(self._work, self.scenario.results)

    # ---- kills

    def _kill(self) -> bool:
        """Start the commands, kill some of them, and check what is left; return whether one was killed."""
        number = len(self.scenario.commands)
        killed = self.chance.sample(range(number), self.chance.randint(1, number))
        moments = {one: self.chance.uniform(0, self._seconds) for one in killed}
        delays = [0.0] + [self.chance.uniform(0, self._seconds / 2) for _ in range(number - 1)]
        with_reader = self._start_reader()
        running: list[Started] = []
        before: Visible = {}
        kills = 0
        began = time.monotonic()
        while len(running) < number or not all(one.has_ended() for one in running):
            now = time.monotonic()
            if len(running) < number and now - began >= delays[len(running)]:
                running.append(self._start_command(len(running)))
            for index in [one for one in moments if one < len(running)]:
                if not running[index].has_ended() and now - running[index].start >= moments[index]:
                    del moments[index]
                    before |= self._kill_now(running[index])
                    kills += 1
            if now - began > LONGEST:
                self._give_up(running)
            time.sleep(0.0005)
        self.tally.missed += len(moments)
        self._check_ends(running)
        self._stop_reader(with_reader)
        self._check_processes()
        self._check_kept(before)
        return kills > 0

    def _start_command(self, index: int) -> Started:
        return self.campaign.start(self.scenario.commands[index], index)

    def _kill_now(self, command: Started) -> Visible:
        """Stop a command, look at its results, and kill it."""
        processes = command.processes()
        if self.scenario.has_processes and self.chance.random() < 0.5 and len(processes) > 1:
            processes = [self.chance.choice(processes[1:])]
        elif self.chance.random() < 0.5:
            processes = processes[:1]
        send(processes, signal.SIGSTOP)
        before = self._visible()
        self.tally.kills += 1
        self.tally.working += command.has_begun
        send(processes, signal.SIGKILL)
        return before

    def _give_up(self, running: Sequence[Started]) -> None:
        for one in running:
            send(one.processes(), signal.SIGKILL)
        raise CrashError(f"a command takes more than {LONGEST:g} s:\n{running[-1].output[-2000:]}")

    def _check_ends(self, running: Sequence[Started]) -> None:
        allowed = (0, -signal.SIGKILL, 2) if self.scenario.has_processes else (0, -signal.SIGKILL)
        for one in running:
            self._check_end(one, allowed)

    def _check_end(self, command: Started, allowed: Sequence[int]) -> None:
        text = command.output
        if command.code not in allowed:
            raise CrashError(f"exit code {command.code}:\n{text[-3000:]}")
        if "Traceback (most recent call last)" in text:
            raise CrashError(f"a traceback:\n{text[-3000:]}")
        if command.code == 2 and not text.strip():
            raise CrashError("exit code 2 without a message")

    def _check_processes(self) -> None:
        if names := outliving([]):
            raise CrashError(f"processes outlive their command: {names}")

    def _check_kept(self, before: Visible) -> None:
        after = self._visible()
        require_kept(before, after, self.initial, self.whole.seen | _of_files(self.whole.files))
        rows = rows_of(after)
        self.tally.rows += rows
        self.tally.files += len(after) - rows

    def _start_reader(self) -> Started | None:
        """Start to read results again and again, until the file `stop` exists."""
        read = self.scenario.reader
        if read is None:
            return None
        stop = self._work.parent / "stop"
        stop.unlink(missing_ok=True)

        def read_on() -> None:
            while not stop.exists():
                read(self._work)

        return self.campaign.start(read_on, 9)

    def _stop_reader(self, reader: Started | None) -> None:
        if reader:
            (self._work.parent / "stop").touch()
            reader.wait(time.monotonic() + LONGEST)
            self._check_end(reader, (0,))

    # ---- disturbances of folders

    def _fill(self) -> None:
        """Run the commands where the disk becomes full."""
        needed = sum(map(len, self.whole.files.values()))
        leave_room(self._work, self.chance.randint(0, needed + SPARE_ROOM))
        self._run_disturbed(room=self.chance.random() < 0.7)
        remount(self._work, "size=256m")
        self._check_kept(self.initial)

    def _forbid(self) -> None:
        """Run the commands where the folder may not be written to, from some moment on."""
        moment = self.chance.choice([0.0, self.chance.uniform(0, self._seconds)])
        # The system refuses while a file is open for writing.
        if not moment and not remount(self._work, "ro"):
            raise OSError(f"{self._work} cannot be remounted")
        self._run_disturbed(moment, lambda: remount(self._work, "ro"))
        remount(self._work, "rw")
        self._check_kept(self.initial)

    def _remove(self) -> None:
        """Run the commands, and move a folder away at a random moment."""
        results = [name for name in self.scenario.results if "." not in name]
        choices = [*results, *results, *INPUTS]
        path = self._work / self.chance.choice(choices)
        elsewhere = self._work / "elsewhere"

        def move() -> bool:
            if path.exists():
                path.rename(elsewhere)
            return True

        self._run_disturbed(self.chance.uniform(0, self._seconds), move)
        if elsewhere.exists():
            shutil.rmtree(path, ignore_errors=True)
            elsewhere.rename(path)
        self._check_kept(self.initial)

    def _run_disturbed(
        self,
        moment: float = 0.0,
        disturb: Callable[[], bool] = lambda: True,
        room: bool = False,
    ) -> None:
        """Run the commands at the same time; each must succeed or be refused with a message."""
        running = [
            self.campaign.start(arguments, number, room=room)
            for number, arguments in enumerate(self.scenario.commands)
        ]
        began, is_done = time.monotonic(), False
        while not all(one.has_ended() for one in running):
            now = time.monotonic()
            if not is_done and now - began >= moment:
                is_done = disturb()
            if now - began > LONGEST:
                self._give_up(running)
            time.sleep(0.0005)
        for one in running:
            self._check_end(one, (0, 2))
        self._check_processes()

    # ---- the end

    def _complete(self) -> None:
        """Run the commands undisturbed, and compare all files with those of undisturbed commands."""
        results = self.scenario.results
        before = stamps(self._work, results)
        seconds = max(map(self.campaign.succeed, self.scenario.commands))
        if not before:
            self.whole.seconds.append(seconds)
        self._check_processes()
        self._check_kept(self._visible())
        if not self.scenario.may_repeat:
            require_not_repeated(before, stamps(self._work, results))
            require_no_doubles(self._work, results)
        for arguments in self.scenario.last:
            self.campaign.succeed(arguments)
        found = all_files(self._work, results)
        if left := leftovers(self._work):
            raise CrashError(f"temporary folders are left over: {left}")
        require_same(found, self.whole.files)
        self.tally.files += len(found)


def _of_files(files: Visible) -> Visible:
    return {name: content for name, content in files.items() if not name.endswith(".h5")}


def main() -> None:
    """Run a campaign; the exit code is 1 if there are faults."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=8, help="number of kills")
    parser.add_argument("--rounds", type=int, help="number of rounds, instead of --kills")
    parser.add_argument("--seed", type=int, help="first seed, instead of the next one of the last run")
    parser.add_argument("--scenario", default="", help="part of the names of scenarios")
    parser.add_argument("--cheap", action="store_true", help="leave out commands that start processes")
    parser.add_argument("--state", type=Path, default=STATE, help="folder of the next seed and of failures")
    options = parser.parse_args()
    options.state.mkdir(exist_ok=True)
    # A TemporaryDirectory would be removed by each forked process at its exit.
    root = Path(tempfile.mkdtemp(prefix="tier4k-crash-"))
    try:
        campaign = Campaign(root, _scenarios(options.scenario, options.cheap))
        try:
            _run(campaign, root, options.state, options.seed, options.kills, options.rounds)
        except KeyboardInterrupt:
            outliving([], seconds=0)
        sys.stdout.write(table(campaign))
    finally:
        shutil.rmtree(root)
    sys.exit(bool(campaign.faults))


def _scenarios(name: str, cheap: bool) -> list[Scenario]:
    found = [one for one in SCENARIOS if name in one.name and not (cheap and one.has_processes)]
    if importlib.util.find_spec("ray") is None:
        found = [one for one in found if "Ray" not in one.name]
    # A scenario that is asked for by its name runs even if it is rare.
    return [replace(one, weight=max(one.weight, 1)) for one in found] if name else found


def _run(
    campaign: Campaign,
    root: Path,
    state: Path,
    first_seed: int | None,
    kills: int,
    rounds: int | None,
) -> None:
    """Run rounds until there were so many kills, or so many rounds."""
    count = state / "next-seed"
    seed = first_seed
    if seed is None:
        seed = int(count.read_text()) if count.exists() else FIRST_SEED
    first = seed
    while campaign.kills < kills if rounds is None else seed - first < rounds:
        name, fault = campaign.run_seed(seed)
        if fault:
            _keep(root / "failure", state / "failures" / str(seed), name, fault)
            sys.stdout.write(f"FAULT seed {seed} {name}, {fault}\n")
            sys.stdout.flush()
        (state / "table.txt").write_text(table(campaign))
        seed += 1
        if first_seed is None:
            count.write_text(str(seed))


def _keep(
    failure: Path,
    folder: Path,
    name: str,
    fault: str,
) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "about.json").write_text(json.dumps({"scenario": name, "fault": fault}, indent=1))
    if failure.exists():
        shutil.move(failure, folder / "place")


def table(campaign: Campaign) -> str:
    """Return what happened in each scenario, and the sums."""
    heads = ("scenario", "rounds", "kills", "working", "missed", *KINDS, "rows", "files", "faults")
    sums = [0] * (len(heads) - 1)
    lines = [heads]
    for name, tally in campaign.tallies.items():
        values = [tally.rounds, tally.kills, tally.working, tally.missed, *tally.disturbed.values()]
        values += [tally.rows, tally.files, tally.faults]
        sums = [one + other for one, other in zip(sums, values, strict=True)]
        lines.append((name, *map(str, values)))
    lines.append(("all", *map(str, sums)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    text = ""
    for name, *values in lines:
        cells = [value.rjust(width) for value, width in zip(values, widths[1:], strict=True)]
        text += "  ".join([name.ljust(widths[0]), *cells]) + "\n"
    return text


if __name__ == "__main__":
    main()
