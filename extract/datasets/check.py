"""Checking a data set: every problem of every row is reported, and either stops the work or costs the row."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tier4k.cache.atomic import publish
from tier4k.cache.keys import text_key
from tier4k.cache.write_errors import explain_write_errors
from tier4k.extract.datasets.choices import LayoutName, OnError
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.image_files import examine_images
from tier4k.extract.datasets.layouts import SourceTable, read_source
from tier4k.extract.datasets.manifest import COLUMNS, Manifest, prompt_groups
from tier4k.extract.datasets.problems import Problem, ProblemList, line_numbers
from tier4k.extract.datasets.progress import Progress
from tier4k.extract.datasets.ratings import standard_errors
from tier4k.extract.datasets.spellings import canonical_spellings, merged_spellings
from tier4k.extract.datasets.tables import empty_cells

SHOWN_PROBLEMS = 40

SMALLEST_SCORE, LARGEST_SCORE = 1e-100, 1e100  # fits square scores and multiply squares

REMEDY = "Fix or remove these rows, or skip them with --on-error skip."

IMAGE_COLUMNS = {"image": "picture", "image_prompt": "image prompt"}


@dataclass(frozen=True)
class CheckedDataset:
    """The usable rows of a data set and the problems of the others.

    Attributes:
        manifest: The rows without a problem.
        problems: All problems, in the order of their lines.
        source: The table that was checked.
        merged_generators: {canonical spelling of a generator: its other spellings in the table}.
    """

    manifest: Manifest
    problems: tuple[Problem, ...]
    source: SourceTable
    merged_generators: dict[str, tuple[str, ...]]

    @property
    def skipped_lines(self) -> frozenset[int]:
        """Line numbers of the rows that are not in the manifest."""
        return frozenset(problem.line for problem in self.problems)

    def write_problems(self, path: Path) -> None:
        """Write the problems to a CSV file with the columns line, name and problem.

        Raises:
            StoreError: The file cannot be written.
        """
        rows = [(problem.line, problem.name, problem.message) for problem in self.problems]
        frame = pd.DataFrame(rows, columns=["line", "name", "problem"])
        with explain_write_errors(path):
            publish(path, lambda temporary: frame.to_csv(temporary, index=False))

    def error(self, remedy: str = REMEDY) -> DataError:
        """Return all problems as one error, whose message ends with the remedy."""
        return DataError(f"{self.describe_problems()}\n{remedy}")

    def describe_problems(self) -> str:
        """Return the problems as text, with the first `SHOWN_PROBLEMS` in full."""
        path = self.source.path
        total = len(self.problems)
        lines = [
            f"{total} problems in {len(self.skipped_lines)} of {len(self.source.frame)} rows of {path}:",
            *self._problem_lines(),
        ]
        rest = total - SHOWN_PROBLEMS
        if rest > 0:
            command = f"tier data check {path} --problems FILE.csv"
            lines.append(f"  … and {rest} more; `{command}` writes all of them")
        return "\n".join(lines)

    def _problem_lines(self) -> list[str]:
        shown = self.problems[:SHOWN_PROBLEMS]
        if self.source.path.is_file():
            return [f"  {problem}" for problem in shown]
        # Images that are given one by one are in no file, so they have no line number.
        return [f"  {problem.name}: {problem.message}" for problem in shown]


def check(
    data: Path,
    layout: LayoutName | None = None,
    known: Collection[str] = (),
    progress: Progress | None = None,
    raters: int | None = None,
) -> CheckedDataset:
    """Read a data set and check every row and every image.

    Args:
        data: Data folder or table.
        layout: Name of a layout; None recognises the layout.
        known: Keys (hexadecimal) of images that were decoded before, so that they are not decoded again.
        progress: Called with (images done, images in all) while images are read.
        raters: Number of ratings of every score; None takes it from a column, if there is one.

    Raises:
        DataError: The table as a whole cannot be used.
    """
    return check_table(read_source(data, layout, raters), known, progress)


def check_table(
    source: SourceTable,
    known: Collection[str] = (),
    progress: Progress | None = None,
) -> CheckedDataset:
    """Check every row and every image of a table that has been read.

    Args:
        source: The table, from `read_source` or `read_inputs`.
        known: Keys (hexadecimal) of images that were decoded before, so that they are not decoded again.
        progress: Called with (images done, images in all) while images are read.
    """
    problems = ProblemList(source.frame)
    frame = _numbered_rows(source)
    _check_texts(frame, problems, source.needs_prompts)
    for column, folder in (("image", source.image_folder), ("image_prompt", source.image_prompt_folder)):
        frame[column] = _located_files(frame, column, folder, problems)
    for target in source.targets:
        frame[target] = _scores(frame, target, problems)
    errors = standard_errors(frame, source.targets, problems)
    frame = frame.join(errors)
    if source.targets:
        _require_any_score(frame, source, problems)
    _add_keys(frame, problems, known, progress)
    usable = frame[~frame["line"].isin(problems.lines)].reset_index(drop=True)
    usable["group"] = prompt_groups(usable["prompt"], usable["image_key"], usable["image_prompt_key"])
    table = usable[[*COLUMNS, *source.targets, *errors]]
    manifest = Manifest(source.name, source.path, table, source.targets)
    merged = merged_spellings(source.frame["generator"], frame["generator"])
    return CheckedDataset(manifest, problems.by_line(), source, merged)


def load_manifest(
    data: Path,
    layout: LayoutName | None = None,
    on_error: OnError = "stop",
    known: Collection[str] = (),
    progress: Progress | None = None,
) -> CheckedDataset:
    """Read and check a data set, and require usable rows.

    Args:
        data: Data folder or table.
        layout: Name of a layout; None recognises the layout.
        on_error: "stop" raises if any row has a problem, "skip" only if no usable row is left.
        known: Keys (hexadecimal) of images that were decoded before, so that they are not decoded again.
        progress: Called with (images done, images in all) while images are read.

    Raises:
        DataError: A row has a problem and `on_error` is "stop", or no row is left.
    """
    return raise_for_problems(check(data, layout, known, progress), on_error)


def raise_for_problems(checked: CheckedDataset, on_error: OnError) -> CheckedDataset:
    """Return the checked data set if it can be used.

    Args:
        checked: The result of `check` or `check_table`.
        on_error: "stop" raises if any row has a problem, "skip" only if no usable row is left.

    Raises:
        DataError: A row has a problem and `on_error` is "stop", or no row is left.
    """
    if checked.problems and on_error == "stop":
        raise checked.error()
    if not len(checked.manifest):
        raise checked.error("No usable row is left.")
    return checked


def _numbered_rows(source: SourceTable) -> pd.DataFrame:
    frame = source.frame.copy()
    frame["generator"] = canonical_spellings(frame["generator"])
    frame["row"] = range(len(frame))
    frame["line"] = line_numbers(frame)
    frame["benchmark"] = np.where(frame["image_prompt"] != "", "I2I", "T2I")
    frame["position"] = frame.groupby("benchmark").cumcount()
    return frame


def _check_texts(
    frame: pd.DataFrame,
    problems: ProblemList,
    needs_prompts: bool,
) -> None:
    no_name = frame["name"] == ""
    no_prompt = (frame["prompt"] == "") & needs_prompts
    problems.add_each(frame.loc[no_name, "line"], "the name of the picture is empty")
    problems.add_each(frame.loc[no_prompt, "line"], "the text prompt is empty")
    for name, rows in frame[~no_name].groupby("name"):
        if len(rows) > 1:
            lines = ", ".join(map(str, rows["line"]))
            problems.add_each(rows["line"], f"the name {name!r} is in lines {lines}; names must be unique")


def _located_files(
    frame: pd.DataFrame,
    column: str,
    folder: Path,
    problems: ProblemList,
) -> list[str]:
    """Return the path of each row's file in `folder`; "" if the row names no file, or no usable file."""
    paths = []
    for line, name in zip(frame["line"], frame[column], strict=True):
        path = ""
        if name:
            problem = _location_problem(folder, name)
            if problem:
                problems.add(line, problem)
            else:
                path = str(folder / name)
        paths.append(path)
    return paths


def _location_problem(folder: Path, name: str) -> str:
    path = folder / name
    outside = f"{name!r} leads out of the data folder {folder}"
    missing = f"there is no file {path}"
    if "\0" in name:
        return outside
    try:
        # The folder itself may be a link, as users keep images on other disks; the files must be inside it.
        if not path.resolve().is_relative_to(folder.resolve()):
            return outside
        return "" if path.is_file() else missing
    except (OSError, RuntimeError):  # a name too long for the system, a loop of links
        return missing


def _scores(
    frame: pd.DataFrame,
    target: str,
    problems: ProblemList,
) -> pd.Series:
    """Return the scores of one target, NaN for an empty cell; other cells without a number are problems."""
    cells = frame[target]
    scores = pd.to_numeric(cells, errors="coerce").astype(float)
    is_invalid = ~np.isfinite(scores) & ~empty_cells(cells)
    for line, value in zip(frame.loc[is_invalid, "line"], cells[is_invalid], strict=True):
        problems.add(line, f"{target} is {value!r}, not a finite number")
    size = scores.abs()
    is_extreme = np.isfinite(scores) & (size != 0) & ((size < SMALLEST_SCORE) | (size > LARGEST_SCORE))
    for line, value in zip(frame.loc[is_extreme, "line"], cells[is_extreme], strict=True):
        problems.add(line, f"{target} is {value!r}, whose square is no number: use another unit")
    return scores


def _require_any_score(
    frame: pd.DataFrame,
    source: SourceTable,
    problems: ProblemList,
) -> None:
    """Report the rows whose score cells are all empty; other rows keep the targets that they have."""
    names = list(source.targets)
    all_empty = source.frame[names].apply(empty_cells).all(axis=1)
    verb = "is" if len(names) == 1 else "are"
    problems.add_each(frame.loc[all_empty, "line"], f"{', '.join(names)} {verb} empty")


def _add_keys(
    frame: pd.DataFrame,
    problems: ProblemList,
    known: Collection[str],
    progress: Progress | None,
) -> None:
    """Add the key columns; a defective image is a problem of every row that uses it."""
    paths = {*frame["image"], *frame["image_prompt"]} - {""}
    examined = examine_images(sorted(paths), known, progress)
    for column, label in IMAGE_COLUMNS.items():
        keys = []
        for line, path in zip(frame["line"], frame[column], strict=True):
            image = examined.get(path)
            keys.append(image.key if image else "")
            if image and image.defect:
                problems.add(line, f"{label} {path}: {image.defect}")
        frame[f"{column}_key"] = keys
    frame["prompt_key"] = frame["prompt"].map(lambda text: text_key(text).hex())
