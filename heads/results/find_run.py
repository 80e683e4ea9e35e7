"""Finding runs: by their folders, or by their ten digits."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tier4k.cache.atomic import remove_dead
from tier4k.heads.results.config import RunConfig
from tier4k.heads.results.layout import RESULTS_FILE, is_run, read_run_file
from tier4k.heads.results.names import DIGITS, digest_in, reference, run_name
from tier4k.heads.results.run_format import ResultError

RUNS = Path("runs")  # where runs are looked up that are given by their digits alone

FEWEST_DIGITS = 4

MOST_LISTED = 10

_DIGITS = re.compile(rf"[0-9a-f]{{{FEWEST_DIGITS},{DIGITS}}}")


@dataclass(frozen=True)
class RunIdentity:
    """The fields of results.json that identify a run.

    Attributes:
        id: ID of the run; it ends in ten digits.
        method, benchmark, split: As in `Results`.
    """

    id: str
    method: str
    benchmark: str
    split: str

    @property
    def digest(self) -> str:
        """The ten digits of the run; "" if its ID does not end in digits."""
        return digest_in(self.id)

    @property
    def reference(self) -> str:
        """The text by which other runs and stores refer to the run."""
        return reference(self.method, self.benchmark, self.split, self.digest)


def read_identity(run: Path) -> RunIdentity:
    """Read the identity of a run.

    Raises:
        ResultError: There is no such run, or its results cannot be read.
    """
    return read_run_file(run, RESULTS_FILE, RunIdentity)


def find_run(run: str | Path) -> Path:
    """Return the folder of a run that a user gives.

    Args:
        run: The folder; or the run's ten digits, of which the first four or more suffice if no other run has
            them. "8d16a3" is looked up in the folder "runs", "old/8d16a3" in the folder "old".

    Returns:
        The folder. A path that is neither a folder nor digits is returned as it is: who reads the run reports
        that it does not exist.

    Raises:
        ResultError: No run or several runs have these digits; the message lists runs.
    """
    path = Path(run)
    if path.exists() or not _DIGITS.fullmatch(path.name):
        return path
    folder = path.parent if len(path.parts) > 1 else RUNS
    runs = runs_in(folder)
    matching = [one for one in runs if _digest(one).startswith(path.name)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise ResultError(
            f"{len(matching)} runs in {folder} have the digits {path.name}: pass more digits, or the folder "
            f"of one of them:\n{_listed(matching)}"
        )
    raise ResultError(
        f"no run in {folder} has the digits {path.name}: pass the folder of a run, or the digits of one of "
        f"these runs:\n{_listed(runs)}"
    )


def find_runs(runs: Sequence[str | Path]) -> list[Path]:
    """Return the folders of runs that a user gives; a folder that contains runs stands for all of them.

    Args:
        runs: As for `find_run`, or folders that contain runs.

    Raises:
        ResultError: No run or several runs have given digits, or the folder "runs" has no run.
    """
    found: list[Path] = []
    for run in runs:
        path = Path(run)
        inside = [] if is_run(path) else runs_in(path)
        if path == RUNS and not inside:
            raise ResultError(f"there are no runs in {RUNS}: run `tier fit-head DATA` first, or pass runs")
        found += inside or [find_run(path)]
    return found


def runs_in(folder: Path) -> list[Path]:
    """Return the folders of all runs in a folder by name, without those of a search's candidates."""
    return [folder / name for name in _names_in(folder) if is_run(folder / name)]


def finished_run(out: Path, config: RunConfig) -> Path | None:
    """Return the folder of a run, or None if it is to be made; remove what killed commands left in `out`."""
    remove_dead(out)
    return stored_run(out, config)


def stored_run(out: Path, config: RunConfig) -> Path | None:
    """Return the folder of the run with a configuration, whatever it is called; None if there is none.

    A folder whose name ends in the ten digits of a run is this run. Folders that were renamed to something
    else are known by the ID in their results.
    """
    usual = out / run_name(config)
    if usual.exists():
        return usual
    digests = {name: digest_in(name) for name in _names_in(out)}
    for name, digest in digests.items():
        if digest == config.digest:
            return out / name
    for name, digest in digests.items():
        if not digest and is_run(out / name) and _digest(out / name) == config.digest:
            return out / name
    return None


def reference_to(folder: Path) -> str:
    """Return the text by which other runs and stores refer to a run; of an exported model, its folder's name.

    Raises:
        ResultError: The results of the run cannot be read.
    """
    return read_identity(folder).reference if is_run(folder) else folder.resolve().name


def _digest(run: Path) -> str:
    """Return the ten digits of a run: those at the end of its name, or else of the ID in its results."""
    digest = digest_in(run.name)
    with suppress(ResultError):  # a damaged run does not hide the others
        digest = digest or read_identity(run).digest
    return digest


def _names_in(folder: Path) -> list[str]:
    """Return the sorted names in a folder, without those of unfinished runs, which begin with a dot."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _listed(runs: Sequence[Path]) -> str:
    lines = [f"  {_digest(run) or run}  {run.name}".rstrip() for run in runs[:MOST_LISTED]] or ["  none"]
    if len(runs) > MOST_LISTED:
        lines.append(f"  and {len(runs) - MOST_LISTED} more")
    return "\n".join(lines)
