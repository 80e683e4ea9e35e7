"""Checking a data set: every problem of every row is found, told together, and either stops the work or costs the row."""

import os
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tier4k.cache.atomic import publish
from tier4k.cache.keys import bytes_key, file_key, text_key
from tier4k.cache.store import writing
from tier4k.extract.datasets.choices import LayoutName, OnError
from tier4k.extract.datasets.layouts import DataError, SourceTable, read_source
from tier4k.extract.datasets.manifest import COLUMNS, Manifest, prompt_groups
from tier4k.extract.images.decode import ImageError, inspect, read_bytes

Progress = Callable[[int, int], None]

SHOWN_PROBLEMS = 40

SUGGESTIONS = "Mend or remove these rows, or leave them out with --on-error skip."


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one row.

    Attributes:
        line: Number of the line in the table's file as a spreadsheet shows it (the header is line 1).
        name: What the row calls its picture.
        what: What is wrong, with the value.
    """

    line: int
    name: str
    what: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.name or '(no name)'}: {self.what}"


@dataclass(frozen=True)
class Report:
    """What checking a data set found: the usable rows and the problems of the others."""

    manifest: Manifest
    problems: tuple[Problem, ...]
    source: SourceTable

    @property
    def skipped_lines(self) -> frozenset[int]:
        """Line numbers of the rows that are not in the manifest."""
        return frozenset(problem.line for problem in self.problems)

    @property
    def _in_file(self) -> bool:
        return self.source.path.is_file()  # pictures that were given one by one stand in no line of any file

    def write_problems(self, path: Path) -> None:
        """Write the problems to a CSV file.

        Raises:
            StoreError: The file cannot be written.
        """
        frame = pd.DataFrame(
            [(problem.line, problem.name, problem.what) for problem in self.problems],
            columns=["line", "name", "problem"],
        )
        with writing(path):
            publish(path, lambda temporary: frame.to_csv(temporary, index=False))

    def error(self, remedy: str = SUGGESTIONS) -> DataError:
        """All problems as one error."""
        return DataError(f"{self.describe_problems()}\n{remedy}")

    def describe_problems(self) -> str:
        """The problems as text, the first `SHOWN_PROBLEMS` in full."""
        lines = [
            f"  {problem if self._in_file else f'{problem.name}: {problem.what}'}"
            for problem in self.problems[:SHOWN_PROBLEMS]
        ]
        rest = len(self.problems) - SHOWN_PROBLEMS
        if rest > 0:
            lines.append(
                f"  … and {rest} more; `tier data check {self.source.path} --problems FILE.csv` writes all of them"
            )
        rows = len(self.skipped_lines)
        return "\n".join(
            [
                f"{len(self.problems)} problems in {rows} of {len(self.source.frame)} rows of {self.source.path}:",
                *lines,
            ]
        )


def check(
    data: Path,
    layout: LayoutName | None = None,
    known: Collection[str] = (),
    progress: Progress | None = None,
) -> Report:
    """Read a data set and check every row and every picture.

    Args:
        data: Data folder or table.
        layout: Name of a layout, None to recognise it.
        known: Keys (hexadecimal) of pictures that were decoded before, so that they need not be again.
        progress: Called with (pictures done, pictures in all) while pictures are decoded.

    Raises:
        DataError: The table as a whole cannot be used.
    """
    return check_table(read_source(data, layout), known, progress)


def check_table(source: SourceTable, known: Collection[str] = (), progress: Progress | None = None) -> Report:
    """Check every row and every picture of a table; the other arguments are those of `check`."""
    problems = _Problems(source)
    frame = _with_paths(source, problems)
    frame = _with_scores(frame, source, problems)
    frame = _with_keys(frame, problems, known, progress)
    good = frame[~frame["line"].isin(problems.lines)].reset_index(drop=True)
    good["group"] = prompt_groups(good["prompt"], good["image_prompt_key"])
    table = good[[*COLUMNS, *source.targets]]
    manifest = Manifest(source.name, source.path, table, source.targets)
    return Report(manifest, tuple(sorted(problems.found, key=lambda problem: problem.line)), source)


def load_manifest(
    data: Path,
    layout: LayoutName | None = None,
    on_error: OnError = "stop",
    known: Collection[str] = (),
    progress: Progress | None = None,
) -> Report:
    """Check a data set and insist that what is left can be used.

    Raises:
        DataError: A row has a problem and `on_error` is "stop", or no row is left.
    """
    return require_usable(check(data, layout, known, progress), on_error)


def require_usable(report: Report, on_error: OnError) -> Report:
    """The report, where what is left of the rows can be used; the errors are those of `load_manifest`."""
    if report.problems and on_error == "stop":
        raise report.error()
    if not len(report.manifest):
        raise report.error("No usable row is left.")
    return report


class _Problems:
    """Collects problems against the line numbers of a table."""

    def __init__(self, source: SourceTable) -> None:
        self._names = dict(zip(_lines(source.frame), source.frame["name"], strict=True))
        self.found: list[Problem] = []

    def add(self, lines: Iterable[int], what: str) -> None:
        self.found += [Problem(line, self._names[line], what) for line in lines]

    @property
    def lines(self) -> set[int]:
        return {problem.line for problem in self.found}


def _lines(frame: pd.DataFrame) -> list[int]:
    return [int(number) + 2 for number in frame.index]


def _with_paths(source: SourceTable, problems: _Problems) -> pd.DataFrame:
    frame = source.frame.assign(row=range(len(source.frame)), line=_lines(source.frame))
    frame["benchmark"] = np.where(frame["image_prompt"] != "", "I2I", "T2I")
    frame["position"] = frame.groupby("benchmark").cumcount()
    problems.add(frame.loc[frame["name"] == "", "line"], "the name of the picture is empty")
    problems.add(frame.loc[frame["prompt"] == "", "line"], "the text prompt is empty")
    for name, rows in frame[frame["name"] != ""].groupby("name"):
        if len(rows) > 1:
            problems.add(
                rows["line"],
                f"the name {name!r} stands in lines {', '.join(map(str, rows['line']))}; names must be unique",
            )
    for column, folder in (("image", source.image_folder), ("image_prompt", source.image_prompt_folder)):
        frame[column] = [
            _locate(folder, name, line, problems)
            for name, line in zip(frame[column], frame["line"], strict=True)
        ]
    return frame


def _locate(folder: Path, name: str, line: int, problems: _Problems) -> str:
    """Path of `name` in `folder`, or "" with a problem where it is not a file inside that folder."""
    if not name:
        return ""
    path = folder / name
    # The folder itself may be a link, as users keep pictures on other disks; what the table names must stay inside it.
    try:
        inside = "\0" not in name and path.resolve().is_relative_to(folder.resolve())
        there = inside and path.is_file()
    except (OSError, RuntimeError):  # a name too long for the system, a loop of links
        inside, there = True, False
    if not inside:
        problems.add([line], f"{name!r} leads out of the data folder {folder}")
    elif not there:
        problems.add([line], f"there is no file {path}")
    return str(path) if there else ""


def _with_scores(frame: pd.DataFrame, source: SourceTable, problems: _Problems) -> pd.DataFrame:
    for target in source.targets:
        scores = pd.to_numeric(frame[target], errors="coerce").astype(float)
        bad = ~np.isfinite(scores)
        for line, value in zip(frame.loc[bad, "line"], frame.loc[bad, target], strict=True):
            empty = pd.isna(value) or value == ""
            problems.add(
                [line], f"{target} is empty" if empty else f"{target} is {value!r}, not a finite number"
            )
        frame[target] = scores
    return frame


def _with_keys(
    frame: pd.DataFrame, problems: _Problems, known: Collection[str], progress: Progress | None
) -> pd.DataFrame:
    """Add the key columns; a picture that cannot be read or decoded is a problem of every row that uses it."""
    paths = sorted(set(frame["image"]) | set(frame["image_prompt"]) - {""})
    paths = [path for path in paths if path]
    key_of, wrong = _file_keys(paths)
    first_path = {key: path for path, key in reversed(list(key_of.items()))}
    new = {key: path for key, path in first_path.items() if key not in known}
    wrong_key = _undecodable(new, progress)
    wrong |= {path: wrong_key[key] for path, key in key_of.items() if key in wrong_key}
    for column, called in (("image", "picture"), ("image_prompt", "image prompt")):
        frame[f"{column}_key"] = frame[column].map(lambda path: key_of.get(path, ""))
        for line, path in zip(frame["line"], frame[column], strict=True):
            if path in wrong:
                problems.add([line], f"{called} {path}: {wrong[path]}")
    frame["prompt_key"] = frame["prompt"].map(lambda text: text_key(text).hex())
    return frame


def _file_keys(paths: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    keys, wrong = {}, {}

    def key(path: str) -> str | OSError:
        try:
            return file_key(Path(path)).hex()
        except OSError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing releases the interpreter lock
        for path, result in zip(paths, pool.map(key, paths), strict=True):
            if isinstance(result, str):
                keys[path] = result
            else:
                wrong[path] = f"cannot be read ({result.strerror})"
    return keys, wrong


def _undecodable(pictures: dict[str, str], progress: Progress | None) -> dict[str, str]:
    """What is wrong with each picture {key: path} that cannot be decoded."""
    if not pictures:
        return {}
    found: dict[str, str] = {}
    # Threads, although processes are half as fast again: a kill of this process would leave them waiting for ever.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(_inspect, pictures.values(), pictures.keys())
        for done, (key, what) in enumerate(zip(pictures, results, strict=True), start=1):
            if what:
                found[key] = what
            if progress:
                progress(done, len(pictures))
    return found


def _inspect(path: str, key: str) -> str:
    try:
        data = read_bytes(Path(path))
        if bytes_key(data).hex() != key:
            return "changed while it was read; run the command again"
        inspect(data)
    except ImageError as error:
        return str(error)
    return ""
