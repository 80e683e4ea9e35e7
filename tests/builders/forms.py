"""One small data set of images with prompts, and its rows as a stream whatever form it was written in."""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tier4k.extract.datasets.rows.source import RowSource
from tier4k.extract.images.content import content_key
from tier4k.extract.images.places import read_bytes
from tier4k.tests.builders.data import save_picture

IMAGES = 5


@dataclass(frozen=True)
class Pictures:
    """Image files with a prompt each, as a folder holds them."""

    files: tuple[Path, ...]
    prompts: tuple[str, ...]

    @property
    def contents(self) -> list[bytes]:
        return [file.read_bytes() for file in self.files]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Key and prompt of each image; the images are plain, so that the key is the SHA-256 of the file."""
        return [
            (hashlib.sha256(data).hexdigest(), prompt)
            for data, prompt in zip(self.contents, self.prompts, strict=True)
        ]


def write_pictures(folder: Path) -> Pictures:
    """Write JPEG and PNG files."""
    files = [folder / f"p{number}.{'jpg' if number % 2 else 'png'}" for number in range(IMAGES)]
    for number, file in enumerate(files):
        save_picture(file, number)
    return Pictures(tuple(files), tuple(f"ein Füchslein Nr. {number}" for number in range(IMAGES)))


def write_tar(
    path: Path,
    members: Mapping[str, bytes] | Iterable[tuple[str, bytes]],
    form: int = tarfile.PAX_FORMAT,
) -> Path:
    """Write members in their order."""
    pairs = members.items() if isinstance(members, Mapping) else members
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in pairs:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return path


def tar_members(pictures: Pictures) -> dict[str, bytes]:
    """The members of a WebDataset with the prompts as texts."""
    members = {}
    for file, data, prompt in zip(pictures.files, pictures.contents, pictures.prompts, strict=True):
        members[file.name] = data
        members[f"{file.stem}.txt"] = prompt.encode()
    return members


def rows_of(source: RowSource) -> list[dict[str, object]]:
    """All rows as dicts; places are texts."""
    rows = []
    for batch in source.batches():
        for row in batch.rows.to_pylist():
            rows.append(row | {name: os.fsdecode(row[name]) for name in ("image", "image_prompt")})
    return rows


def pairs_of(source: RowSource) -> list[tuple[str, str]]:
    """Key and prompt of each row, read from its place."""
    return [(content_key(read_bytes(row["image"])).hex(), row["prompt"]) for row in rows_of(source)]


def problems_of(source: RowSource) -> list[tuple[str, str]]:
    """Name of the row and message of each problem."""
    problems = []
    for batch in source.batches():
        names = batch.rows.column("name").to_pylist()
        problems.extend((names[problem.row], problem.message) for problem in batch.problems)
    return problems
