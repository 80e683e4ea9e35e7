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
from dataclasses import replace
from pathlib import Path

from tier4k.tests.builders.forking import Imports
from tier4k.tests.crash.checks import (
    CrashError,
    all_files,
    visible,
)
from tier4k.tests.crash.disturbances import KINDS, may_mount, mounted
from tier4k.tests.crash.processes import LONGEST, Started, adopt_orphans, outliving, send, start
from tier4k.tests.crash.rounds import KILL, Round, Tally, Undisturbed
from tier4k.tests.crash.scenarios import SCENARIOS, Scenario

STATE = Path(".crash")

FIRST_SEED = 1_000_000  # of runs by hand; the slow test uses those from 0

KILL_SHARE = 0.8  # of the rounds


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
