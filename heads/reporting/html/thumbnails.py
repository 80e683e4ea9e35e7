"""The images of a report: found in the data set by their names, and shrunk to thumbnails."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tier4k.cache.errors import TierError
from tier4k.extract.datasets.check import check_tables, raise_for_problems
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.read import read_source
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.datasets.table_choice import TableChoice
from tier4k.extract.images.decode import decode
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.places import read_bytes, reading_order
from tier4k.heads.reporting.errors import ReportError
from tier4k.heads.reporting.report_run import ReportRun

SIDE = 128

QUALITY = 70

DEFAULT_IMAGES = 400

ImageKey = tuple[str, str]  # name of the data set, name of the image


@dataclass(frozen=True)
class ImageRow:
    """What the table of a data set has about an image, besides the image.

    Attributes:
        prompt: The text prompt, "" without one.
        image_prompt: Place of the image prompt, "" without one.
        errors: {target: standard error of the score}, where it is known.
    """

    prompt: str
    image_prompt: str
    errors: Mapping[str, float]


@dataclass(frozen=True)
class FoundImages:
    """Places of the test images.

    Attributes:
        places: Place of each image that was found.
        rows: The rows of these images, unless their data set has changed since the runs were fitted.
        notes: Notes for the reader: which data sets have no images, and why.
    """

    places: Mapping[ImageKey, str]
    rows: Mapping[ImageKey, ImageRow]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Thumbnails:
    """Small JPEG images.

    Attributes:
        jpeg: The bytes of each JPEG file in base64.
        image_prompts: The same for the image prompts of the images with the largest errors.
        wanted: Number of distinct test images of all runs.
        notes: Notes for the reader: which images are left out, and why.
    """

    jpeg: Mapping[ImageKey, str]
    image_prompts: Mapping[ImageKey, str]
    wanted: int
    notes: tuple[str, ...]


def find_images(runs: Sequence[ReportRun], data: Sequence[Path]) -> FoundImages:
    """Look the test images up in the given data sets, or in the data sets that the runs recorded.

    Args:
        runs: The runs of the report.
        data: Data folders or tables; empty to use the recorded data sets.

    Raises:
        DataError: A given data set cannot be used.
        ReportError: A given data set belongs to no run.
    """
    manifests = [_given_manifest(path, runs) for path in data] if data else _recorded_manifests(runs)
    places: dict[ImageKey, str] = {}
    rows: dict[ImageKey, ImageRow] = {}
    notes: dict[str, None] = {}
    used = set()
    for run in runs:
        match = _best_match(run, manifests)
        if match is None:
            notes[_why_no_images(run, data)] = None
            continue
        number, has_changed = match
        used.add(number)
        own = _places(run, manifests[number])
        if not has_changed:
            rows |= _rows(run, manifests[number])
        if has_changed:
            note = f"{run.name.data} has changed since run {run.letter} was fitted"
            notes[f"{note}: the images of this run are found by their names alone."] = None
            if not data:
                inside = _inside(own, manifests[number])
                if outside := len(own) - len(inside):
                    notes[f"{outside:,} of them lie elsewhere: `tier report … --data FOLDER` adds them."] = (
                        None
                    )
                own = inside
        places |= own
    for number, path in enumerate(data):
        if number not in used:
            names = {run.name.data for run in runs}
            raise ReportError(
                f"{path} is the data set of none of the runs ({', '.join(sorted(names))}): "
                "pass the data set of a run with --data"
            )
    return FoundImages(places, rows, tuple(notes))


def make_thumbnails(
    images: FoundImages,
    runs: Sequence[ReportRun],
    first: Sequence[ImageKey],
    limit: int,
) -> Thumbnails:
    """Make thumbnails of at most `limit` test images.

    Args:
        images: Places of the images.
        runs: The runs of the report.
        first: The most important images, in order; images of the first repeats follow, at random.
        limit: Largest number of thumbnails.
    """
    wanted = test_images(runs)
    known = [key for key in wanted if key in images.places]
    chosen = _rank(known, runs, first)[:limit]
    jpeg: dict[ImageKey, str] = {}
    broken = []
    image_prompts = _places_of_image_prompts(images, set(first) & set(chosen))
    made = _thumbnails({images.places[key] for key in chosen} | set(image_prompts.values()))
    for key in chosen:
        thumbnail = made[images.places[key]]
        if isinstance(thumbnail, ImageError):
            broken.append(f"{key[1]} {thumbnail}")
        else:
            jpeg[key] = thumbnail
    notes = list(images.notes)
    if limit and len(known) > len(chosen):
        notes.append(
            f"{len(chosen):,} of {len(known):,} test images are in this page: images with the largest "
            "errors, then images of the first repeats. The option `--thumbnails N` includes more."
        )
    if not limit:
        notes.append("The report was written without images (`--thumbnails 0`).")
    if broken:
        notes.append(f"{len(broken)} images cannot be shown; the first: {broken[0]}")
    shown_prompts: dict[ImageKey, str] = {}
    for key, place in image_prompts.items():
        thumbnail = made[place]
        if not isinstance(thumbnail, ImageError):
            shown_prompts[key] = thumbnail
    return Thumbnails(jpeg, shown_prompts, len(wanted), tuple(notes))


def _places_of_image_prompts(images: FoundImages, keys: Iterable[ImageKey]) -> dict[ImageKey, str]:
    places: dict[ImageKey, str] = {}
    for key in keys:
        if key in images.rows and images.rows[key].image_prompt:
            places[key] = images.rows[key].image_prompt
    return places


def test_images(runs: Sequence[ReportRun]) -> list[ImageKey]:
    """Return every distinct test image, in the order of the runs."""
    keys: dict[ImageKey, None] = {}
    for run in runs:
        for name in run.predictions["name"].unique():
            keys[run.name.data, name] = None
    return list(keys)


def _recorded_manifests(runs: Sequence[ReportRun]) -> list[Manifest]:
    """Read the recorded data sets that can still be used; a report can do without them.

    Runs record absolute paths. A relative one, or one in its own folder, is a table that came with the run.
    """
    tables: dict[tuple[tuple[str, ...], TableChoice], None] = {}
    for run in runs:
        if run.settings.data_paths and not any(_came_with(path, run) for path in run.settings.data_paths):
            tables[run.settings.data_paths, TableChoice.of(run.settings.table)] = None
    manifests = []
    for paths, choice in tables:
        try:
            manifests.append(_manifest(list(map(Path, paths)), choice))
        except TierError:
            continue
    return manifests


def _came_with(data: str, run: ReportRun) -> bool:
    path = Path(data)
    folders = [folder.path.resolve() for folder in run.folders]
    return not path.is_absolute() or any(path.resolve().is_relative_to(folder) for folder in folders)


def _given_manifest(path: Path, runs: Sequence[ReportRun]) -> Manifest:
    """Read a data set as the runs read it; raise the error of the last way of reading if none works."""
    choices = dict.fromkeys(TableChoice.of(run.settings.table) for run in runs)
    *others, last = choices
    for choice in others:
        try:
            return _manifest([path], choice)
        except TierError:
            continue
    return _manifest([path], last)


def _manifest(paths: Sequence[Path], choice: TableChoice) -> Manifest:
    """Read the usable rows of data sets.

    The images are hashed but not decoded again: the runs were fitted on them, and a thumbnail that cannot be
    decoded is noted on the page.
    """
    sources = [read_source(path, choice) for path in paths]
    checked = check_tables(sources, decode=False)
    return raise_for_problems(checked, on_error="skip").manifest


def _best_match(run: ReportRun, manifests: Sequence[Manifest]) -> tuple[int, bool] | None:
    """Return the number of the run's manifest and whether it has changed; prefer an unchanged manifest."""
    changed = None
    for number, manifest in enumerate(manifests):
        if _is_unchanged(run, manifest):
            return number, False
        if changed is None and _has_all_names(run, manifest):
            changed = number
    return None if changed is None else (changed, True)


def _is_unchanged(run: ReportRun, manifest: Manifest) -> bool:
    try:
        return manifest.select(run.settings.benchmark).digest == run.settings.data_digest
    except DataError:  # no rows of this benchmark
        return False


def _has_all_names(run: ReportRun, manifest: Manifest) -> bool:
    try:
        manifest.select(run.settings.benchmark)
    except DataError:
        return False
    has_names = run.predictions["name"].isin(manifest.table["name"]).all()
    return bool(manifest.name == run.settings.data and has_names)


def _places(run: ReportRun, manifest: Manifest) -> dict[ImageKey, str]:
    known = manifest.table.set_index("name")["image"]
    places: dict[ImageKey, str] = {}
    for name in run.predictions["name"].unique():
        if name in known.index:
            places[run.name.data, name] = known[name]
    return places


def _rows(run: ReportRun, manifest: Manifest) -> dict[ImageKey, ImageRow]:
    tested = set(run.predictions["name"])
    errors = {target: manifest.score_errors(target) for target in manifest.targets}
    rows: dict[ImageKey, ImageRow] = {}
    columns = manifest.table[["name", "prompt", "image_prompt"]]
    for place, (name, prompt, image_prompt) in enumerate(columns.itertuples(index=False)):
        if name not in tested:
            continue
        known = {target: float(of_rows[place]) for target, of_rows in errors.items()}
        finite = {target: error for target, error in known.items() if np.isfinite(error)}
        rows[run.name.data, name] = ImageRow(prompt, image_prompt, finite)
    return rows


def _inside(places: Mapping[ImageKey, str], manifest: Manifest) -> dict[ImageKey, str]:
    """Return the images inside the folders of a data set.

    A run may be a download from anywhere, and with `--data` absent, it decides which table is read. If the
    table has the content that the run was fitted on, then who wrote the run had the images. Otherwise the run
    must not bring images from elsewhere on this machine into a page.
    """
    sources = [source.resolve() for source in manifest.sources]
    folders = [source if source.is_dir() else source.parent for source in sources]
    inside = {}
    for key, place in places.items():
        path = Path(place).resolve()
        if any(path.is_relative_to(folder) for folder in folders):
            inside[key] = place
    return inside


def _rank(
    known: Sequence[ImageKey],
    runs: Sequence[ReportRun],
    first: Iterable[ImageKey],
) -> list[ImageKey]:
    """Order the known images: `first`, then at random within the repeat that first has them in its test.

    The page opens with the first repeat of the first run, so images of that repeat matter most.
    """
    existing = set(known)
    ranked = dict.fromkeys(key for key in first if key in existing)
    first_tested = _first_tested(runs)
    order = np.random.default_rng(0).permutation(len(known))
    shuffled = [known[number] for number in order]
    shuffled.sort(key=first_tested.__getitem__)
    return list(ranked | dict.fromkeys(shuffled))


def _first_tested(runs: Sequence[ReportRun]) -> dict[ImageKey, tuple[int, int]]:
    """Return for each image the first repeat with the image among its test rows, and the first such run."""
    tested: dict[ImageKey, tuple[int, int]] = {}
    for number, run in enumerate(runs):
        for name, repeat in run.predictions.groupby("name")["repeat"].min().items():
            key = run.name.data, str(name)
            rank = int(repeat), number
            tested[key] = min(rank, tested.get(key, rank))
    return tested


def _why_no_images(run: ReportRun, data: Sequence[Path]) -> str:
    reason = "the runs recorded no folder that still exists"
    if data:
        reason = "none of the folders given with --data contains this data set"
    return f"There are no images of {run.name.data}: {reason}. `tier report … --data FOLDER` adds images."


def _thumbnails(places: Iterable[str]) -> dict[str, str | ImageError]:
    """Return the thumbnail of the image in each place, or the reason why there is none."""
    made: dict[str, str | ImageError] = {}
    for place in reading_order(places):
        try:
            made[place] = _thumbnail(place)
        except ImageError as error:
            made[place] = error
    return made


def _thumbnail(place: str) -> str:
    """Return a thumbnail of an image as JPEG in base64."""
    image = decode(read_bytes(place))
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
