"""Check a data set: every problem of every row is reported, and stops the work or leaves out the row."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tier4k.cache.atomic import publish
from tier4k.cache.keys import text_key
from tier4k.cache.text import first_few, shortened
from tier4k.cache.write_errors import explain_write_errors
from tier4k.extract.datasets.choices import OnError
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.hashes.cache import KeyCache
from tier4k.extract.datasets.hashes.hasher import ImageHasher
from tier4k.extract.datasets.image_files import ExaminedImage, KnownKeys, examine_images
from tier4k.extract.datasets.join import JoinedRows, joined_rows
from tier4k.extract.datasets.layouts.read import read_source
from tier4k.extract.datasets.locate import Locator
from tier4k.extract.datasets.manifest import COLUMNS, Manifest, prompt_groups
from tier4k.extract.datasets.problems import SHOWN_PROBLEMS, Problem, ProblemList, describe_problems
from tier4k.extract.datasets.progress import Progress
from tier4k.extract.datasets.ratings import standard_errors
from tier4k.extract.datasets.source import SourceTable
from tier4k.extract.datasets.spellings import canonical_spellings, merged_spellings
from tier4k.extract.datasets.table_choice import RECOGNISED, TableChoice
from tier4k.extract.datasets.tables.cells import empty_cells, numbers, shown_cell

SMALLEST_SCORE, LARGEST_SCORE = 1e-100, 1e100  # fits square scores and multiply squares

REMEDY = "Fix or remove these rows, or skip them with --on-error skip."

LINES_SHOWN = 5  # of rows with the same name

NO_PROMPT = "the text prompt is empty"

IMAGE_LABELS = {"image": "image", "image_prompt": "image prompt"}


@dataclass(frozen=True)
class CheckedDataset:
    """The usable rows of one or several data sets and the problems of the others.

    Attributes:
        manifest: The rows without a problem.
        problems: All problems, in the order of the tables and their rows.
        sources: The tables that were checked.
        merged_generators: {canonical spelling of a generator: its other spellings in the tables}.
        turned: Number of images that are turned upright, as their EXIF orientation says.
        transparent: Number of images that are composited onto white.
        rows: Number of rows of all tables.
        skipped: Number of rows that are not in the manifest.
    """

    manifest: Manifest
    problems: tuple[Problem, ...]
    sources: tuple[SourceTable, ...]
    merged_generators: dict[str, tuple[str, ...]]
    turned: int
    transparent: int
    rows: int
    skipped: int

    def write_problems(self, path: Path) -> None:
        """Write the problems to a CSV file with the columns line, name and problem.

        Where the rows are in several files, the first column is file.

        Raises:
            StoreError: The file cannot be written.
        """
        rows = [(problem.file, problem.line, problem.name, problem.message) for problem in self.problems]
        frame = pd.DataFrame(rows, columns=["file", "line", "name", "problem"])
        if not frame["file"].any():
            frame = frame.drop(columns="file")
        with explain_write_errors(path):
            publish(path, lambda temporary: frame.to_csv(temporary, index=False))

    def error(self, remedy: str = REMEDY) -> DataError:
        """Return all problems as one error, whose message ends with the remedy."""
        return DataError(f"{self.describe_problems()}\n{remedy}")

    def describe_problems(self) -> str:
        """Return the problems as text, with the first `SHOWN_PROBLEMS` in full."""
        shown_lines = list(map(str, self.problems[:SHOWN_PROBLEMS]))
        paths = [str(source.path) for source in self.sources]
        return describe_problems(shown_lines, len(self.problems), self.skipped, self.rows, paths)


def check(
    data: Path | Sequence[Path],
    choice: TableChoice = RECOGNISED,
    known: KnownKeys | None = None,
    progress: Progress | None = None,
    raters: int | None = None,
) -> CheckedDataset:
    """Read one or several data sets and check every row and every image.

    Args:
        data: Data folder or table, or several of them.
        choice: What the user says about layout, columns and sheet.
        known: Keys of images that were decoded before, so that they are not decoded again.
        progress: Called with (images done, images in all) while images are read.
        raters: Number of ratings of every score; None takes it from a column, if there is one.

    Raises:
        DataError: A table as a whole cannot be used.
    """
    paths = [data] if isinstance(data, Path) else data
    return check_tables([read_source(path, choice, raters) for path in paths], known, progress)


def check_tables(
    sources: Sequence[SourceTable],
    known: KnownKeys | None = None,
    progress: Progress | None = None,
    decode: bool = True,
    hasher: ImageHasher | None = None,
) -> CheckedDataset:
    """Check every row and every image of tables that have been read, and join their rows.

    Targets with equal names are one target. Where there are several tables, the name of every image begins
    with the name of its data set.

    Args:
        sources: Tables, from `read_source` or `read_inputs`.
        known: Keys of images that were decoded before, so that they are not decoded again.
        progress: Called with (images done, images in all) while images are read.
        decode: Whether images that are not known are decoded; if not, damaged ones are no problem.
        hasher: Hashes the images; None reads all of them.

    Raises:
        DataError: Two data sets have one name, or only some of the tables have a column of groups.
    """
    rows = joined_rows(sources)
    problems = ProblemList(rows.frame)
    frame = _numbered_rows(rows.frame)
    _check_cells(frame, problems, rows)
    if rows.needs_prompts and rows.has_prompts:
        problems.add_each(frame.index[frame["prompt"] == ""], NO_PROMPT)
    for column in IMAGE_LABELS:
        frame[column] = _located_files(frame[column], rows.folders(column), problems)
    frame, errors = _with_scores(frame, rows, problems)
    examined = _add_keys(frame, problems, hasher or ImageHasher(KeyCache(None)), known, progress, decode)
    is_usable = ~frame["row"].isin(problems.rows)
    return CheckedDataset(
        manifest=_manifest(rows, frame, is_usable, errors),
        problems=problems.by_row(),
        sources=tuple(sources),
        merged_generators=merged_spellings(rows.frame["generator"], frame["generator"]),
        turned=sum(image.is_turned for image in examined),
        transparent=sum(image.is_transparent for image in examined),
        rows=len(frame),
        skipped=int((~is_usable).sum()),
    )


def cell_problems(source: SourceTable) -> list[tuple[int, str]]:
    """Return the problems of a table's cells, in the order of its rows: the number of the row, and a message.

    Images are not looked for, and rows without a text prompt are no problem here.
    """
    rows = joined_rows([source])
    problems = ProblemList(rows.frame)
    frame = _numbered_rows(rows.frame)
    _check_cells(frame, problems, rows)
    _with_scores(frame, rows, problems)
    return [(problem.row, problem.message) for problem in problems.by_row()]


def _with_scores(
    frame: pd.DataFrame,
    rows: JoinedRows,
    problems: ProblemList,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return rows with checked scores and their standard errors, and the names of the errors' columns."""
    for target in rows.targets:
        frame[target] = _scores(frame[target], target, problems)
    errors = standard_errors(frame, rows.targets, problems)
    if rows.targets:
        _require_any_score(rows, problems)
    return frame.join(errors), tuple(errors)


def _manifest(
    rows: JoinedRows,
    frame: pd.DataFrame,
    is_usable: pd.Series,
    errors: Sequence[str],
) -> Manifest:
    """Return the usable rows.

    Args:
        rows: All rows as read.
        frame: The same rows as checked (N).
        is_usable: Whether a row has no problem (N,).
        errors: Names of the columns with standard errors.
    """
    usable = frame[is_usable].reset_index(drop=True)
    usable["group"] = prompt_groups(
        usable["prompt"],
        usable["image_key"],
        usable["image_prompt_key"],
        usable["group"] if rows.has_groups else None,
    )
    return Manifest(
        name="+".join(rows.names),
        sources=tuple(source.path for source in rows.sources),
        table=usable[[*COLUMNS, *rows.targets, *errors]],
        targets=rows.targets,
        columns=rows.others[is_usable].reset_index(drop=True),
        has_prompts=rows.has_prompts,
        has_groups=rows.has_groups,
        choice=rows.sources[0].choice,
        packages=tuple(dict.fromkeys(source.package for source in rows.sources if source.package)),
    )


def raise_for_problems(checked: CheckedDataset, on_error: OnError) -> CheckedDataset:
    """Return the checked data set if it can be used.

    Args:
        checked: The result of `check` or `check_tables`.
        on_error: "stop" raises if any row has a problem, "skip" only if no usable row is left.

    Raises:
        DataError: A row has a problem and `on_error` is "stop", or no row is left.
    """
    if checked.problems and on_error == "stop":
        raise checked.error()
    if not len(checked.manifest):
        raise checked.error("No usable row is left.")
    return checked


def _numbered_rows(rows: pd.DataFrame) -> pd.DataFrame:
    frame = rows.copy()
    frame["generator"] = canonical_spellings(frame["generator"])
    frame["row"] = range(len(frame))
    frame["benchmark"] = np.where(frame["image_prompt"] != "", "I2I", "T2I")
    frame["position"] = frame.groupby("benchmark").cumcount()
    return frame


def _check_cells(
    frame: pd.DataFrame,
    problems: ProblemList,
    rows: JoinedRows,
) -> None:
    for row, columns in frame.loc[frame["formulas"] != "", "formulas"].items():
        problems.add(
            int(str(row)),
            f"{columns} is a formula without a stored value: save the workbook in a spreadsheet program",
        )
    no_name = frame["name"] == ""
    problems.add_each(frame.index[no_name], "the name of the image is empty")
    if rows.has_groups:
        problems.add_each(frame.index[frame["group"] == ""], "the group is empty")
    named = frame.loc[~no_name, "name"]
    repeated = named[named.duplicated(keep=False)]
    for name, own in repeated.groupby(repeated):
        lines = first_few([frame.loc[row, "line"] for row in own.index], LINES_SHOWN)
        problems.add_each(
            own.index, f"the name {shortened(name, 60)!r} is in lines {lines}; names must be unique"
        )


def _located_files(
    names: pd.Series,
    folders: pd.Series,
    problems: ProblemList,
) -> pd.Series:
    """Return the place of each row's image; "" if the row names no image, or none that exists.

    Places are plain objects, as pandas' own type of texts takes no bytes of names that are not UTF-8.

    Args:
        names: What the cells name (N,), "" for nothing.
        folders: Folder that each name is relative to (N,).
        problems: Problems of the table, which are added to.
    """
    locators = {folder: Locator(folder) for folder in folders.unique()}
    places = []
    for row, (name, folder) in enumerate(zip(names, folders, strict=True)):
        place = ""
        if name:
            locator = locators[folder]
            place = locator.place(name) or ""
            if not place:
                problems.add(row, locator.problem(name))
        places.append(place)
    return pd.Series(places, names.index, dtype=object)


def _scores(
    cells: pd.Series,
    target: str,
    problems: ProblemList,
) -> pd.Series:
    """Return the scores of one target, NaN for an empty cell; other cells without a number are problems."""
    scores = numbers(cells)
    is_invalid = ~np.isfinite(scores) & ~empty_cells(cells)
    for row, value in cells[is_invalid].items():
        problems.add(int(str(row)), f"{target} is {shown_cell(value)}, not a finite number")
    size = scores.abs()
    is_extreme = np.isfinite(scores) & (size != 0) & ((size < SMALLEST_SCORE) | (size > LARGEST_SCORE))
    for row, value in cells[is_extreme].items():
        problems.add(int(str(row)), f"{target} is {value!r}, whose square is no number: use another unit")
    return scores


def _require_any_score(rows: JoinedRows, problems: ProblemList) -> None:
    """Report the rows whose score cells are all empty; other rows may lack some of the targets."""
    names = list(rows.targets)
    all_empty = rows.frame[names].apply(empty_cells).all(axis=1)
    verb = "is" if len(names) == 1 else "are"
    problems.add_each(rows.frame.index[all_empty], f"{', '.join(names)} {verb} empty")


def _add_keys(
    frame: pd.DataFrame,
    problems: ProblemList,
    hasher: ImageHasher,
    known: KnownKeys | None,
    progress: Progress | None,
    decode: bool,
) -> list[ExaminedImage]:
    """Add the key columns, and return the images; a defective one is a problem of every row that uses it."""
    places = {*frame["image"], *frame["image_prompt"]} - {""}
    examined = examine_images(sorted(places), hasher, known, progress, decode)
    for column, label in IMAGE_LABELS.items():
        keys = []
        for row, place in enumerate(frame[column]):
            image = examined.get(place)
            keys.append(image.key if image else "")
            if image and image.defect:
                problems.add(row, f"{label} {place}: {image.defect}")
        frame[f"{column}_key"] = keys
    frame["prompt_key"] = frame["prompt"].map(lambda text: text_key(text).hex())
    return list(examined.values())
