"""Objects at URLs (`s3://`, `gs://`, `hf://`, `https://`, …), read by fsspec from any thread and process."""

import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import xxhash

from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.file_state import FileState

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Result = TypeVar("Result")

TRIES = 3
FIRST_WAIT_S = 0.5
"""Before the second try; each later wait is twice as long."""

BUFFER_BYTES = 2**22
"""What one request of an open object reads at least: requests take longer than a few megabytes."""

HTTP_NOT_FOUND = 404

STATE_KEPT_S = 60.0
"""How long the state of an object that holds many images is kept, because each request for it takes time."""

# Extras of tier4k by the protocols whose libraries they install.
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "http": "http", "https": "http"}

# What file systems call the version of an object; the first that is known counts.
_VERSIONS = (
    *("ETag", "etag", "e_tag", "Content-MD5", "Digest", "md5Hash", "generation", "blob_id"),
    *("Last-Modified", "LastModified", "last_modified", "updated", "mtime", "created"),
)


def read_url(url: str) -> bytes:
    """Read an object.

    Raises:
        ImageError: It cannot be read, also after `TRIES` tries, or a library is missing.
    """
    return _tried(url, lambda system, path: system.cat_file(path))


def read_url_slice(
    url: str,
    offset: int,
    size: int,
) -> bytes:
    """Read a part of an object by one range request.

    Raises:
        ImageError: It cannot be read, also after `TRIES` tries, or is shorter, or a library is missing.
    """
    if not size:
        return b""
    data = _tried(url, lambda system, path: system.cat_file(path, start=offset, end=offset + size))
    if len(data) > size:
        raise ImageError("its server sends no parts of files (HTTP ranges): download it")
    if len(data) < size:
        raise ImageError(f"the object ends {size - len(data):,} bytes before the end of the image")
    return data


def url_state(url: str) -> FileState:
    """Ask for the state of an object.

    Raises:
        ImageError: There is no such object, or it cannot be asked for.
    """
    about = _about(url)
    version = next((about[field] for field in _VERSIONS if about.get(field) is not None), None)
    return FileState(
        device=0,
        inode=0 if version is None else xxhash.xxh3_64_intdigest(str(version).encode()) >> 1,  # in 63 bits
        size=int(about.get("size") or 0),
        modified_ns=time.time_ns() if version is None else 0,
        changed_ns=0,
    )


def _about(url: str) -> dict[str, Any]:
    """Return what the file system says about an object."""
    return _tried(url, lambda system, path: system.info(path))


def container_state(url: str) -> FileState:
    """Return the state of an object that holds many images, not older than `STATE_KEPT_S`.

    Raises:
        ImageError: There is no such object, or it cannot be asked for.
    """
    return _states.of(url)


class _States:
    """States of objects that were asked for last. Threads may use it."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Forget all; a child process needs this, as a thread of its parent may have held the lock."""
        self._lock = Lock()
        self._known: dict[str, tuple[float, FileState]] = {}

    def of(self, url: str) -> FileState:
        """Return the state of an object."""
        with self._lock:
            asked_s, state = self._known.get(url, (-STATE_KEPT_S, None))
        if state is not None and time.monotonic() - asked_s < STATE_KEPT_S:
            return state
        now_s = time.monotonic()
        state = url_state(url)
        with self._lock:
            old = [other for other, (time_s, _) in self._known.items() if now_s - time_s >= STATE_KEPT_S]
            for other in old:
                del self._known[other]
            self._known[url] = (now_s, state)
        return state


def open_url(url: str) -> BinaryIO:
    """Open an object for reading and seeking; each of its requests is tried `TRIES` times.

    Raises:
        ImageError: There is no such object, it cannot be asked for, or its server does not report its size.
    """
    size = _about(url).get("size")
    if size is None:
        raise ImageError("its server does not report the size of the file: download it")
    return io.BufferedReader(_Object(url, int(size)), BUFFER_BYTES)


class _Object(io.RawIOBase):
    """An object that is read in parts."""

    def __init__(self, url: str, size: int) -> None:
        self._url = url
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(start + offset, 0)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        size = max(min(len(buffer), self._size - self._position), 0)
        buffer[:size] = read_url_slice(self._url, self._position, size)
        self._position += size
        return size


def list_url(url: str) -> list[str]:
    """Return the URLs of the objects directly below a URL, in the order of their names.

    Raises:
        ImageError: It cannot be listed, or a library is missing.
    """

    def listed(system: "AbstractFileSystem", path: str) -> list[str]:
        entries = system.ls(path, detail=True)
        files = [entry["name"] for entry in entries if entry["type"] == "file" and entry["name"] != path]
        return sorted(system.unstrip_protocol(name) for name in files)

    return _tried(url, listed)


def _tried(url: str, act: "Callable[[AbstractFileSystem, str], Result]") -> Result:
    """Return what an act on the file system and the path of a URL returns; it is tried up to `TRIES` times.

    Raises:
        ImageError: The object does not exist or cannot be read, or a library is missing.
    """
    for number in range(1, TRIES + 1):
        try:
            with _failures_named():
                return act(*_file_system(url))
        except FileNotFoundError as error:
            raise ImageError("there is no such object") from error
        except (PermissionError, IsADirectoryError, NotImplementedError) as error:
            raise _unreadable(error) from error
        except ImageError:
            raise
        except Exception as error:  # every library of a file system has errors of its own
            if number == TRIES:
                raise _unreadable(error) from error
            time.sleep(FIRST_WAIT_S * 2 ** (number - 1))
    raise AssertionError("no try is the last one")


@contextmanager
def _failures_named() -> Iterator[None]:
    """Raise what has failed where fsspec's HTTP says that there is no object, as it does of every failure."""
    try:
        yield
    except FileNotFoundError as error:
        cause = error.__cause__
        is_http = type(cause).__module__.startswith("aiohttp")
        if cause is None or not is_http or getattr(cause, "status", None) == HTTP_NOT_FOUND:
            raise
        raise cause from None


def _file_system(url: str) -> "tuple[AbstractFileSystem, str]":
    """Return the file system of a URL and the path there; fsspec keeps it for this process and thread.

    Listings are not kept (but by hf://, whose file system keeps its own), so that no state is older than the
    question.
    """
    import fsspec

    protocol = url.partition("://")[0]
    try:
        return fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        remedy = f"pip install 'tier4k[{extra}]'" if extra else f"install the library that it names ({error})"
        raise ImageError(f"{protocol}:// needs a library that is missing: {remedy}") from error
    except ValueError as error:
        raise ImageError(f"{protocol}:// is no kind of URL that fsspec knows ({error})") from error


def _unreadable(error: Exception) -> ImageError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ImageError(f"the object cannot be read ({reason})")


_states = _States()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_states.forget)
