"""The pictures of a report: found again in the data set by their names, and shrunk to thumbnails."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tier4k.cache.errors import TierError
from tier4k.extract.datasets.check import load_manifest
from tier4k.extract.datasets.layouts import DataError
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.images.decode import ImageError, decode, read_bytes
from tier4k.heads.reporting.html.runs import ReportError, ReportRun

SIDE = 128

QUALITY = 70

DEFAULT_PICTURES = 400

Key = tuple[str, str]  # name of the data set, name of the picture


@dataclass(frozen=True)
class Album:
    """Where the test pictures lie.

    Attributes:
        paths: Path of each picture that was found.
        notes: What a reader must know: data sets without pictures, and why.
    """

    paths: Mapping[Key, Path]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Thumbnails:
    """Small JPEG pictures.

    Attributes:
        jpeg: Each picture in base64.
        wanted: Number of distinct test pictures of all runs.
        notes: What a reader must know.
    """

    jpeg: Mapping[Key, str]
    wanted: int
    notes: tuple[str, ...]


class _Everything(frozenset[str]):
    """Holds every key: the runs have used these pictures, so that none need be decoded to be checked again."""

    def __contains__(self, key: object) -> bool:
        return True


def find_pictures(runs: Sequence[ReportRun], data: Sequence[Path]) -> Album:
    """Look the test pictures up in the given data sets, or in those that the runs recorded.

    Args:
        runs: The runs.
        data: Data folders or tables; empty to use what the runs' `environment` names as "data".

    Raises:
        DataError: A given data set cannot be used.
        ReportError: A given data set is that of no run.
    """
    recorded = {str(run.config["environment"].get("data", "")) for run in runs} - {""}
    manifests = (
        [_manifest(path) for path in data]
        if data
        else [found for path in sorted(recorded) if (found := _if_there(path))]
    )
    paths: dict[Key, Path] = {}
    notes: dict[str, None] = {}
    used = set()
    for run in runs:
        same = [
            (number, changed)
            for number, one in enumerate(manifests)
            if (changed := _changed(run, one)) is not None
        ]
        if not same:
            notes[_why_none(run, data)] = None
            continue
        number, changed = min(same, key=lambda pair: pair[1])
        used.add(number)
        if changed:
            notes[
                f"{run.name.data} has changed since run {run.letter} was fitted; its pictures are found by their names alone."
            ] = None
        known = manifests[number].table.set_index("name")["image"]
        names = run.predictions["name"].unique()
        paths |= {(run.name.data, name): Path(known[name]) for name in names if name in known.index}
    for number, path in enumerate(data):
        if number not in used:
            raise ReportError(
                f"{path} is the data set of none of the runs ({', '.join(sorted({r.name.data for r in runs}))}): give theirs"
            )
    return Album(paths, tuple(notes))


def make_thumbnails(album: Album, runs: Sequence[ReportRun], first: Iterable[Key], limit: int) -> Thumbnails:
    """Thumbnails of all test pictures, or of `limit` of them: those in `first`, then those tested in the first repeats, at random.

    Args:
        album: Where the pictures lie.
        runs: The runs.
        first: Pictures that are shown in any case, the most important first.
        limit: How many.
    """
    wanted = list(
        dict.fromkeys((run.name.data, name) for run in runs for name in run.predictions["name"].unique())
    )
    known = [key for key in wanted if key in album.paths]
    chosen = list(dict.fromkeys(key for key in first if key in album.paths))
    first_tested = _first_tested(runs)
    rest = [known[number] for number in np.random.default_rng(0).permutation(len(known))]
    # The page opens with the first repeat of the first run, whose points had better have their pictures.
    chosen = list(dict.fromkeys([*chosen, *sorted(rest, key=lambda key: first_tested[key])]))[:limit]
    jpeg, broken = {}, []
    for key in chosen:
        try:
            jpeg[key] = _thumbnail(album.paths[key])
        except ImageError as error:
            broken.append(f"{key[1]} {error}")
    notes = list(album.notes)
    if limit and len(known) > len(chosen):
        notes.append(
            f"{len(chosen):,} of {len(known):,} test pictures are in this page: those with the largest errors, then those tested in the "
            "first repeats. The option `--pictures N` takes more."
        )
    if not limit:
        notes.append("The report was written without pictures (`--pictures 0`).")
    if broken:
        notes.append(f"{len(broken)} pictures cannot be shown; the first: {broken[0]}")
    return Thumbnails(jpeg, len(wanted), tuple(notes))


def _first_tested(runs: Sequence[ReportRun]) -> dict[Key, tuple[int, int]]:
    """The first repeat, and in it the first run, that tests each picture."""
    out: dict[Key, tuple[int, int]] = {}
    for number, run in enumerate(runs):
        for name, repeat in run.predictions.groupby("name")["repeat"].min().items():
            key = run.name.data, str(name)
            out[key] = min((int(repeat), number), out.get(key, (int(repeat), number)))
    return out


def _manifest(path: Path) -> Manifest:
    return load_manifest(path, on_error="skip", known=_Everything()).manifest


def _if_there(path: str) -> Manifest | None:
    """A recorded data set, None where it has gone: the report does without, as nobody asked for it."""
    try:
        return _manifest(Path(path))
    except TierError:
        return None


def _changed(run: ReportRun, manifest: Manifest) -> bool | None:
    """None where the manifest is not the run's data set, else whether it has changed since."""
    try:
        if manifest.select(run.config["benchmark"]).digest == run.config["data_digest"]:
            return False
    except DataError:
        return None
    same_names = (
        manifest.name == run.config["data"] and run.predictions["name"].isin(manifest.table["name"]).all()
    )
    return True if same_names else None


def _why_none(run: ReportRun, data: Sequence[Path]) -> str:
    why = (
        "none of the folders given by --data is it"
        if data
        else "the runs do not say where it lies, or it is there no more"
    )
    return f"There are no pictures of {run.name.data}: {why}. `tier report … --data FOLDER` brings them."


def _thumbnail(path: Path) -> str:
    picture = decode(read_bytes(path))
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
