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
from tier4k.extract.weights.files import (
    FOLDER_FILES,
    PICKLED,
    SAFETENSORS,
    Weights,
    WeightsError,
    file_weights,
)
from tier4k.extract.weights.hub import blob_digest
from tier4k.extract.weights.known import FoundWeights, KnownWeights
from tier4k.extract.weights.wheel import Report

TIMEOUT_SECONDS = 20

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class DownloadSource:
    """A place from which weights can be downloaded.

    Attributes:
        name: Name for messages.
        target: Name of the file or folder that is written.
        write: Function that writes the weights to a path, after it reports each step.
        note: What was done to these weights; "" for nothing.
    """

    name: str
    target: str
    write: Callable[[Path, Report], None]
    note: str = ""


def find_present(known: KnownWeights, folder: Path) -> Weights | None:
    """Return the weights in a folder, or else in the installed package; None if both lack them.

    Args:
        known: The weights.
        folder: Folder in which the file, or the folder of a text encoder, lies.

    Raises:
        WeightsError: The weights are damaged.
    """
    names = (known.folder,) if known.folder else known.file_names
    for name in names:
        path = folder / name
        if path.exists():
            return _require_published(known, FoundWeights(path, str(path)).weights())
    packaged = known.in_package()
    return packaged.weights() if packaged else None


def _require_published(known: KnownWeights, weights: Weights) -> Weights:
    """Return the weights; refuse a converted file whose hash is not the pinned one."""
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
    for source in download_sources(known):
        path = folder / source.target
        try:
            _publish(source, path, report)
        except WeightsError as error:
            reasons.append(f"  {source.name}: {error}")
            report(f"{source.name} does not give the weights")
            continue
        return FoundWeights(path, source.name).weights()
    lines = [f"the weights {known.name} cannot be downloaded:", *reasons]
    if known.page:
        lines.append(f"Download them by hand from: {known.page}")
    raise WeightsError("\n".join(lines))


def _publish(
    source: DownloadSource,
    path: Path,
    report: Report,
) -> None:
    with explain_write_errors(path), _removed_if_empty(path.parent):
        publish(path, lambda temporary: source.write(temporary, report))


@contextmanager
def _removed_if_empty(folder: Path) -> Iterator[None]:
    """After an error, remove the folder if it is empty and did not exist before."""
    existed = folder.exists()
    try:
        yield
    except BaseException:
        if not existed and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise


def download_sources(known: KnownWeights) -> Iterator[DownloadSource]:
    """Yield the sources of weights in the order in which `download` tries them."""
    if known.hub:
        yield DownloadSource(f"hub {known.hub}", _hub_target(known), partial(_copy_from_hub, known))
    if wheel := known.wheel:
        yield DownloadSource(f"package {wheel.requirement}", wheel.file, wheel.write, wheel.note)
    if known.url:
        yield DownloadSource(known.url, known.url.rpartition("/")[2], partial(_download_file, known.url))


def _hub_target(known: KnownWeights) -> str:
    """Return the name of a copy of the hub's weights: the folder, or the first pattern's file."""
    if known.folder:
        return known.folder
    pattern = next(name for name in known.files if name.endswith(".*"))
    return pattern.removesuffix(".*") + ".safetensors"


def _copy_from_hub(
    known: KnownWeights,
    path: Path,
    report: Report,
) -> None:
    """Copy the hub's files to `path`; those missing in the hub's cache are downloaded into it."""
    report(f"Asking the hub for {known.hub} …")
    found = known.on_hub()
    if found is None:
        raise WeightsError("the hub cannot be reached, or does not have the files")
    if found.path.is_file():
        _copy_checked(found.path, path)
        return
    for file in _folder_files(found.path):
        target = path / file.relative_to(found.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy_checked(file, target)


def _folder_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder of Hugging Face that are needed; pickled weights if there are no others."""
    weights = SAFETENSORS if any(folder.glob("[!.]*.safetensors")) else PICKLED
    for pattern in (*FOLDER_FILES, *weights):
        yield from sorted(folder.glob(pattern))


def _copy_checked(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    expected = blob_digest(source)
    if expected and file_key(target).hex() != expected:
        raise WeightsError(f"{source} is damaged, its SHA-256 is not {expected}: delete it")


def _download_file(
    url: str,
    path: Path,
    report: Report,
) -> None:
    """Download a file and compare its hash with the beginning of the hash in its name."""
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
