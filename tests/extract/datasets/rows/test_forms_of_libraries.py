"""Data sets that the libraries of each form wrote give the keys and prompts of the folder of their images."""

import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.read import read_source
from tier4k.extract.datasets.locate import Locator
from tier4k.extract.datasets.rows.open import open_rows
from tier4k.extract.datasets.table_choice import RECOGNISED
from tier4k.extract.images.content import content_key
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.places import read_bytes, state
from tier4k.tests.builders.forms import (
    Pictures,
    pairs_of,
    problems_of,
    rows_of,
    tar_members,
    write_pictures,
    write_tar,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.mark.parametrize("kind", ["txt", "json"])
def test_rows_of_webdatasets_shards_are_those_of_the_folder(
    tmp_path: Path, pictures: Pictures, kind: str
) -> None:
    import webdataset

    pattern = str(tmp_path / "%03d.tar")
    with webdataset.ShardWriter(pattern, maxcount=2, verbose=0) as writer:
        for file, data, prompt in zip(pictures.files, pictures.contents, pictures.prompts, strict=True):
            text: Any = prompt if kind == "txt" else {"caption": prompt, "width": 40}
            writer.write({"__key__": f"part/{file.stem}", file.suffix[1:]: data, kind: text, "cls": 3})
    source = open_rows(tmp_path, RECOGNISED, True)
    assert pairs_of(source) == pictures.pairs
    assert pairs_of(open_rows(tmp_path / "{000..002}.tar", RECOGNISED, True)) == pictures.pairs
    samples = webdataset.WebDataset(str(tmp_path / "{000..002}.tar"), shardshuffle=False)
    keys = [sample["__key__"] for sample in samples]
    assert [row["name"].rpartition(".")[0] for row in rows_of(source)] == keys


def hugging_face(pictures: Pictures, data: Path) -> Any:
    import datasets

    columns = {"image": list(map(str, pictures.files)), "caption": list(pictures.prompts), "mos": [1.0] * 5}
    return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())


def test_rows_that_hugging_face_saved_are_those_of_the_folder(tmp_path: Path, pictures: Pictures) -> None:
    import datasets

    saved = hugging_face(pictures, tmp_path)
    saved.save_to_disk(tmp_path / "one", num_shards=2)
    source = open_rows(tmp_path / "one", RECOGNISED, True)
    assert pairs_of(source) == pictures.pairs
    assert {row["file"] for row in rows_of(source)} == {f"data-0000{n}-of-00002.arrow" for n in (0, 1)}
    saved.select([3, 1]).save_to_disk(tmp_path / "chosen")
    expected = [pictures.pairs[3], pictures.pairs[1]]
    assert pairs_of(open_rows(tmp_path / "chosen", RECOGNISED, True)) == expected
    datasets.DatasetDict(train=saved, test=saved).save_to_disk(tmp_path / "splits")
    with pytest.raises(DataError, match=r"several splits \(train, test\)"):
        open_rows(tmp_path / "splits", RECOGNISED, True)
    assert pairs_of(open_rows(tmp_path / "splits" / "test", RECOGNISED, True)) == pictures.pairs


def test_arrays_that_hugging_face_encoded_are_read_as_the_bytes_that_it_stored(tmp_path: Path) -> None:
    import datasets

    drawn = [Image.fromarray(np.full((9, 7, 3), shade, np.uint8)) for shade in (10, 200)]
    columns = {"image": drawn, "text": ["dark", "light"]}
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "d")
    rows = rows_of(open_rows(tmp_path / "d", RECOGNISED, True))
    loaded = datasets.load_from_disk(str(tmp_path / "d")).cast_column("image", datasets.Image(decode=False))
    assert [read_bytes(row["image"]) for row in rows] == [row["image"]["bytes"] for row in loaded]
    assert [row["prompt"] for row in rows] == ["dark", "light"]


def test_rows_of_hugging_faces_parquet_are_those_of_the_folder(tmp_path: Path, pictures: Pictures) -> None:
    import datasets

    saved = hugging_face(pictures, tmp_path)
    embedded = saved.with_format("arrow").map(datasets.table.embed_table_storage, batched=True)
    embedded.with_format(None).to_parquet(tmp_path / "t.parquet", batch_size=2)
    assert pairs_of(open_rows(tmp_path / "t.parquet", RECOGNISED, True)) == pictures.pairs


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv", "metadata.parquet"])
def test_an_image_folder_of_hugging_face_is_a_table(tmp_path: Path, pictures: Pictures, name: str) -> None:
    import datasets

    for file in pictures.files:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    names = [file.name for file in pictures.files]
    frame = pd.DataFrame({"file_name": names, "text": pictures.prompts, "mos": [1.0, 2.0, 3.0, 4.0, 5.0]})
    if name.endswith("jsonl"):
        frame.to_json(tmp_path / name, orient="records", lines=True)
    elif name.endswith("csv"):
        frame.to_csv(tmp_path / name, index=False)
    else:
        frame.to_parquet(tmp_path / name)
    manifest = check(tmp_path).manifest.table
    assert list(zip(manifest["image_key"], manifest["prompt"], strict=True)) == pictures.pairs
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path), cache_dir=str(tmp_path / "cache"))
    assert sorted(loaded["train"]["text"]) == sorted(pictures.prompts)
    if name.endswith("parquet"):
        assert pairs_of(open_rows(tmp_path, RECOGNISED, True)) == pictures.pairs


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """A bucket `pictures` of an S3 server in this process, and the client that fills it."""
    import boto3
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    values = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="pictures")
        yield client
    s3fs.S3FileSystem.clear_instance_cache()  # it has the address of this server
    server.stop()


def fill(client: Any, pictures: Pictures, folder: Path) -> None:
    """Put the images, archives of them, and tables with their bytes and their URLs into a bucket."""
    members = list(tar_members(pictures).items())
    write_tar(folder / "0.tar", members[:4])
    write_tar(folder / "1.tar", members[4:])
    urls = [f"s3://pictures/images/{file.name}" for file in pictures.files]
    prompts = pictures.prompts
    pq.write_table(pa.table({"image": pictures.contents, "prompt": prompts}), folder / "b.parquet", 2)
    pq.write_table(pa.table({"image": urls, "prompt": prompts}), folder / "u.parquet")
    relative = [f"images/{file.name}" for file in pictures.files]
    pq.write_table(pa.table({"image": relative, "prompt": prompts}), folder / "r.parquet")
    pd.DataFrame({"image": urls, "prompt": prompts, "mos": range(5)}).to_csv(folder / "u.csv", index=False)
    for file, data in zip(pictures.files, pictures.contents, strict=True):
        client.put_object(Bucket="pictures", Key=f"images/{file.name}", Body=data)
    for name in ("0.tar", "1.tar"):
        client.put_object(Bucket="pictures", Key=f"tars/{name}", Body=(folder / name).read_bytes())
    for name in ("b.parquet", "u.parquet", "r.parquet"):
        client.put_object(Bucket="pictures", Key=name, Body=(folder / name).read_bytes())


def test_every_form_on_an_s3_server_gives_the_keys_and_prompts_of_the_folder(
    tmp_path: Path, pictures: Pictures, bucket: Any
) -> None:
    fill(bucket, pictures, tmp_path)
    for data in ("tars/{0..1}.tar", "tars", "tars/", "b.parquet", "u.parquet", "r.parquet"):
        source = open_rows(f"s3://pictures/{data}", RECOGNISED, True)
        assert pairs_of(source) == pictures.pairs, data
        assert problems_of(source) == []
    assert pairs_of(open_rows(tmp_path / "u.parquet", RECOGNISED, True)) == pictures.pairs
    manifest = check(tmp_path / "u.csv").manifest.table  # stage 2 reads them too
    assert list(zip(manifest["image_key"], manifest["prompt"], strict=True)) == pictures.pairs
    source = open_rows("s3://pictures/tars/{0..2}.tar", RECOGNISED, True)
    assert problems_of(source) == [("2.tar", "there is no such object")]


def test_threads_and_another_process_read_from_an_s3_server(
    tmp_path: Path, pictures: Pictures, bucket: Any
) -> None:
    fill(bucket, pictures, tmp_path)
    places = []
    for data in ("tars", "b.parquet", "u.parquet"):
        places += [row["image"] for row in rows_of(open_rows(f"s3://pictures/{data}", RECOGNISED, True))]
    with ThreadPoolExecutor(8) as pool:
        keys = [content_key(data).hex() for data in pool.map(read_bytes, places)]
    assert keys == [key for key, _ in pictures.pairs] * 3
    code = (
        "import sys\n"
        "from tier4k.extract.images.content import content_key\n"
        "from tier4k.extract.images.places import read_bytes\n"
        "for place in sys.argv[1:]: print(content_key(read_bytes(place)).hex())"
    )
    run = subprocess.run([sys.executable, "-c", code, *places], capture_output=True, text=True, check=True)
    assert run.stdout.split() == keys
    pid = os.fork()  # a child of a process that has read from the server
    if not pid:
        os._exit(0 if content_key(read_bytes(places[0])).hex() == keys[0] else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_the_state_of_an_s3_object_is_that_of_its_etag(pictures: Pictures, bucket: Any) -> None:
    bucket.put_object(Bucket="pictures", Key="a.png", Body=b"one")
    before = state("s3://pictures/a.png")
    assert before == state("s3://pictures/a.png") and before.size == 3 and before.is_settled
    bucket.put_object(Bucket="pictures", Key="a.png", Body=b"two")
    assert state("s3://pictures/a.png") != before
    bucket.put_object(Bucket="pictures", Key="a.png", Body=b"one")
    assert state("s3://pictures/a.png").inode == before.inode
    for place in ("s3://pictures/b.png", "s3://nowhere/a.png"):
        with pytest.raises(ImageError, match="there is no such object"):
            read_bytes(place)
    assert Locator(Path.cwd()).place("s3://pictures/b.png") == "s3://pictures/b.png"


def test_a_web_server_is_read_and_its_lack_of_ranges_is_an_error(tmp_path: Path, pictures: Pictures) -> None:
    folder = pictures.files[0].parent
    write_tar(folder / "a.tar", tar_members(pictures))
    handler = functools.partial(_QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        urls = [f"{address}/{file.name}" for file in pictures.files]
        table = tmp_path / "t.parquet"
        pq.write_table(pa.table({"image": urls, "prompt": pictures.prompts}), table)
        assert pairs_of(open_rows(table, RECOGNISED, True)) == pictures.pairs
        assert state(urls[0]) == state(urls[0])  # by the header Last-Modified
        with pytest.raises(ImageError, match="sends no parts of files"):
            pairs_of(open_rows(f"{address}/a.tar", RECOGNISED, True))
        server.shutdown()
    assert read_source(table).frame["image"].tolist() == urls


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
