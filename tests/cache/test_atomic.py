"""A published file or folder exists whole or not at all; a key is the SHA-256 of the input."""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tier4k.cache.atomic import publish, publish_text
from tier4k.cache.keys import bytes_key, file_key, key_array, sortable, text_key


class WriterError(Exception):
    pass


def fail_half_way(path: Path) -> None:
    path.write_text("half", encoding="utf-8")
    raise WriterError


def fill_half_way(folder: Path) -> None:
    folder.mkdir()
    (folder / "first.txt").write_text("1", encoding="utf-8")
    raise WriterError


def write_note(path: Path) -> None:
    path.write_text("new", encoding="utf-8")


def fill_whole(folder: Path) -> None:
    (folder / "inner").mkdir(parents=True)
    (folder / "first.txt").write_text("1", encoding="utf-8")
    (folder / "inner" / "second.txt").write_text("2", encoding="utf-8")


def no_fsync(descriptor: int) -> None:
    raise WriterError


def refuse(
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    is_refused: Callable[[int], bool],
) -> None:
    """Let fsync fail with an error of the system for the files whose mode is refused."""
    fsync = os.fsync

    def fail(descriptor: int) -> None:
        if is_refused(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_published_text_is_read_back_and_no_other_file_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "note.txt"
    publish_text(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    assert os.listdir(path.parent) == ["note.txt"]


def test_publishing_again_replaces_the_old_file(tmp_path: Path) -> None:
    publish_text(tmp_path / "note.txt", "a long old text")
    publish_text(tmp_path / "note.txt", "new")
    assert (tmp_path / "note.txt").read_text() == "new"


def test_a_failing_writer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(WriterError):
        publish(tmp_path / "note.txt", fail_half_way)
    assert not os.listdir(tmp_path)


def test_a_failing_writer_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    publish_text(tmp_path / "note.txt", "old")
    with pytest.raises(WriterError):
        publish(tmp_path / "note.txt", fail_half_way)
    assert (tmp_path / "note.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["note.txt"]


def test_the_old_file_exists_while_the_new_one_is_written(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    publish_text(path, "old")
    seen = []

    def write(temporary: Path) -> None:
        temporary.write_text("new", encoding="utf-8")
        seen.append(path.read_text())

    publish(path, write)
    assert seen == ["old"]
    assert path.read_text() == "new"


def test_nothing_is_published_before_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", no_fsync)
    with pytest.raises(WriterError):
        publish_text(tmp_path / "note.txt", "new")
    with pytest.raises(WriterError):
        publish(tmp_path / "data", fill_whole)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EPERM])
def test_a_share_that_cannot_sync_a_folder_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    refuse(monkeypatch, code, stat.S_ISDIR)
    publish_text(tmp_path / "note.txt", "new")
    publish(tmp_path / "data", fill_whole)
    assert (tmp_path / "note.txt").read_text() == "new"
    assert (tmp_path / "data" / "inner" / "second.txt").read_text() == "2"


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_file_that_cannot_be_synced_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    refuse(monkeypatch, code, stat.S_ISREG)
    for path, write in ((tmp_path / "note.txt", write_note), (tmp_path / "data", fill_whole)):
        with pytest.raises(OSError, match=os.strerror(code)):
            publish(path, write)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_broken_disk_is_an_error_also_for_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    refuse(monkeypatch, code, stat.S_ISDIR)
    with pytest.raises(OSError, match=os.strerror(code)):
        publish(tmp_path / "data", fill_whole)


def test_a_share_without_permissions_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_chmod(*_arguments: object, **_options: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chmod", refuse_chmod)
    publish(tmp_path / "data", fill_whole)
    assert (tmp_path / "data" / "first.txt").read_text() == "1"


def test_a_published_file_has_the_permissions_of_any_other_new_file(tmp_path: Path, umask: int) -> None:
    publish_text(tmp_path / "note.txt", "new")
    assert (tmp_path / "note.txt").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_published_folder_has_the_permissions_of_any_other_new_folder(tmp_path: Path, umask: int) -> None:
    publish(tmp_path / "data", fill_whole)
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o777 & ~umask
    assert (tmp_path / "data" / "first.txt").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_writer_that_hides_its_files_from_others_does_not_change_the_permissions(
    tmp_path: Path, umask: int
) -> None:
    def write(folder: Path) -> None:
        folder.mkdir()
        save_file({"weight": np.zeros(3)}, folder / "weights.safetensors")

    publish(tmp_path / "data", write)
    assert (tmp_path / "data" / "weights.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_copied_folder_has_the_permissions_of_new_files_and_not_of_its_source(
    tmp_path: Path, umask: int
) -> None:
    source = tmp_path / "source"
    fill_whole(source)
    for path in (source, source / "inner", source / "first.txt"):
        path.chmod(0o750)
    publish(tmp_path / "data", lambda folder: shutil.copytree(source, folder))
    for path in (tmp_path / "data", tmp_path / "data" / "inner"):
        assert path.stat().st_mode & 0o777 == 0o777 & ~umask
    assert (tmp_path / "data" / "first.txt").stat().st_mode & 0o777 == 0o666 & ~umask


def test_publishing_does_not_change_the_umask(tmp_path: Path, umask: int) -> None:
    publish_text(tmp_path / "note.txt", "new")
    after = os.umask(umask)
    assert after == umask


def test_a_folder_is_published_with_all_its_files(tmp_path: Path) -> None:
    publish(tmp_path / "parent" / "data", fill_whole)
    published = sorted(path.name for path in (tmp_path / "parent").rglob("*"))
    assert published == ["data", "first.txt", "inner", "second.txt"]


def test_a_folder_does_not_exist_before_it_is_whole(tmp_path: Path) -> None:
    seen = []

    def fill(folder: Path) -> None:
        fill_whole(folder)
        seen.append((tmp_path / "data").exists())

    publish(tmp_path / "data", fill)
    assert seen == [False]


def test_a_folder_whose_writer_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(WriterError):
        publish(tmp_path / "data", fill_half_way)
    assert not os.listdir(tmp_path)


def test_a_folder_with_content_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OSError, match="data"):
        publish(tmp_path / "data", fill_whole)
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "mine.txt"]


@pytest.mark.parametrize("data", [b"", b"abc", bytes(range(256)) * 9999], ids=["empty", "short", "long"])
def test_a_key_is_the_sha256_of_the_bytes(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "input").write_bytes(data)
    assert bytes_key(data) == file_key(tmp_path / "input") == hashlib.sha256(data).digest()


def test_the_key_of_a_text_is_that_of_its_utf8() -> None:
    assert text_key("a café, 猫") == hashlib.sha256("a café, 猫".encode()).digest()


def test_a_renamed_file_keeps_its_key_and_an_edited_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"image")
    key = file_key(path)
    path = path.rename(tmp_path / "b.jpg")
    assert file_key(path) == key
    path.write_bytes(b"imagE")
    assert file_key(path) != key


@pytest.mark.parametrize("count", [0, 1, 300])
def test_an_array_of_keys_holds_the_keys_in_order(count: int) -> None:
    digests = [text_key(str(number)) for number in range(count)]
    stacked = key_array(iter(digests))
    assert stacked.shape == (count, 32)
    assert stacked.dtype == np.uint8
    assert [row.tobytes() for row in stacked] == digests


@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray], ids=["rows", "columns"])
def test_keys_sort_as_their_bytes_do(layout: Callable[[np.ndarray], np.ndarray]) -> None:
    digests = [text_key(str(number)) for number in range(300)]
    keys = layout(key_array(digests))
    order = np.argsort(sortable(keys))
    assert [digests[position] for position in order] == sorted(digests)
