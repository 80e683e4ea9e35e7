"""What readers see of a project: rows of stores, files of runs, written files; and what must hold of it."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from tier4k.cache.atomic import TEMPORARY_PREFIX
from tier4k.cache.errors import StoreError
from tier4k.cache.listing import broken_stores, stores
from tier4k.cache.store import FeatureStore
from tier4k.cache.verify import verify

Visible = dict[str, bytes]
"""What readers see, by name: the features of a row by its store and key, the bytes of a file by its path."""

# Files that say when or where something was done.
OWN_FILES = ("features/extract.json", "features/hashes/")


class CrashError(AssertionError):
    """Something that must hold after a crash does not."""


def visible(folder: Path, results: tuple[str, ...]) -> Visible:
    """Return what readers see of the results of commands: stores are opened, other files are read whole."""
    found: Visible = {}
    for name in results:
        path = folder / name
        if path.is_file():
            found[name] = _content(path)
        elif path.is_dir():
            found |= _rows(folder, path)
            found |= {one: _content(folder / one) for one in _files_of_runs(folder, path)}
    return found


def rows_of(seen: Visible) -> int:
    """Return how many rows of stores are in what readers see."""
    return sum("#" in name for name in seen)


def _rows(folder: Path, root: Path) -> Visible:
    if broken := broken_stores(root):
        raise CrashError(f"stores that cannot be opened: {broken}")
    found: Visible = {}
    for store in stores(root):
        keys = store.keys
        if len(keys):
            name = store.path.relative_to(folder)
            for key, features in zip(keys, _features(store, keys), strict=False):
                found[f"{name}#{bytes(key).hex()}"] = features.tobytes()
    return found


def _features(store: FeatureStore, keys: np.ndarray) -> Iterable[np.ndarray]:
    """Return the rows of a store; none if `store gc` removes the store meanwhile, as one scenario lets it."""
    try:
        return store.read(keys)
    except StoreError:
        if store.path.exists():
            raise
        return ()


def _files_of_runs(folder: Path, root: Path) -> list[str]:
    files = []
    for run in root.glob("[!.]*/config.json"):
        files += [str(path.relative_to(folder)) for path in run.parent.rglob("*") if path.is_file()]
    return files


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if path.name == "config.json":
        about = json.loads(content)
        about.pop("environment", None)  # of a run; encoders have a config.json too
        return json.dumps(about).encode()
    if path.suffix == ".html":
        return re.sub(rb" on \d{4}-\d\d-\d\d\.</p>", b"", content)
    return content


def all_files(folder: Path, results: tuple[str, ...]) -> Visible:
    """Return the bytes of all files of the results, but those that say when something was done."""
    found: Visible = {}
    for name in results:
        path = folder / name
        paths = [path] if path.is_file() else path.rglob("*")
        for file in paths:
            relative = str(file.relative_to(folder))
            if file.is_file() and not relative.startswith(OWN_FILES):
                found[relative] = _content(file)
    return found


def require_kept(
    before: Visible,
    after: Visible,
    initial: Visible,
    whole: Visible,
) -> None:
    """Require that everything which was visible is visible, and that it is what an undisturbed run gives.

    Args:
        before: What was visible just before a kill.
        after: What is visible after the kill.
        initial: What was visible before the first command.
        whole: What is visible after undisturbed commands.
    """
    for name in before:
        if name in whole and name not in after:
            raise CrashError(f"{name} was there before the kill, and is lost")
    for name, content in after.items():
        if content not in (whole.get(name), initial.get(name)):
            raise CrashError(f"{name} is neither what it was nor what an undisturbed command gives")


def require_same(found: Visible, whole: Visible) -> None:
    """Require equal files."""
    if missing := sorted(whole.keys() - found.keys()):
        raise CrashError(f"missing after the last command: {missing[:5]}")
    if more := sorted(found.keys() - whole.keys()):
        raise CrashError(f"left over after the last command: {more[:5]}")
    for name, content in found.items():
        if content != whole[name]:
            raise CrashError(f"{name} differs from the file of an undisturbed command")


def stamps(folder: Path, results: tuple[str, ...]) -> Mapping[str, tuple[int, int]]:
    """Return the inode and time of each shard and of each run's configuration."""
    found = {}
    for name in results:
        for path in [*folder.glob(f"{name}/*/*.h5"), *folder.glob(f"{name}/[!.]*/config.json")]:
            state = os.stat(path)
            found[str(path.relative_to(folder))] = state.st_ino, state.st_mtime_ns
    return found


def require_not_repeated(
    before: Mapping[str, tuple[int, int]],
    after: Mapping[str, tuple[int, int]],
) -> None:
    """Require that published shards and runs were not written again."""
    for name, stamp in before.items():
        if after.get(name) != stamp:
            raise CrashError(f"{name} was published before, and was written again")


def require_no_doubles(folder: Path, results: tuple[str, ...]) -> None:
    """Require that no row was encoded twice."""
    for name in results:
        for store in stores(folder / name):
            checked = verify(store)
            if checked.damaged:
                raise CrashError(f"damaged shards: {checked.damaged}")
            if checked.rows != len(store.keys):
                raise CrashError(
                    f"{checked.rows - len(store.keys)} rows of {store.path.name} were encoded twice"
                )


def leftovers(folder: Path) -> list[str]:
    """Return the temporary folders of ended processes."""
    return [str(path.relative_to(folder)) for path in folder.rglob(f"{TEMPORARY_PREFIX}*")]
