"""The rows of several data sets as one table."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tier4k.cache.text import shown
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.source import DataSource, SourceTable, have_prompts


@dataclass(frozen=True)
class JoinedRows:
    """The unchecked rows of one or several tables.

    Attributes:
        sources: The tables.
        names: Name of each data set, distinct.
        frame: Their rows, as in `SourceTable.frame`, with the index 0 to N - 1 and a data set in every row.
        others: All other columns (N rows).
        targets: Names of the score columns of all tables.
    """

    sources: tuple[SourceTable, ...]
    names: tuple[str, ...]
    frame: pd.DataFrame
    others: pd.DataFrame
    targets: tuple[str, ...]

    @property
    def has_prompts(self) -> bool:
        """Whether all tables have text prompts."""
        return have_prompts(self.sources)

    @property
    def needs_prompts(self) -> bool:
        """Whether a row without a text prompt is a problem."""
        return any(source.needs_prompts for source in self.sources)

    @property
    def has_groups(self) -> bool:
        """Whether a column says which rows belong together."""
        return any(source.has_groups for source in self.sources)

    def folders(self, column: str) -> pd.Series:
        """Return the folder (N,) that each row's image or image prompt is relative to."""
        folders: list[Path] = []
        for source in self.sources:
            folder = source.image_folder if column == "image" else source.image_prompt_folder
            folders.extend([folder] * len(source.frame))
        return pd.Series(folders, self.frame.index, dtype=object)


def joined_rows(sources: Sequence[SourceTable]) -> JoinedRows:
    """Join the rows of tables.

    Raises:
        DataError: Two data sets have one name, or only some of the tables have a column of groups.
    """
    names = distinct_names(sources)
    frames, others = [], []
    for source, name in zip(sources, names, strict=True):
        frame = source.frame.assign(dataset=source.frame["dataset"].replace("", name))
        if len(sources) > 1:
            is_named = frame["name"] != ""
            frame["name"] = frame["name"].where(~is_named, f"{name}/" + frame["name"])
            frame["file"] = frame["file"].where(frame["file"] != "", shown(source.path))
        frames.append(frame)
        others.append(source.others)
    has_groups = [source.has_groups for source in sources]
    if any(has_groups) and not all(has_groups):
        without = sources[has_groups.index(False)].path
        raise DataError(
            f"{without} has no column of groups, but another data set has one: add the column, or leave out "
            "the groups of all with --columns group="
        )
    targets: dict[str, None] = {}
    for source in sources:
        targets |= dict.fromkeys(source.targets)
    return JoinedRows(
        tuple(sources),
        names,
        _concatenated(frames),
        _concatenated(others),
        tuple(targets),
    )


def _concatenated(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)


def _whole_path(path: Path | str) -> str:
    return path if isinstance(path, str) else str(path.resolve())


def distinct_names(sources: Sequence[DataSource]) -> tuple[str, ...]:
    """Return the names of data sets; sets of one name have the names of their folders before it.

    Raises:
        DataError: Two data sets have one name, or are one.
    """
    counts = Counter(source.name for source in sources)
    names = []
    for source in sources:
        name = source.name
        if counts[name] > 1:
            name = f"{shown(source.folder.resolve().name)}-{name}"
        names.append(name)
    for path, count in Counter(_whole_path(source.path) for source in sources).items():
        if count > 1:
            raise DataError(f"{shown(path)} is passed {count} times as a data set: pass it once")
    for name, count in Counter(names).items():
        if count > 1:
            paths = ", ".join(str(source.path) for source in sources)
            raise DataError(f"several data sets are called {name!r} ({paths}): rename a folder or a table")
    return tuple(names)
