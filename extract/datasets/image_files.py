"""Content keys and defects of image files. Each file is read once, then hashed and decoded."""

import os
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from tier4k.cache.keys import bytes_key
from tier4k.extract.datasets.progress import Progress
from tier4k.extract.images.decode import ImageError, inspect, read_bytes

# Resolution of the time stamps on some file systems. A file that changed more recently may change again and
# keep its time stamp.
STAMP_RESOLUTION_NS = 2_000_000_000


@dataclass(frozen=True)
class ExaminedImage:
    """The content of an image file.

    Attributes:
        key: Content key, hexadecimal; "" if the file cannot be read.
        defect: The reason why the image cannot be used; "" for a sound image.
    """

    key: str
    defect: str


@dataclass(frozen=True)
class _FileState:
    """Properties of a file of which at least one changes when the file is edited or replaced."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @property
    def is_settled(self) -> bool:
        latest = max(self.modified_ns, self.changed_ns)
        return time.time_ns() - latest > STAMP_RESOLUTION_NS


# {path: (state, key)} of the files that this process has hashed.
_hashed: dict[str, tuple[_FileState, str]] = {}


def examine_images(
    paths: Sequence[str],
    known: Collection[str] = (),
    progress: Progress | None = None,
) -> dict[str, ExaminedImage]:
    """Hash image files, and decode those whose content is not known yet.

    Args:
        paths: Distinct paths of files.
        known: Keys (hexadecimal) of sound images, which are not decoded.
        progress: Called with (files done, files in all).

    Returns:
        {path: its key and defect}, in the order of the paths.
    """
    examination = _Examination(known)
    keys = {}
    # Processes would be 1.5 times as fast as threads, but workers of a killed process would wait for ever.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(examination.key_of, paths)
        for path, key in zip(paths, results, strict=True):
            keys[path] = key
            if progress:
                progress(len(keys), len(paths))
    return {path: examination.result(path, key) for path, key in keys.items()}


class _Examination:
    """One pass over image files, used by several threads; equal contents are decoded once."""

    def __init__(self, known: Collection[str]) -> None:
        self._known = known
        self._lock = Lock()
        self._decoded: set[str] = set()
        self._defect_of_key: dict[str, str] = {}
        self._unreadable: dict[str, str] = {}

    def key_of(self, path: str) -> str:
        """Return the key of a file; "" if the file cannot be read."""
        try:
            state = _state(path)
            remembered = _remembered_key(path, state)
            if remembered is not None and remembered in self._known:
                return remembered
            data = read_bytes(Path(path))
        except ImageError as error:
            self._unreadable[path] = str(error)
            return ""
        key = bytes_key(data).hex()
        _remember(path, state, key)
        if key not in self._known and self._is_first(key):
            self._inspect(key, data)
        return key

    def result(self, path: str, key: str) -> ExaminedImage:
        """Return key and defect of a file, after all files were read."""
        if not key:
            return ExaminedImage("", self._unreadable[path])
        return ExaminedImage(key, self._defect_of_key.get(key, ""))

    def _is_first(self, key: str) -> bool:
        with self._lock:
            if key in self._decoded:
                return False
            self._decoded.add(key)
            return True

    def _inspect(self, key: str, data: bytes) -> None:
        try:
            inspect(data)
        except ImageError as error:
            self._defect_of_key[key] = str(error)


def _state(path: str) -> _FileState:
    try:
        status = os.stat(path)
    except OSError as error:
        raise ImageError(f"the file cannot be read ({error.strerror})") from error
    return _FileState(
        device=status.st_dev,
        inode=status.st_ino,
        size=status.st_size,
        modified_ns=status.st_mtime_ns,
        changed_ns=status.st_ctime_ns,
    )


def _remembered_key(path: str, state: _FileState) -> str | None:
    hashed = _hashed.get(path)
    if hashed is None:
        return None
    hashed_state, key = hashed
    return key if hashed_state == state else None


def _remember(
    path: str,
    state: _FileState,
    key: str,
) -> None:
    """Remember the key of a file that had this state before it was read, unless it may have changed since."""
    if state.is_settled:
        _hashed[path] = (state, key)
