"""Atomic files and folders: each exists completely or not at all.

An unfinished file lies in a temporary folder beside its final path, and the writer locks that folder. The
system releases the lock when the writing process ends, for whatever reason. So the next writer can tell the
temporary folders of ended processes from folders in use, and removes the former.
"""

import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tier4k.cache.errors import TierError

TEMPORARY_PREFIX = ".tier4k-tmp-"  # of folders that `remove_dead` may remove

# Errors by which a file system says that it cannot do this at all; EIO or ENOSPC say that something was lost.
UNSUPPORTED = frozenset(
    (
        errno.EINVAL,
        errno.ENOTSUP,
        errno.EOPNOTSUPP,
        errno.ENOSYS,
        errno.ENOTTY,
        errno.EBADF,
        errno.EISDIR,
        errno.EPERM,
        errno.EACCES,
    )
)


def publish(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file or a folder under a temporary name, fsync it, then rename it to `path` in one step.

    An existing file at `path` is replaced; an existing folder is replaced only if it is empty. The parent
    folder is made if it does not exist.

    Args:
        path: The final path.
        write: Called with the temporary path; must leave a closed file there, or a folder of closed files.

    Raises:
        OSError: The system refuses (disk full, no permission, a folder with content); no file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_dead(path.parent)
    publish_beside(path, write)


def publish_beside(path: Path, write: Callable[[Path], object]) -> None:
    """Publish as `publish` does, into a folder that must exist and may have very many files.

    What ended processes left there stays: to look for it is to list the folder, which takes longer than to
    write a file. Whoever publishes many files calls `remove_dead` once before.

    Raises:
        OSError: The system refuses, or the folder does not exist; no file is left.
    """
    with _temporary_folder(path.parent) as folder:
        temporary = folder / path.name
        write(temporary)
        file_mode, folder_mode = _modes_of_new(folder)
        for written_path in (temporary, *temporary.rglob("*")):
            if not written_path.is_symlink():
                _set_mode(written_path, folder_mode if written_path.is_dir() else file_mode)
            fsync(written_path)
        os.replace(temporary, path)
    fsync(path.parent)


def publish_text(path: Path, text: str) -> None:
    """Publish a file with `text` in UTF-8; what UTF-8 cannot hold is written escaped."""
    publish(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="backslashreplace"))


def fsync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk.

    Many shares (CIFS, FUSE, some NFS) refuse this for a folder. Its files are on the disk nevertheless, so a
    folder's refusal is accepted, and only the error of a file is raised.

    Raises:
        OSError: The content of a file is not on the disk, or the disk is full or broken.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not path.is_dir() or error.errno not in UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)


def require_suffix(
    path: Path,
    suffixes: Sequence[str],
    error: type[TierError],
) -> None:
    """Refuse a file of an unknown format, before any work is done.

    Args:
        path: The file to write or read.
        suffixes: The known suffixes, such as ".csv".
        error: Class of the raised error.

    Raises:
        TierError: The name does not end in one of `suffixes`; the class is `error`.
    """
    if path.suffix in suffixes:
        return
    known = " or ".join(suffixes)
    raise error(f"the suffix {path.suffix!r} of {path} is not supported: pass a file that ends in {known}")


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait for the processes that are alone in a folder, and be the next one.

    A file system without locks keeps nobody waiting.
    """
    with _lock(folder, fcntl.LOCK_EX):
        yield


def remove_dead(folder: Path) -> None:
    """Remove the temporary folders of ended processes from `folder`, if it exists; folders in use stay."""
    with suppress(OSError):  # one may write to a folder that one may not list
        for leftover in filter(_is_temporary, os.listdir(folder)):
            _remove_if_dead(folder / leftover)


def _is_temporary(name: str) -> bool:
    return name.startswith(TEMPORARY_PREFIX)


def _remove_if_dead(leftover: Path) -> None:
    with _lock(leftover, fcntl.LOCK_EX | fcntl.LOCK_NB) as is_locked:
        if is_locked:
            shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    """Make and lock a temporary folder in `parent`, and remove the folder afterwards."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=parent))
        with _lock(folder, fcntl.LOCK_EX):
            if not folder.exists():
                continue  # another writer removed the folder before it was locked
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


@contextmanager
def _lock(folder: Path, operation: int) -> Iterator[bool]:
    """Lock a folder and yield whether that succeeded.

    It never succeeds on a file system without locks, so nothing is removed there.
    """
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, operation)
        is_locked = True
    except OSError:
        is_locked = False
    try:
        yield is_locked
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _modes_of_new(folder: Path) -> tuple[int, int]:
    """Return the permissions of a new file and a new folder, without a change of the umask."""
    file, inner = folder / ".new", folder / ".new-folder"
    file.touch()
    inner.mkdir()
    return stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(inner.stat().st_mode)


def _set_mode(path: Path, mode: int) -> None:
    """Set the permissions of a file or folder where they differ.

    safetensors makes files that only their owner reads, and a copied folder has the permissions of its
    source. A share without permissions refuses to set any, and there all files have the same.
    """
    if stat.S_IMODE(path.stat().st_mode) != mode:
        path.chmod(mode)
