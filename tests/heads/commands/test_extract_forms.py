"""`tier extract` of the same images in any form of data stores the same features under the same keys."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tier4k.cache.listing import stores
from tier4k.tests.builders.commands import on_one_line, succeed, tier
from tier4k.tests.builders.data import write_test_resnet
from tier4k.tests.builders.forms import Pictures, tar_members, write_pictures, write_tar
from tier4k.tests.builders.stores import hexadecimal_keys

pytestmark = pytest.mark.slow


@pytest.fixture
def pictures(tmp_path: Path, bert_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Pictures:
    """Images in a working directory that has the weights of both encoders."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(bert_folder, "bert-base-uncased")
    return write_pictures(tmp_path / "images")


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/", recursive=True)


def write_forms(pictures: Pictures, system: fsspec.AbstractFileSystem) -> list[str]:
    """Write every form; returns what a user passes as DATA."""
    prompts = pictures.prompts
    members = list(tar_members(pictures).items())
    Path("tars").mkdir()
    write_tar(Path("tars/0.tar"), members[:4])
    write_tar(Path("tars/1.tar"), members[4:])
    columns = {"image": pa.array([{"bytes": data, "path": None} for data in pictures.contents])}
    table = pa.table(columns | {"prompt": prompts})
    pq.write_table(table, "t.parquet", row_group_size=2)
    Path("saved").mkdir()
    with pa.ipc.new_stream("saved/data-00000-of-00001.arrow", table.schema) as stream:
        stream.write_table(table, max_chunksize=2)
    Path("saved/state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    Path("saved/dataset_info.json").write_text("{}")
    frame = pd.DataFrame({"file_name": [file.name for file in pictures.files], "text": prompts})
    frame.to_json("images/metadata.jsonl", orient="records", lines=True)
    for name in ("0.tar", "1.tar"):
        system.pipe(f"/tars/{name}", (Path("tars") / name).read_bytes())
    system.pipe("/t.parquet", Path("t.parquet").read_bytes())
    urls = []
    for file, data in zip(pictures.files, pictures.contents, strict=True):
        system.pipe(f"/images/{file.name}", data)
        urls.append(f"memory://images/{file.name}")
    pd.DataFrame({"image": urls, "prompt": prompts}).to_csv("urls.csv", index=False)
    return [
        *("tars", "t.parquet", "saved", "images"),
        *("memory://tars/{0..1}.tar", "memory://t.parquet", "urls.csv"),
    ]


def features_of(root: Path) -> dict[str, dict[str, np.ndarray]]:
    """{store: {key: its features}}."""
    found = {}
    for store in stores(root):
        keys = sorted(hexadecimal_keys(store))
        rows = np.frombuffer(bytes.fromhex("".join(keys)), np.uint8).reshape(-1, 32)
        found[store.path.name] = dict(zip(keys, store.read(rows), strict=True))
    return found


def test_every_form_has_the_features_of_the_folder(
    pictures: Pictures, memory: fsspec.AbstractFileSystem
) -> None:
    options = write_test_resnet(Path.cwd())
    frame = pd.DataFrame({"image": list(map(str, pictures.files)), "prompt": pictures.prompts})
    frame.to_csv("folder.csv", index=False)
    succeed("extract", "folder.csv", "-F", "expected", *options)
    expected = features_of(Path("expected"))
    assert sorted(map(len, expected.values())) == [5, 5]
    assert any(key in features for key, _ in pictures.pairs for features in expected.values())
    for number, data in enumerate(write_forms(pictures, memory)):
        succeed("extract", data, "-F", f"f{number}", *options)
        found = features_of(Path(f"f{number}"))
        assert found.keys() == expected.keys()
        for store, features in expected.items():
            assert found[store].keys() == features.keys(), data
            assert all(np.array_equal(found[store][key], features[key]) for key in features), data


def test_broken_members_stop_the_work_or_are_left_out(pictures: Pictures) -> None:
    options = write_test_resnet(Path.cwd())
    members = [*tar_members(pictures).items(), ("no-prompt.png", b"x"), ("x.json", b"{")]
    data = write_tar(Path("a.tar"), members).read_bytes()
    Path("a.tar").write_bytes(data[: data.index(b"x.json") + 512])
    code, output = tier("extract", "a.tar", "-F", "f", *options)
    assert code == 2
    output = on_one_line(output)
    assert "no-prompt has no prompt: add no-prompt.txt" in output
    assert "x has no image, but x.json" in output
    succeed("extract", "a.tar", "-F", "f", "--on-error", "skip", *options)
    assert [len(features) for features in features_of(Path("f")).values()] == [5, 5]
    assert "no-prompt.png" in Path("f/skipped.csv").read_text()
