"""A run or an exported model reads only its own files, as it may be a download from anywhere.

Data sets are another matter: their links are followed.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from tier4k.heads.results.run_format import ResultError

# In the hub's cache: folders of links, and the folder of the files that they lead to.
SNAPSHOTS, BLOBS = "snapshots", "blobs"


def require_own_files(
    folder: Path,
    files: tuple[str, ...],
    folders: tuple[str, ...],
) -> None:
    """Refuse links that lead out of the folder of a run or of an exported model.

    A model in the cache of the Hugging Face hub consists of links to the blobs of the same cache.

    Args:
        folder: The run or model.
        files: Names of the files in it that are read.
        folders: Names of the folders in it of which all files may be read.

    Raises:
        ResultError: A link leads elsewhere.
    """
    allowed = [folder.resolve(), *_blobs(folder.resolve())]
    for path in _links(folder, files, folders):
        target = _target(path)
        if target is None or not any(target.is_relative_to(place) for place in allowed):
            raise ResultError(
                f"{path} is a link that leads out of {folder}: a run or model reads only its own files, so "
                "put the file itself there"
            )


def _links(
    folder: Path,
    files: tuple[str, ...],
    folders: tuple[str, ...],
) -> Iterator[Path]:
    for name in (*files, *folders):
        if (folder / name).is_symlink():
            yield folder / name
    for name in folders:
        for place, inner_folders, inner_files in os.walk(folder / name):
            for inner in (*inner_folders, *inner_files):
                path = Path(place) / inner
                if path.is_symlink():
                    yield path


def _target(link: Path) -> Path | None:
    try:
        return link.resolve()
    except (OSError, RuntimeError):  # a loop of links
        return None


def _blobs(folder: Path) -> Iterator[Path]:
    """Yield the folder of the hub's cache with the files of a snapshot, if the folder is in a snapshot."""
    for parent in folder.parents:
        if parent.name == SNAPSHOTS:
            yield parent.parent / BLOBS
