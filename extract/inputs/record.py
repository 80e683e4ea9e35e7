"""Records of data sets in a folder of stores: the distinct inputs of each, as planned by an extraction.

A record is a folder `datasets/<name>-<hash>/`. Its `about.json` names the other files by digests of their
contents and is replaced in one step, so that a reader sees an old record or the new one.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from tier4k.cache.atomic import alone_in, publish_text
from tier4k.cache.errors import StoreError
from tier4k.cache.keys import KEY_BYTES, key_array, text_key
from tier4k.cache.text import shortened, shown
from tier4k.cache.write_errors import explain_write_errors
from tier4k.extract.images.place_names import is_url
from tier4k.extract.inputs.dataset import NONE, DatasetInputs, RowNumbers
from tier4k.extract.inputs.input_files import (
    read_inputs,
    read_keys,
    read_numbers,
    write_array,
    write_inputs,
)
from tier4k.extract.inputs.inputs import Inputs, Pairs, decoded, values_of

FOLDER = "datasets"

ABOUT_FILE = "about.json"

FORMAT = 1

NAME_LENGTH = 100  # of a data set's name in that of the folder

ROWS = "rows"

TEMPLATE = "template"  # name of the templates among the inputs of a record

PAIRS = "score"  # keys of pairs of an image and its text prompt
PAIR_NUMBERS = "score-numbers"

REMEDY = "delete the folder; the next `tier extract` of this data set writes it again"

DIGEST = re.compile("[0-9a-f]{16}")

# These are raised for files of wrong content.
READING_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    MemoryError,
    pa.ArrowException,
    OverflowError,
    RecursionError,
)

NO_KEYS = np.empty((0, KEY_BYTES), np.uint8)


@dataclass(frozen=True)
class About:
    """Content of `about.json`.

    Attributes:
        name: Name of the data set.
        data: Folder of the data set when it was extracted, or its URL.
        rows: Number of usable rows.
        has_prompts: Whether the rows have text prompts.
        files: Digest of each array in the folder: "image", "text", "template", "rows", "score",
            "score-numbers". There are no pairs if no scorer was used.
        format: Version of the format.
    """

    name: str
    data: str
    rows: int
    has_prompts: bool
    files: Mapping[str, str]
    format: int = FORMAT


@dataclass(frozen=True)
class DatasetRecord:
    """The record of a data set. Its arrays are memory-mapped when they are used.

    Attributes:
        path: Folder of the record.
        about: What the record is about.
    """

    path: Path
    about: About

    @classmethod
    def read(cls, path: Path) -> "DatasetRecord":
        """Read a record.

        Raises:
            StoreError: The record is damaged.
        """
        with _explained(path):
            # msgspec's own reader refuses the names that are not UTF-8.
            about = msgspec.convert(json.loads((path / ABOUT_FILE).read_text(encoding="utf-8")), About)
            if about.format != FORMAT:
                raise ValueError(f"its format is {about.format}, not {FORMAT}")
            if not about.data or "\0" in about.data:
                raise ValueError("`data` is no folder and no URL")
            _require_files(about.files)
            return cls(path, about)

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.about.name

    @property
    def folder(self) -> Path:
        """The data folder, which may hold weights; the working directory for a URL."""
        return Path.cwd() if is_url(self.about.data) else Path(self.about.data)

    @property
    def has_prompts(self) -> bool:
        """Whether the rows have text prompts."""
        return self.about.has_prompts

    def inputs(self) -> DatasetInputs:
        """Return the inputs of the data set.

        Raises:
            StoreError: The record is damaged.
        """
        images, prompts = self._inputs("image"), self._inputs("text")
        limits = [len(images), len(prompts), len(images)]
        with _explained(self.path):
            numbers = read_numbers(self.path, ROWS, self.about.files[ROWS], limits, [0, 0, NONE])
        return DatasetInputs(
            name=self.about.name,
            data=self.about.data,
            images=images,
            prompts=prompts,
            rows=RowNumbers(*numbers),
            has_prompts=self.about.has_prompts,
        )

    def keys_of(self, stream: str) -> np.ndarray:
        """Return the distinct keys (N, 32) of "image", "text", "score" or "template".

        Raises:
            StoreError: The record is damaged.
        """
        if stream not in self.about.files:
            return NO_KEYS
        with _explained(self.path):
            return read_keys(self.path, stream, self.about.files[stream])

    def keys_in_store(self, stream: str) -> np.ndarray:
        """Return the keys (N, 32) of a stream and, if it is "text", of the templates.

        Raises:
            StoreError: The record is damaged.
        """
        return np.concatenate([self.keys_of(part) for part in streams_in_stores(stream)])

    def names_of(self, stream: str) -> Iterator[str]:
        """Yield the readable name of each input of `keys_of`, in their order.

        It is the path of an image below the data folder, the text itself, or both of a pair.

        Raises:
            StoreError: The record is damaged.
        """
        if stream not in self.about.files:
            return
        if stream == "image":
            yield from self._paths()
        elif stream == PAIRS:
            paths, texts = list(self._paths()), self._texts("text")
            limits = [len(paths), len(texts)]
            with _explained(self.path):
                digest = self.about.files[PAIR_NUMBERS]
                numbers = read_numbers(self.path, PAIR_NUMBERS, digest, limits, [0, 0])
            for image, text in zip(*numbers.tolist(), strict=True):
                yield f"{paths[image]}: {texts[text]}"
        else:
            yield from self._texts(stream)

    def require_sound(self) -> None:
        """Read all files of the record.

        Raises:
            StoreError: The record is damaged.
        """
        self.inputs()
        self.templates()
        if len(self.keys_of(PAIRS)) != sum(1 for _ in self.names_of(PAIRS)):
            raise StoreError(f"{self.path} is damaged (it names another number of pairs): {REMEDY}")

    def templates(self) -> list[str]:
        """Return the texts that text encoders encoded besides the prompts.

        Raises:
            StoreError: The record is damaged.
        """
        return self._texts(TEMPLATE)

    def _inputs(self, name: str) -> Inputs:
        with _explained(self.path):
            return read_inputs(self.path, name, self.about.files[name])

    def _texts(self, name: str) -> list[str]:
        return [decoded(value) for value in self._inputs(name).values.to_pylist()]

    def _paths(self) -> Iterator[str]:
        for value in self._inputs("image").values:
            place = decoded(value.as_py())
            yield shown(place if is_url(place) else os.path.relpath(place, self.about.data))


def write_record(
    root: Path,
    dataset: DatasetInputs,
    templates: Sequence[str] = (),
    pairs: Pairs | None = None,
) -> DatasetRecord:
    """Write the record of a data set under `root`, over an earlier one of the same name and folder.

    Templates of the earlier record are kept, and its pairs while the rows are the same: the stores still hold
    them.

    Args:
        root: Folder of stores.
        dataset: The inputs.
        templates: Texts that text encoders encode besides the prompts.
        pairs: Pairs that a scorer scores.

    Raises:
        StoreError: The record cannot be written.
    """
    path = root / FOLDER / _folder_name(dataset)
    with explain_write_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        with alone_in(path):  # another writer would remove arrays that no record names yet
            return _write(path, dataset, templates, pairs)


def _write(
    path: Path,
    dataset: DatasetInputs,
    templates: Sequence[str],
    pairs: Pairs | None,
) -> DatasetRecord:
    """Write a record as `write_record` does, while no other process does.

    Raises:
        OSError: The system refuses to write.
    """
    earlier = _earlier(path)
    if earlier:
        templates = list(dict.fromkeys([*earlier.templates(), *templates]))
    files = _write_arrays(path, dataset, templates)
    if pairs is not None:
        files[PAIRS] = write_array(path, PAIRS, pairs.keys)
        files[PAIR_NUMBERS] = write_array(path, PAIR_NUMBERS, np.stack([pairs.image, pairs.text]))
    elif earlier and earlier.about.files.items() >= files.items() - {(TEMPLATE, files[TEMPLATE])}:
        files = {**earlier.about.files, **files}
    about = About(dataset.name, dataset.data, len(dataset.rows), dataset.has_prompts, files)
    if earlier is None or earlier.about != about:
        publish_text(path / ABOUT_FILE, json.dumps(asdict(about), indent=1) + "\n")
    _remove_others(path, files)
    return DatasetRecord(path, about)


def _folder_name(dataset: DatasetInputs) -> str:
    folder_hash = hashlib.sha256(os.fsencode(f"{dataset.name}\n{dataset.data}")).hexdigest()[:8]
    # The name of many joined data sets may be too long for a folder; one that begins with a dot is hidden.
    name = re.sub(r"^\.|[^A-Za-z0-9._-]+", "_", dataset.name)
    return f"{name[:NAME_LENGTH]}-{folder_hash}"


def _earlier(path: Path) -> DatasetRecord | None:
    """Return the record in a folder; None if there is none, or a damaged one, which is replaced."""
    with suppress(StoreError):
        record = DatasetRecord.read(path)
        record.templates()
        return record
    return None


def _write_arrays(
    path: Path,
    dataset: DatasetInputs,
    templates: Sequence[str],
) -> dict[str, str]:
    template_inputs = Inputs(key_array(map(text_key, templates)), values_of(templates))
    rows = np.stack([dataset.rows.image, dataset.rows.prompt, dataset.rows.image_prompt])
    return {
        "image": write_inputs(path, "image", dataset.images),
        "text": write_inputs(path, "text", dataset.prompts),
        TEMPLATE: write_inputs(path, TEMPLATE, template_inputs),
        ROWS: write_array(path, ROWS, rows),
    }


def _remove_others(path: Path, files: Mapping[str, str]) -> None:
    """Remove the arrays of earlier records."""
    kept = {f"{name}-{digest}" for name, digest in files.items()}
    for file in path.iterdir():
        if file.suffix in (".npy", ".arrow") and file.stem not in kept:
            file.unlink(missing_ok=True)


def streams_in_stores(stream: str) -> tuple[str, ...]:
    """Return the parts of a record whose inputs are in stores of one stream."""
    return (stream, TEMPLATE) if stream == "text" else (stream,)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Replace errors about the files of a record.

    Raises:
        StoreError: The record is damaged.
    """
    try:
        yield
    except READING_ERRORS as error:
        raise StoreError(f"{path} is damaged ({shortened(error)}): {REMEDY}") from error


def _require_files(files: Mapping[str, str]) -> None:
    """Require the files of a record by names that stay in its folder.

    Raises:
        ValueError: A file is missing or has another name.
    """
    for name in ("image", "text", TEMPLATE, ROWS):
        if name not in files:
            raise ValueError(f"`files` lacks {name!r}")
    for digest in files.values():
        if not DIGEST.fullmatch(digest):
            raise ValueError(f"`files` has {shortened(repr(digest))}, which is no digest")


def is_record(path: Path) -> bool:
    """Return whether a folder is the record of a data set."""
    return path.parent.name == FOLDER and (path / ABOUT_FILE).is_file()


@dataclass(frozen=True)
class Records:
    """The records under a folder of stores.

    Attributes:
        sound: The records whose files can all be read, in the order of their names.
        damaged: The reason for each folder of another record; it has the remedy.
    """

    sound: tuple[DatasetRecord, ...]
    damaged: Mapping[Path, str]


def records(root: Path) -> Records:
    """Return all records under `root`; a damaged one does not hide the others."""
    sound = []
    damaged = {}
    for folder in sorted(file.parent for file in (root / FOLDER).glob(f"[!.]*/{ABOUT_FILE}")):
        try:
            sound.append(_sound_record(folder))
        except StoreError as error:
            damaged[folder] = str(error)
    return Records(tuple(sound), damaged)


def _sound_record(folder: Path) -> DatasetRecord:
    """Return a record whose files can all be read.

    A writer that replaces the record removes the arrays of the earlier one, perhaps between the reading of
    about.json and that of the arrays. Then about.json has changed, and the record is read again.

    Raises:
        StoreError: The record is damaged.
    """
    while True:
        content = _about_content(folder)
        try:
            record = DatasetRecord.read(folder)
            record.require_sound()
            return record
        except StoreError:
            if _about_content(folder) == content:
                raise


def _about_content(folder: Path) -> bytes:
    with suppress(OSError):
        return (folder / ABOUT_FILE).read_bytes()
    return b""


def input_names(sound: Iterable[DatasetRecord], stream: str) -> dict[bytes, str]:
    """Return the readable names of a stream's inputs in data sets, by key; templates are texts."""
    names: dict[bytes, str] = {}
    for record in sound:
        for part in streams_in_stores(stream):
            names.update(zip(map(bytes, record.keys_of(part)), record.names_of(part), strict=True))
    return names
