"""WebDataset tar archives give the rows of their folder; what is broken in them is reported by name."""

import gzip
import io
import json
import os
import pickle
import tarfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import pytest

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.rows import batch, tar
from tier4k.extract.datasets.rows.open import open_rows
from tier4k.extract.datasets.rows.source import RowSource
from tier4k.extract.datasets.rows.tar_members import TarReader
from tier4k.extract.datasets.table_choice import TableChoice
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.places import read_bytes, reading_order, size, state
from tier4k.tests.builders.forms import (
    Pictures,
    pairs_of,
    problems_of,
    rows_of,
    tar_members,
    write_pictures,
    write_tar,
)

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


def opened(path: Path | str, columns: str = "", needs_prompts: bool = True) -> RowSource:
    return open_rows(path, TableChoice(columns=columns), needs_prompts)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_archive_gives_the_keys_and_prompts_of_the_folder(
    tmp_path: Path, pictures: Pictures, form: int
) -> None:
    source = opened(write_tar(tmp_path / "a.tar", tar_members(pictures), form))
    assert pairs_of(source) == pictures.pairs
    assert pairs_of(source) == pictures.pairs  # a second time
    assert problems_of(source) == []
    assert source.has_prompts and source.name == "a" and source.folder == tmp_path
    rows = rows_of(source)
    assert [row["name"] for row in rows] == [file.name for file in pictures.files]
    assert [row["line"] for row in rows] == [1, 3, 5, 7, 9]
    assert {row["file"] for row in rows} == {""}


@pytest.mark.parametrize("field", ["prompt", "Caption", "text"])
def test_prompts_are_read_from_json_members(tmp_path: Path, pictures: Pictures, field: str) -> None:
    members = {}
    for file, data, prompt in zip(pictures.files, pictures.contents, pictures.prompts, strict=True):
        members[f"{file.stem}.json"] = json.dumps({field: prompt, "width": 40}).encode()
        members[file.name] = data
    assert pairs_of(opened(write_tar(tmp_path / "a.tar", members))) == pictures.pairs


def test_columns_choose_the_image_the_image_prompt_and_the_name_of_the_prompt(tmp_path: Path) -> None:
    about = json.dumps({"caption": "a fox", "alt": "a red fox"}).encode()
    members = {"1.jpg": PNG + b"1", "1.png": PNG + b"2", "1.ref.png": PNG + b"3", "1.json": about}
    (row,) = rows_of(
        opened(write_tar(tmp_path / "a.tar", members), "image=png,image_prompt=ref.png,prompt=alt")
    )
    assert read_bytes(row["image"]) == PNG + b"2"
    assert read_bytes(row["image_prompt"]) == PNG + b"3"
    assert row["prompt"] == "a red fox"
    (row,) = rows_of(opened(tmp_path / "a.tar", "image=jpg,prompt="))
    assert (read_bytes(row["image"]), row["prompt"], row["image_prompt"]) == (PNG + b"1", "", "")


def test_keys_have_folders_dots_and_names_that_are_not_utf8(tmp_path: Path) -> None:
    odd = os.fsdecode(b"d\xe9/fox [1] #2 50%")
    names = [f"{odd}/x.png", "a.b/x.png", "y/x.png", f"{'long/' * 40}x.png"]
    members = [(name, PNG + bytes([number])) for number, name in enumerate(names)]
    source = opened(write_tar(tmp_path / "a.tar", members, tarfile.GNU_FORMAT), needs_prompts=False)
    rows = rows_of(source)
    assert [read_bytes(row["image"]) for row in rows] == [data for _, data in members]
    assert rows[0]["name"] == r"d\xe9/fox [1] #2 50%/x.png"
    assert not source.has_prompts
    assert "no text prompts" in " ".join(source.report.lines())


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_that_tarfile_finds(tmp_path: Path, form: int) -> None:
    path = tmp_path / "a.tar"
    names = ["a.png", "./b.png", f"{'long/' * 30}c.png", "d é.png", "e" * 100, "f/" + "g" * 99, "1" * 120]
    with tarfile.open(path, "w", format=form, pax_headers={"comment": "x"}) as archive:
        for number, name in enumerate(names):
            if form == tarfile.USTAR_FORMAT and "1" in name:
                continue  # too long for this form
            about = tarfile.TarInfo(name)
            about.size, about.mtime, about.uid = 511 + number, 1.5, 2**21 - 1
            archive.addfile(about, io.BytesIO(bytes(about.size)))
        folder, link = tarfile.TarInfo("folder"), tarfile.TarInfo("link")
        folder.type, link.type, link.linkname = tarfile.DIRTYPE, tarfile.SYMTYPE, "a.png"
        archive.addfile(folder)
        archive.addfile(link)
    with tarfile.open(path) as archive:
        expected = [(about.name, about.offset_data, about.size) for about in archive if not about.isdir()]
    with TarReader(str(path)) as reader:
        found = list(reader.members())
    assert [(member.name, member.offset, member.size) for member in found] == expected
    assert [bool(member.defect) for member in found] == [False] * (len(found) - 1) + [True]


@pytest.mark.parametrize("position", [0, 124, 130, 148, 150, 156, 300, 345, 511])
@pytest.mark.parametrize("value", [0, 32, 48, 57, 255])
def test_a_changed_header_is_accepted_or_refused_as_by_tarfile(
    tmp_path: Path, position: int, value: int
) -> None:
    data = bytearray(write_tar(tmp_path / "a.tar", {"a.png": PNG, "b.png": PNG}).read_bytes())
    data[1024 + position] = value
    (tmp_path / "a.tar").write_bytes(data)
    with tarfile.open(tmp_path / "a.tar") as archive:
        expected = archive.getnames()
    names = []
    with TarReader(str(tmp_path / "a.tar")) as reader, suppress(DataError):
        for member in reader.members():
            names.append(member.name)
    assert names == expected


def write_archives(folder: Path, pictures: Pictures) -> None:
    folder.mkdir()
    members = list(tar_members(pictures).items())
    write_tar(folder / "08.tar", members[:4])
    write_tar(folder / "09.tar", members[4:6])
    write_tar(folder / "10.tar", members[6:])


@pytest.mark.parametrize("data", ["d", "d/{08..10}.tar", "d/{08,09,10}.tar"])
def test_a_folder_of_archives_or_a_pattern_in_braces_is_one_data_set(
    tmp_path: Path, pictures: Pictures, monkeypatch: pytest.MonkeyPatch, data: str
) -> None:
    write_archives(tmp_path / "d", pictures)
    (tmp_path / "d" / "README.md").write_text("text")
    monkeypatch.chdir(tmp_path)
    source = opened(Path(data))
    assert pairs_of(source) == pictures.pairs
    assert source.name == "d" and source.folder == Path("d")
    assert [row["file"] for row in rows_of(source)] == ["08.tar", "08.tar", "09.tar", "10.tar", "10.tar"]
    assert ("README.md (no archive)" in source.report.left_out) == (data == "d")
    assert all(Path(row["image"]).is_absolute() for row in rows_of(source))


@pytest.mark.parametrize(("most", "sizes"), [(1, [1] * 5), (2, [2, 1, 2]), (3, [3, 2]), (5, [5])])
def test_rows_of_small_archives_come_in_one_batch(
    tmp_path: Path,
    pictures: Pictures,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    sizes: list[int],
) -> None:
    write_archives(tmp_path / "d", pictures)  # of 2, 1 and 2 rows
    monkeypatch.setattr(tar, "ROWS_PER_BATCH", most)
    monkeypatch.setattr(batch, "ROWS_PER_BATCH", most)
    assert [len(rows) for rows in opened(tmp_path / "d").batches()] == sizes


BROKEN: dict[str, tuple[dict[str, bytes], str]] = {
    "no prompt": ({"1.png": PNG}, "1 has no prompt: add 1.txt"),
    "no image": ({"1.txt": b"a fox", "1.cls": b"3"}, "1 has no image, but 1.txt, 1.cls"),
    "two images": (
        {"1.png": PNG, "1.jpg": PNG, "1.txt": b"a fox"},
        "1 has 2 images, 1.png and 1.jpg: choose one with --columns image=png",
    ),
    "empty image": ({"1.png": b"", "1.txt": b"a fox"}, "1.png is empty"),
    "empty prompt": ({"1.png": PNG, "1.txt": b" \n"}, "1 has no prompt: add 1.txt"),
    "prompt of no bytes": ({"1.png": PNG, "1.txt": b""}, "1.txt is empty"),
    "not UTF-8": ({"1.png": PNG, "1.txt": b"\xff\xfe\xe9"}, "1.txt is not UTF-8: save it as UTF-8"),
    "no JSON": ({"1.png": PNG, "1.json": b"{"}, "1.json is no JSON"),
    "no object": ({"1.png": PNG, "1.json": b"[]"}, "1.json holds no object"),
    "no text": ({"1.png": PNG, "1.json": b'{"prompt": 3}'}, "prompt in 1.json is no text"),
    "no name": ({"1.png": PNG, "1.json": b'{"url": "x"}'}, "1 has no prompt: add 1.txt"),
    "two names": (
        {"1.png": PNG, "1.json": b'{"text": "a", "caption": "b"}'},
        "1.json has text and caption, which may each be the prompt: name one with --columns prompt=text",
    ),
}


@pytest.mark.parametrize(("members", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_member_costs_its_row_only(
    tmp_path: Path, pictures: Pictures, members: dict[str, bytes], message: str
) -> None:
    sound = list(tar_members(pictures).items())
    source = opened(write_tar(tmp_path / "a.tar", [*sound[:4], *members.items(), *sound[4:]]))
    ((name, problem),) = problems_of(source)
    assert problem.startswith(message)
    assert name in ("1", "1.png")
    rows = [row for row in rows_of(source) if row["name"] != name]
    assert [row["prompt"] for row in rows] == list(pictures.prompts)
    assert [read_bytes(row["image"]) for row in rows] == pictures.contents


def test_half_characters_in_json_are_written_out(tmp_path: Path) -> None:
    source = opened(write_tar(tmp_path / "a.tar", {"1.png": PNG, "1.json": b'{"prompt": "a \\ud83d fox"}'}))
    assert [row["prompt"] for row in rows_of(source)] == [r"a \ud83d fox"]


def test_prompts_may_be_broken_where_none_are_needed(tmp_path: Path, pictures: Pictures) -> None:
    members = [*tar_members(pictures).items(), ("x.png", PNG), ("y.png", PNG), ("y.txt", b"\xff")]
    source = opened(write_tar(tmp_path / "a.tar", members), needs_prompts=False)
    assert problems_of(source) == []
    assert [row["prompt"] for row in rows_of(source)] == [*pictures.prompts, "", ""]


def test_the_same_member_twice_and_members_that_are_no_files_are_problems(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(folder := tarfile.TarInfo("f"))
        folder.type = tarfile.DIRTYPE
        for name, kind in (
            ("1.png", tarfile.SYMTYPE),
            ("2.png", tarfile.LNKTYPE),
            ("3.png", tarfile.FIFOTYPE),
        ):
            about = tarfile.TarInfo(name)
            about.type, about.linkname = kind, "x.png"
            archive.addfile(about)
    write_tar(tmp_path / "b.tar", [("4.png", PNG), ("4.png", PNG), (".hidden.png", PNG), ("5.png", PNG)])
    assert [message for _, message in problems_of(opened(tmp_path, needs_prompts=False))] == [
        "f has no image, but f",
        "1.png is a link: store the file itself",
        "2.png is a link: store the file itself",
        "3.png is no regular file: store the file itself",
        "the archive has 4.png twice: remove one",
    ]


def cut_inside_the_last_image(data: bytes) -> bytes:
    return data[: data.index(b"p4.png") + 512 + 100]


def cut_between_members(data: bytes) -> bytes:
    return data[: data.index(b"p4.png")]


def cut_inside_a_header(data: bytes) -> bytes:
    return data[: data.index(b"p4.png") + 100]


def damage_a_header(data: bytes) -> bytes:
    start = data.index(b"p4.png")
    return data[:start] + b"x" * 100 + data[start + 100 :]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_inside_the_last_image, "p4.png is cut off: the archive ends"),
        (cut_between_members, "the archive has no mark of its end after 8 members: it may be cut off"),
        (cut_inside_a_header, "the archive has no mark of its end after 8 members: it may be cut off"),
        (damage_a_header, "the archive is damaged at byte"),
    ],
)
def test_the_rows_before_the_damage_of_an_archive_and_other_archives_are_read(
    tmp_path: Path, pictures: Pictures, damage: Callable[[bytes], bytes], message: str
) -> None:
    whole = write_tar(tmp_path / "2.tar", tar_members(pictures), tarfile.USTAR_FORMAT)
    (tmp_path / "1.tar").write_bytes(damage(whole.read_bytes()))
    (tmp_path / "3.tar").write_bytes(b"no archive" * 100)
    source = opened(tmp_path)
    (_, first), (name, last) = problems_of(source)
    assert first.startswith(message)
    assert name == "3.tar" and last.startswith("the archive cannot be read")
    read = [row for row in rows_of(source) if row["image"]]
    assert [read_bytes(row["image"]) for row in read] == [*pictures.contents[:4], *pictures.contents]


def test_compressed_archives_are_refused_with_the_remedy(tmp_path: Path, pictures: Pictures) -> None:
    plain = write_tar(tmp_path / "a.tar", tar_members(pictures)).read_bytes()
    for name in ("b.tar.gz", "c.tgz", "d.tar"):
        (tmp_path / name).write_bytes(gzip.compress(plain))
        with pytest.raises(DataError, match=rf"{name}: the archive is compressed.*`gunzip`"):
            opened(tmp_path / name)
    (source,) = {type(opened(tmp_path))}
    assert source is tar.TarRows
    assert [name for name, _ in problems_of(opened(tmp_path))] == ["b.tar.gz", "c.tgz", "d.tar"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the archive cannot be read"),
        (None, "the archive cannot be read"),
        (bytes(10240), "has no members"),
    ],
)
def test_an_archive_without_rows_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "{0..0}.tar"
    if content is not None:
        path = tmp_path / "a.tar"
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        opened(path)


def test_a_place_reads_in_another_process_and_knows_state_and_size(
    tmp_path: Path, pictures: Pictures
) -> None:
    path = write_tar(tmp_path / "a.tar", tar_members(pictures))
    found = [row["image"] for row in rows_of(opened(path))]
    assert reading_order(found[::-1]) == found
    assert list(map(size, found)) == list(map(len, pictures.contents))
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        assert list(pool.map(read_bytes, pickle.loads(pickle.dumps(found)))) == pictures.contents
    before = state(found[0])
    assert before == state(found[4])
    os.truncate(path, path.stat().st_size - 10240)
    assert state(found[0]) != before
    with pytest.raises(ImageError, match="the file ends .* bytes before the end of the image"):
        read_bytes(found[4])
    path.unlink()
    with pytest.raises(ImageError, match="No such file"):
        read_bytes(found[0])
