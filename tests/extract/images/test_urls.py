"""Images at URLs: read by fsspec in any thread, with bounded retries; their state is what the server says."""

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tier4k.extract.images import urls
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.place_names import FileSlice, is_url, parquet_place, parse_slice_place, slice_place
from tier4k.extract.images.places import read_bytes, size, state

CONTENT = bytes(range(256)) * 4


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryFileSystem]:
    """The file system of memory://, empty; no try waits."""
    monkeypatch.setattr(urls, "FIRST_WAIT_S", 0.0)
    urls._states.forget()
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/a.png", True),
        ("https://example.org/a.png?x=1", True),
        ("a.png", False),
        ("/data/s3://a.png", False),
        ("C:/a.png", False),
        ("s3:/bucket/a.png", False),
    ],
)
def test_a_url_is_distinguished_from_a_path(text: str, expected: bool) -> None:
    assert is_url(text) == expected


@pytest.mark.parametrize("name", ["a.png", "f/a 50%.png", "[1+2]", "x\udce9.png", "图/a#[3].png"])
@pytest.mark.parametrize("file", ["/data/a [1+2]/#b/c.tar", "s3://bucket/c.tar"])
def test_the_place_of_a_part_of_a_file_is_read_back(file: str, name: str) -> None:
    place = slice_place(file, name, 512, 1024)
    assert parse_slice_place(place) == FileSlice(file, name, 512, 1024)
    assert parse_slice_place(os.fsdecode(os.fsencode(place))) == FileSlice(file, name, 512, 1024)
    assert parse_slice_place(file) is None
    assert parse_slice_place(parquet_place(file, name, 3)) is None


def test_an_object_its_parts_and_rows_of_a_table_are_read_by_many_threads(memory: MemoryFileSystem) -> None:
    memory.pipe("/d/a.bin", CONTENT)
    images = [CONTENT[:number] for number in range(20)]
    with memory.open("/d/t.parquet", "wb") as file:
        pq.write_table(pa.table({"image": images}), file, row_group_size=3)
    places = ["memory://d/a.bin", *(slice_place("memory://d/a.bin", "x", n, 2 * n) for n in range(300))]
    expected = [CONTENT, *(CONTENT[n : 3 * n] for n in range(300))]
    places += [parquet_place("memory://d/t.parquet", "image", row) for row in range(20)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read_bytes, places)) == [*expected, *images]
        assert list(pool.map(size, places)) == list(map(len, [*expected, *images]))


def test_the_state_changes_with_the_object(memory: MemoryFileSystem) -> None:
    memory.pipe("/a.png", CONTENT)
    before = state("memory://a.png")
    assert before == state("memory://a.png") and before.is_settled and before.size == len(CONTENT)
    memory.pipe("/a.png", CONTENT[::-1])
    assert state("memory://a.png") != before
    assert 0 <= before.inode < 2**63


def test_a_server_that_states_no_version_has_a_new_state_each_time(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryFileSystem, "info", lambda *_, **__: {"size": 5, "type": "file"})
    first = state("memory://a.png")
    assert first != state("memory://a.png")
    assert not first.is_settled


def test_the_state_of_an_archive_is_asked_for_once_a_minute(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe("/a.tar", CONTENT)
    first = state(slice_place("memory://a.tar", "x", 0, 1))
    memory.pipe("/a.tar", CONTENT[::-1])
    assert state(slice_place("memory://a.tar", "y", 1, 1)) == first
    monkeypatch.setattr(urls, "STATE_KEPT_S", 0.0)
    assert state(slice_place("memory://a.tar", "y", 1, 1)) != first


def fail_times(monkeypatch: pytest.MonkeyPatch, error: Exception, times: int) -> list[int]:
    """Let the next reads of memory:// fail; the list has one entry for each read."""
    calls: list[int] = []
    original = MemoryFileSystem.cat_file

    def cat_file(system: MemoryFileSystem, *args: object, **options: object) -> bytes:
        calls.append(1)
        if len(calls) <= times:
            raise error
        return original(system, *args, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    return calls


@pytest.mark.parametrize("error", [OSError("reset by peer"), TimeoutError(), RuntimeError("busy")])
def test_a_read_that_fails_is_tried_again_but_not_for_ever(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    memory.pipe("/a.png", CONTENT)
    calls = fail_times(monkeypatch, error, 2)
    assert read_bytes("memory://a.png") == CONTENT
    assert len(calls) == 3
    monkeypatch.undo()
    monkeypatch.setattr(urls, "FIRST_WAIT_S", 0.0)
    calls = fail_times(monkeypatch, error, 99)
    with pytest.raises(ImageError, match="the object cannot be read"):
        read_bytes("memory://a.png")
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("error", "message"),
    [(FileNotFoundError("x"), "there is no such object"), (PermissionError("not yours"), "not yours")],
)
def test_an_error_that_stays_is_tried_once(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    calls = fail_times(monkeypatch, error, 99)
    with pytest.raises(ImageError, match=message):
        read_bytes("memory://a.png")
    assert len(calls) == 1


def test_what_does_not_exist_or_is_too_short_is_an_error(memory: MemoryFileSystem) -> None:
    memory.pipe("/a.tar", CONTENT)
    for look in (read_bytes, size, state):
        with pytest.raises(ImageError, match="there is no such object"):
            look("memory://b.png")
    with pytest.raises(ImageError, match="the object ends 1 bytes before the end of the image"):
        read_bytes(slice_place("memory://a.tar", "x", 1020, 5))


def test_a_server_that_sends_only_whole_files_is_an_error_that_says_so(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryFileSystem, "cat_file", lambda *_, **__: CONTENT)
    with pytest.raises(ImageError, match="sends no parts of files"):
        read_bytes(slice_place("memory://a.tar", "x", 0, 5))


@pytest.mark.parametrize(
    ("url", "module", "remedy"),
    [("s3://b/a.png", "s3fs", r"tier4k\[s3\]"), ("gs://b/a.png", "gcsfs", r"tier4k\[gs\]")],
)
def test_a_missing_library_is_an_error_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, url: str, module: str, remedy: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, url.partition(":")[0], raising=False)
    with pytest.raises(ImageError, match=f"pip install '{remedy}'"):
        read_bytes(url)


def test_an_unknown_kind_of_url_is_an_error() -> None:
    with pytest.raises(ImageError, match="nowhere:// is no kind of URL"):
        read_bytes("nowhere://a.png")


@pytest.mark.parametrize("buffer", [1, 7, 2**22])
def test_an_open_object_is_read_like_a_file(
    memory: MemoryFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buffer: int
) -> None:
    monkeypatch.setattr(urls, "BUFFER_BYTES", buffer)
    memory.pipe("/a.bin", CONTENT)
    (tmp_path / "a.bin").write_bytes(CONTENT)
    acts: list[Callable] = [
        lambda file: file.read(10),
        lambda file: file.seek(-5, os.SEEK_END),
        lambda file: file.read(),
        lambda file: file.seek(100),
        lambda file: file.seek(3, os.SEEK_CUR),
        lambda file: (file.tell(), file.read(20)),
        lambda file: (file.seek(2000), file.read(3)),
        lambda file: (file.seek(0), file.read()),
    ]
    with urls.open_url("memory://a.bin") as remote, open(tmp_path / "a.bin", "rb") as local:
        for act in acts:
            assert act(remote) == act(local)


def test_a_server_that_is_down_is_not_an_object_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsspec says FileNotFoundError of both."""
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(urls, "FIRST_WAIT_S", 0.0)
    for look in (read_bytes, state):
        with pytest.raises(ImageError, match="the object cannot be read .*Cannot connect"):
            look("http://127.0.0.1:9/a.png")
