"""A round of a campaign: commands that are killed, or whose folders are disturbed, and what must be left."""

import random
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

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
from tier4k.tests.crash.disturbances import KINDS, leave_room, remount
from tier4k.tests.crash.processes import LONGEST, Started, is_resource_tracker, outliving, send
from tier4k.tests.crash.scenarios import Scenario

if TYPE_CHECKING:
    from tier4k.tests.crash.campaign import Campaign

KILL = "kill"

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

    campaign: "Campaign"
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
        started = [process for process in processes[1:] if not is_resource_tracker(process)]
        if self.scenario.has_processes and self.chance.random() < 0.5 and started:
            processes = [self.chance.choice(started)]
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
        allowed = [0, -signal.SIGKILL]
        if self.scenario.has_processes:
            allowed.append(2)
        if self.scenario.ends_with_ray:
            allowed.append(1)
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
