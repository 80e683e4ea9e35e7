"""Damages files and runs commands on them, one after the other; keeps seeds and failures over runs.

`make fuzz MINUTES=40` runs it by hand; `python -m tier4k.tests.fuzz.campaign --case FOLDER` repeats a
failure.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tier4k.tests.builders.forking import Imports
from tier4k.tests.fuzz.cases import KINDS, Case, Kind, draw, renamed, with_file
from tier4k.tests.fuzz.child import OUTSIDE, Ended, run
from tier4k.tests.fuzz.material import build
from tier4k.tests.fuzz.mutations import Replacement, mutate, place

STATE = Path(".fuzz")

FIRST_SEED = 1_000_000  # of runs by hand; the slow test uses those from 0

KEPT = 3  # failures of one kind that are written


@dataclass
class Tally:
    """What a campaign has seen.

    Attributes:
        inputs: Number of inputs by kind of file.
        codes: Number of inputs by exit code.
        faults: Number of inputs by fault.
        by_kind: Number of inputs by kind of file and by what came out: "0", "2" or "faults".
        since_fault: Number of inputs since the last fault.
    """

    inputs: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    by_kind: dict[str, Counter[str]] = field(default_factory=dict)
    since_fault: int = 0

    def add(self, case: Case, ended: Ended) -> None:
        """Count one input."""
        self.inputs[case.kind.name] += 1
        self.codes[ended.code] += 1
        self.since_fault += 1
        outcome = "faults" if ended.fault else str(ended.code)
        self.by_kind.setdefault(case.kind.name, Counter())[outcome] += 1
        if ended.fault:
            self.faults[ended.fault] += 1
            self.since_fault = 0

    def write(self, path: Path) -> None:
        """Write what is counted over runs: inputs by kind, and inputs since the last fault."""
        path.write_text(json.dumps({"since_fault": self.since_fault, "by_kind": self.by_kind}, indent=1))

    @classmethod
    def read(cls, path: Path) -> "Tally":
        """Continue the counts of earlier runs."""
        if not path.exists():
            return cls()
        earlier = json.loads(path.read_text())
        kinds = {kind: Counter(counts) for kind, counts in earlier["by_kind"].items()}
        return cls(by_kind=kinds, since_fault=earlier["since_fault"])


class Campaign:
    """Runs cases in copies of a project.

    Args:
        root: An empty folder for the project and the copies.
        kinds: Kinds of files to damage.
    """

    def __init__(self, root: Path, kinds: Sequence[Kind] = KINDS) -> None:
        self.project = root / "project"
        self._kinds = kinds
        self._place = root / "place"
        self._imports = Imports()
        self._content: bytes | Replacement = b""
        self.tally = Tally()
        if not self.project.exists():
            self._build()

    def _build(self) -> None:
        """Write the project in a forked process: the threads of a fit would not survive later forks."""
        child = os.fork()
        if not child:
            before = set(sys.modules)
            build(self.project)
            self._imports.name(before)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise RuntimeError("the well-formed files cannot be written")
        self._imports.repeat()

    def check_undamaged(self) -> dict[str, str]:
        """Run every command on well-formed files, and return those that fail, with what they print."""
        failed = {}
        seen = set()
        for kind in self._kinds:
            for command in kind.commands:
                arguments = with_file(command, kind.files(self.project)[0].relative_to(self.project))
                if tuple(arguments) in seen:
                    continue
                seen.add(tuple(arguments))
                copy = self._copy(kind)
                ended = run(arguments, copy, self._imports, seconds=120)
                self._imports.repeat()
                if ended.code != kind.code or ended.violations:
                    failed[" ".join(arguments)] = f"{ended.code} {ended.violations} {ended.errors}"
        return failed

    def run_seed(self, seed: int) -> tuple[Case, str, Ended]:
        """Run the case of a seed."""
        case, chance = draw(seed, self.project, self._kinds)
        copy = self._copy(case.kind)
        file = copy / case.file
        before = file.read_bytes()
        name, content = mutate(file, before, chance, case.kind.is_closed)
        if chance.random() < 0.02:
            case = renamed(case, chance)
            file.unlink()
        place(copy / case.file, content)
        self._content = content
        if case.kind.digests_in and isinstance(content, bytes) and chance.random() < 0.9:
            _repair_digest(copy / case.kind.digests_in, before, content)
        ended = run(list(case.command), copy, self._imports)
        self._imports.repeat()
        self.tally.add(case, ended)
        return case, name, ended

    def repeat(self, folder: Path) -> Ended:
        """Run a case that was kept."""
        about = json.loads((folder / "case.json").read_text())
        (kind,) = (kind for kind in self._kinds if kind.name == about["kind"])
        copy = self._copy(kind)
        replacement = about["replacement"]
        content = Replacement(**replacement) if replacement else (folder / "content").read_bytes()
        before = (copy / about["original"]).read_bytes()
        (copy / about["original"]).unlink()
        place(copy / about["file"], content)
        if kind.digests_in and isinstance(content, bytes):
            _repair_digest(copy / kind.digests_in, before, content)
        return run(about["command"], copy, self._imports, seconds=60)

    def keep(
        self,
        folder: Path,
        case: Case,
        damage: str,
        ended: Ended,
    ) -> None:
        """Write a failure as a case that can be repeated."""
        folder.mkdir(parents=True, exist_ok=True)
        about = {"seed": case.seed, "kind": case.kind.name, "damage": damage, "file": str(case.file)}
        about |= {"command": case.command, "code": ended.code, "seconds": ended.seconds, "fault": ended.fault}
        is_file = isinstance(self._content, bytes)
        about |= {"original": str(case.original), "replacement": None if is_file else asdict(self._content)}
        (folder / "case.json").write_text(json.dumps(about, indent=1))
        (folder / "errors.txt").write_text(ended.errors[-20_000:])
        if is_file:
            (folder / "content").write_bytes(self._content)

    def _copy(self, kind: Kind) -> Path:
        """Copy the folders that a kind needs; large files as links."""
        shutil.rmtree(self._place, ignore_errors=True)
        folder = self._place / "work"
        (self._place / OUTSIDE).mkdir(parents=True)
        (self._place / OUTSIDE / "secret.png").write_bytes(b"secret")
        for name in {*kind.needs, kind.pattern.split("/")[0]}:
            shutil.copytree(self.project / name, folder / name, copy_function=_copy_file)
        return folder


def _copy_file(source: str, target: str) -> str:
    if os.path.getsize(source) > 2**17:
        os.link(source, target)
    else:
        shutil.copy2(source, target)
    return target


def _repair_digest(
    listing: Path,
    before: bytes,
    after: bytes,
) -> None:
    """Replace the SHA-256 of one content by that of another in a file."""
    text = listing.read_text()
    old, new = (hashlib.sha256(content).hexdigest() for content in (before, after))
    if old not in text:
        raise RuntimeError(f"{listing} does not have the SHA-256 of the file")
    listing.unlink()  # it may be a link to the well-formed one
    listing.write_text(text.replace(old, new))


def fault_folder(fault: str) -> str:
    """The name of the folder of a fault."""
    return re.sub(r"[^\w.-]+", "_", fault)[:120]


def main() -> None:
    """Run a campaign, or a kept case; the exit code is 1 if there are faults."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--inputs", type=int, help="number of inputs, instead of --minutes")
    parser.add_argument("--first-seed", type=int, help="first seed, instead of the next one of the last run")
    parser.add_argument("--case", type=Path, help="folder of a failure to repeat")
    parser.add_argument("--kind", default="", help="part of the names of kinds of files")
    parser.add_argument("--unchecked", action="store_true", help="leave out the run on well-formed files")
    parser.add_argument("--project", type=Path, help="folder that keeps the well-formed files over runs")
    parser.add_argument("--state", type=Path, default=STATE, help="folder of the next seed and of failures")
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if options.kind in kind.name]
    with tempfile.TemporaryDirectory(prefix="tier4k-fuzz-") as folder:
        campaign = Campaign(options.project or Path(folder), kinds)
        if options.case:
            sys.stdout.write(campaign.repeat(options.case).errors)
            return
        failed = {} if options.unchecked else campaign.check_undamaged()
        for command, output in failed.items():
            sys.stdout.write(f"fails on well-formed files: {command}: {output[-1500:]}\n")
        options.state.mkdir(exist_ok=True)
        _run(
            campaign,
            options.state,
            options.first_seed,
            options.inputs,
            time.monotonic() + 60 * options.minutes,
        )
    sys.exit(bool(failed or campaign.tally.faults))


def _run(
    campaign: Campaign,
    state: Path,
    first_seed: int | None,
    inputs: int | None,
    end: float,
) -> None:
    """Run a number of inputs, or inputs until a time."""
    count = state / "next-seed"
    seed = first_seed
    if seed is None:
        seed = int(count.read_text()) if count.exists() else FIRST_SEED
    tally = campaign.tally = Tally.read(state / "tally.json")
    while time.monotonic() < end if inputs is None else tally.inputs.total() < inputs:
        case, damage, ended = campaign.run_seed(seed)
        seed += 1
        count.write_text(str(seed))
        tally.write(state / "tally.json")
        if ended.fault:
            if tally.faults[ended.fault] <= KEPT:
                folder = state / "failures" / fault_folder(ended.fault) / str(case.seed)
                campaign.keep(folder, case, damage, ended)
            sys.stdout.write(f"{case.seed} {case.kind.name}, {damage}, {case.command[0]}: {ended.fault}\n")
            sys.stdout.flush()
    _print(tally)


def _print(tally: Tally) -> None:
    lines = [f"{tally.inputs.total()} inputs, {tally.since_fault} since the last fault"]
    lines += [f"exit code {code}: {count}" for code, count in tally.codes.most_common()]
    every = sum((Counter(counts) for counts in tally.by_kind.values()), Counter())
    lines += ["of all runs:", "inputs  code 0  code 2  faults  kind of file"]
    for kind, counts in [*sorted(tally.by_kind.items()), ("all", every)]:
        columns = (counts.total(), counts["0"], counts["2"], counts["faults"])
        lines.append("".join(f"{column:>6,}  " for column in columns) + kind)
    lines += [f"FAULT {count} times: {fault}" for fault, count in tally.faults.most_common()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
