"""Rows of WebDataset tar archives: members of one key are a row, an image with its prompt beside it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tier4k.cache.text import shown
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.published import LAYOUTS
from tier4k.extract.datasets.layouts.read import NO_PROMPTS
from tier4k.extract.datasets.rows.batch import Row, batch_of_rows
from tier4k.extract.datasets.rows.file_rows import FileRows
from tier4k.extract.datasets.rows.files import (
    data_folder,
    data_name,
    data_path,
    whole_path,
)
from tier4k.extract.datasets.rows.source import ROWS_PER_BATCH, RowBatch
from tier4k.extract.datasets.rows.tar_members import ArchiveError, TarMember, TarReader
from tier4k.extract.datasets.source import TableReport
from tier4k.extract.datasets.table_choice import ColumnChoice
from tier4k.extract.datasets.tables.clutter import is_clutter_name
from tier4k.extract.images.formats import image_suffixes
from tier4k.extract.images.place_names import slice_place

TEXT, JSON = "txt", "json"

PROMPT_NAMES = ("prompt", *LAYOUTS["table"].common_names["prompt"])
"""Names of a prompt in a `.json` member, as those of columns."""

IMAGE_EXTENSIONS = frozenset(suffix.removeprefix(".") for suffix in image_suffixes())

LARGEST_PROMPT = 2**20

PEEKED_ROWS = 64


class _MemberError(DataError):
    """A row lacks a member, or one of its members is broken."""


@dataclass(frozen=True)
class TarRows(FileRows[ColumnChoice]):
    """Rows of tar archives. A broken member is a problem; the others are read.

    The extension of a member is what follows the first dot of its base name, its key the path before. In the
    user's choice, `image` and `image_prompt` name extensions, and `prompt` names in `.json` members.
    """

    @classmethod
    def open(
        cls,
        data: Path | str,
        archives: Sequence[str],
        choice: ColumnChoice,
        needs_prompts: bool,
        left_out: Sequence[str] = (),
    ) -> "TarRows":
        """Open archives. The first rows of the first readable one decide whether there are prompts.

        Args:
            data: The data set as the user named it.
            archives: Paths or URLs of its archives.
            choice: What the user says about members.
            needs_prompts: Whether a row without a text prompt is a problem, where rows have prompts.
            left_out: Other files that are not read, with the reasons.

        Raises:
            DataError: No archive can be read, or all are empty.
        """
        has_prompts = _have_prompts(archives, choice)
        return cls(
            name=shown(data_name(data, archives)),
            path=data_path(data),
            folder=data_folder(data, archives),
            has_prompts=has_prompts,
            needs_prompts=needs_prompts,
            report=TableReport(left_out=tuple(left_out), notes=() if has_prompts else (NO_PROMPTS,)),
            files=tuple(map(whole_path, archives)),
            choice=choice,
        )

    def _rows_of(self, file: str, label: str) -> Iterator[RowBatch]:
        rows: list[Row] = []
        try:
            with TarReader(file) as archive:
                for sample in _samples(archive, self.choice):
                    rows.append(sample.row(file, label, self.has_prompts, self.needs_prompts))
                    if len(rows) == ROWS_PER_BATCH:
                        yield batch_of_rows(rows)
                        rows = []
        except ArchiveError:
            yield batch_of_rows(rows)  # the rows before the damage
            raise
        yield batch_of_rows(rows)


def _have_prompts(archives: Sequence[str], choice: ColumnChoice) -> bool:
    """Return whether one of the first rows has a text prompt.

    Raises:
        DataError: No archive has a row; the message is about the first.
    """
    problem = ""
    for path in archives:
        has_prompt: list[bool] = []
        try:
            with TarReader(path) as archive:
                for sample in islice(_samples(archive, choice), PEEKED_ROWS):
                    has_prompt.append(sample.has_prompt)
        except ArchiveError as error:
            problem = problem or f"{path}: {error}"
        if has_prompt:
            return any(has_prompt)
    raise DataError(problem or f"{archives[0]} has no members: add the images")


@dataclass(frozen=True)
class _Sample:
    """Members of one key.

    Attributes:
        members: {extension: member}; of equal extensions the first.
        archive: The archive, while it is open.
        choice: Which members are what.
        repeated: Names of members whose extension an earlier one has.
    """

    key: str
    members: Mapping[str, TarMember]
    archive: TarReader
    choice: ColumnChoice
    repeated: tuple[str, ...]

    @property
    def has_prompt(self) -> bool:
        """Whether there is a text prompt; a broken one counts."""
        try:
            return self._prompt() is not None
        except _MemberError:
            return True

    def row(
        self,
        path: str,
        label: str,
        has_prompts: bool,
        needs_prompts: bool,
    ) -> Row:
        """Return the row, with its problem if there is one.

        Args:
            path: Path or URL of the archive.
            label: Value of the column `file`.
            has_prompts: Whether the data set has text prompts.
            needs_prompts: Whether a row without one is a problem.
        """
        line = min(member.number for member in self.members.values())
        try:
            image = self._image()
            image_prompt = self._image_prompt()
        except _MemberError as error:
            return Row(shown(self.key), file=label, line=line, problem=str(error))
        place = _place(path, image)
        prompt_place = _place(path, image_prompt) if image_prompt else ""
        name = shown(image.name.removeprefix("./"))
        try:
            prompt = self._prompt() if has_prompts else ""
            if not prompt and has_prompts:
                raise _MemberError(f"{shown(self.key)} has no prompt: add {shown(self.key)}.{TEXT}")
        except _MemberError as error:
            prompt = ""
            if needs_prompts:
                return Row(name, place, "", prompt_place, label, image.number, str(error))
        return Row(name, place, prompt or "", prompt_place, label, image.number)

    def _image(self) -> TarMember:
        if self.repeated:
            raise _MemberError(f"the archive has {' and '.join(self.repeated)} twice: remove one")
        chosen = self.choice.of_field.get("image")
        found = self._of(chosen) if chosen else self._of_suffix()
        if not found:
            members = ", ".join(shown(member.name) for member in self.members.values())
            raise _MemberError(f"{shown(self.key)} has no image, but {members}")
        if len(found) > 1:
            names = " and ".join(shown(member.name) for member in found.values())
            raise _MemberError(
                f"{shown(self.key)} has {len(found)} images, {names}: choose one with --columns "
                f"image={next(iter(found))}"
            )
        return _sound(next(iter(found.values())))

    def _of_suffix(self) -> dict[str, TarMember]:
        others = self.choice.of_field.get("image_prompt", ())
        return {
            extension: member
            for extension, member in self.members.items()
            if extension in IMAGE_EXTENSIONS and extension not in others
        }

    def _of(self, extensions: Sequence[str]) -> dict[str, TarMember]:
        return {name: self.members[name] for name in map(str.lower, extensions) if name in self.members}

    def _image_prompt(self) -> TarMember | None:
        """Return the image prompt; without one the row has none, as in a table."""
        found = self._of(self.choice.of_field.get("image_prompt", ()))
        return _sound(next(iter(found.values()))) if found else None

    def _prompt(self) -> str | None:
        """Return the prompt: from `.txt`, or from `.json` under a name of a prompt; None without one.

        Raises:
            _MemberError: The member is broken.
        """
        chosen = self.choice.of_field.get("prompt")
        if chosen == ():  # the user says that there are none
            return None
        if chosen is None and TEXT in self.members:
            return self._text(self.members[TEXT]).strip()
        if JSON not in self.members:
            return None
        return _prompt_of_json(self._text(self.members[JSON]), shown(self.members[JSON].name), chosen)

    def _text(self, member: TarMember) -> str:
        _sound(member)
        if member.size > LARGEST_PROMPT:
            raise _MemberError(f"{shown(member.name)} has {member.size:,} bytes, too many for a prompt")
        try:
            return self.archive.read(member).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise _MemberError(f"{shown(member.name)} is not UTF-8: save it as UTF-8") from error


def _place(path: str, member: TarMember) -> str:
    return slice_place(path, member.name, member.offset, member.size)


def _sound(member: TarMember) -> TarMember:
    """Return a member whose content can be read.

    Raises:
        _MemberError: It is broken or empty.
    """
    if member.defect:
        raise _MemberError(member.defect)
    if not member.size:
        raise _MemberError(f"{shown(member.name)} is empty")
    return member


def _prompt_of_json(
    text: str,
    name: str,
    chosen: Sequence[str] | None,
) -> str | None:
    """Return the prompt in a `.json` member; None if no name in it is that of a prompt."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _MemberError(f"{name} is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise _MemberError(f'{name} holds no object, such as {{"prompt": "a fox"}}')
    if chosen is not None:
        found = [field for field in content if field in chosen]
    else:
        named = {field: field.strip().lower().replace(" ", "_") for field in content}
        same = [field for field in content if named[field] == PROMPT_NAMES[0]]
        found = same or [field for field in content if named[field] in PROMPT_NAMES]
    if len(found) > 1:
        raise _MemberError(
            f"{name} has {' and '.join(found)}, which may each be the prompt: name one with --columns "
            f"prompt={found[0]}"
        )
    if not found or content[found[0]] is None:
        return None
    if not isinstance(content[found[0]], str):
        raise _MemberError(f"{found[0]} in {name} is no text")
    return shown(content[found[0]]).strip()  # JSON can write half characters, which no store takes


def _samples(archive: TarReader, choice: ColumnChoice) -> Iterator[_Sample]:
    """Yield the samples of an archive: its neighbouring members with one key.

    Raises:
        ArchiveError: The archive is damaged or cut off; the samples before were yielded.
    """
    key, waiting = "", dict[str, list[TarMember]]()
    try:
        for member in archive.members():
            folder, _, name = member.name.removeprefix("./").rpartition("/")
            if is_clutter_name(name):
                continue
            stem, _, extension = name.partition(".")
            own_key = f"{folder}/{stem}" if folder else stem
            if waiting and own_key != key:
                yield _sample(key, waiting, archive, choice)
                waiting = {}
            key = own_key
            waiting.setdefault(extension.lower(), []).append(member)
    except ArchiveError:
        if waiting:
            yield _sample(key, waiting, archive, choice)
        raise
    if waiting:
        yield _sample(key, waiting, archive, choice)


def _sample(
    key: str,
    members: Mapping[str, Sequence[TarMember]],
    archive: TarReader,
    choice: ColumnChoice,
) -> _Sample:
    repeated = [shown(own[0].name) for own in members.values() if len(own) > 1]
    firsts = {extension: own[0] for extension, own in members.items()}
    return _Sample(key, firsts, archive, choice, tuple(repeated))
