"""Before it encodes, an extraction says how many bytes it will write, and refuses too small a disk."""

import shutil
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tier4k.cache.errors import StoreError
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.images.crops import Crops
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.pipeline.disk_space import PlannedRows, bytes_to_write, require_disk_space
from tier4k.extract.pipeline.load import load_network
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.run import extract
from tier4k.tests.builders.data import tiny_encoder, write_pku
from tier4k.tests.builders.listener import Silent
from tier4k.tests.builders.signatures import signature
from tier4k.tests.builders.text_models import write_sentence_folder
from tier4k.tests.builders.transformers_models import few_fast, write_vision_folder

Usage = namedtuple("Usage", "total used free")
OPTIONS = ExtractionOptions(workers=0, batch_size=32, device="cpu")
MEGABYTE = 10**6
ROW = 32 + 8  # bytes of a key and of a check


@pytest.fixture
def set_free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[Path]]:
    """A function that sets the free bytes of the file system, and returns the folders that are asked for."""

    def set_bytes(free: int) -> list[Path]:
        asked: list[Path] = []

        def usage(path: Path) -> Usage:
            asked.append(Path(path))
            return Usage(10**15, 0, free)

        monkeypatch.setattr(shutil, "disk_usage", usage)
        return asked

    return set_bytes


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    write_pku(tmp_path / "data")
    return check(tmp_path / "data").manifest


def planned(rows: int, *shape: int, dtype: str = "float32", stream: str = "image") -> PlannedRows:
    return PlannedRows(replace(signature("clip", stream=stream), dtype=dtype), rows, shape)


def test_the_bytes_are_those_of_features_keys_and_checks() -> None:
    assert bytes_to_write([planned(10**7, 9216)]) == 10**7 * (9216 * 4 + ROW)  # 369 GB
    both = [planned(5, 3, 8, dtype="float16"), planned(2, 7, stream="text")]
    assert bytes_to_write(both) == 5 * (3 * 8 * 2 + ROW) + 2 * (7 * 4 + ROW)


def test_a_line_names_every_factor() -> None:
    line = str(planned(10**6, 5, 512, dtype="float16"))
    assert (
        line
        == "image clip: 5.2 GB to write (1,000,000 inputs of 5 crops of 512 numbers in float16, and keys)"
    )


def test_the_folder_may_be_missing_and_a_reserve_stays_free(
    tmp_path: Path, set_free: Callable[[int], list[Path]]
) -> None:
    rows = [planned(1000, 9216)]
    needed = 1000 * (9216 * 4 + ROW)
    asked = set_free(needed + 200 * MEGABYTE)
    require_disk_space(tmp_path / "not" / "yet", rows)
    assert asked == [tmp_path]
    set_free(needed + 200 * MEGABYTE - 1)
    with pytest.raises(StoreError, match=r"200\.0 MB must stay free"):
        require_disk_space(tmp_path, rows)


@pytest.mark.parametrize(
    ("free", "rows", "ways"),
    [
        (250, planned(10**6, 512), ["--features", "--store-dtype float16"]),
        (250, planned(10**6, 5, 512), ["--features", "--store-dtype float16", "fewer --crops"]),
        (250, planned(10**6, 512, dtype="float16"), ["--features"]),
        (250, planned(10**8, 1, stream="score"), ["--features"]),
        (200, planned(10**6, 5, 512), ["--features"]),
    ],
)
def test_the_remedies_are_those_that_help(
    tmp_path: Path, set_free: Callable[[int], list[Path]], free: int, rows: PlannedRows, ways: list[str]
) -> None:
    set_free(free * MEGABYTE)
    with pytest.raises(StoreError) as error:
        require_disk_space(tmp_path, [rows])
    message = str(error.value)
    assert f"{bytes_to_write([rows]):,} bytes" in message and f"{free},000,000 bytes" in message
    assert str(tmp_path) in message
    options = ("--features", "--store-dtype float16", "fewer --crops")
    assert [option for option in options if option in message] == ways


def test_what_is_announced_is_what_is_written(tmp_path: Path, manifest: Manifest, bert_folder: Path) -> None:
    encoder = tiny_encoder(tmp_path / "w")
    text = find_text_encoder("bert-base-uncased", bert_folder)
    several = [encoder, replace(encoder, crops=Crops(2), store_dtype="float16"), text]
    listener = Silent()
    extract(DatasetInputs.of(manifest), several, tmp_path / "f", OPTIONS, listener)
    for one, note in zip(several, listener.notes, strict=True):
        store = FeatureStore.open(tmp_path / "f" / one.signature.folder_name)
        features = store.read(store.keys)
        factors = [f"{len(features)} inputs", *([f"{features.shape[1]} crops"] if features.ndim > 2 else [])]
        assert " of ".join([*factors, f"{features.shape[-1]} numbers in {features.dtype}"]) in note
    repeated = Silent()
    extract(DatasetInputs.of(manifest), several, tmp_path / "f", OPTIONS, repeated)
    assert not repeated.notes


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    tmp_path: Path, manifest: Manifest, set_free: Callable[[int], list[Path]]
) -> None:
    set_free(200 * MEGABYTE)
    listener = Silent()
    with pytest.raises(StoreError, match="pass a folder on another file system as --features"):
        extract(DatasetInputs.of(manifest), [tiny_encoder(tmp_path / "w")], tmp_path / "f", OPTIONS, listener)
    assert not (tmp_path / "f").exists()
    assert listener.done == 0


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("feature", ["pooled", "multilevel"])
def test_the_width_of_a_network_is_that_of_its_features(
    tmp_path: Path, architecture: str, feature: str
) -> None:
    encoder = tiny_encoder(tmp_path, architecture, feature)
    network = load_network(encoder).frozen("bf16")
    side = encoder.preprocessing.size
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, side, side, dtype=torch.uint8)).shape == (2, network.width)


@pytest.mark.parametrize("name", few_fast("clip", names=("clip", "siglip2", "dinov2", "convnext")))
def test_the_width_of_a_network_of_transformers_is_that_of_its_features(tmp_path: Path, name: str) -> None:
    write_vision_folder(tmp_path / name, name)
    encoder = find_image_encoder(ImageChoice(f"hf:{tmp_path / name}"), folders=[Path("/")])
    network = load_network(encoder)
    side = encoder.preprocessing.size or 32  # SigLIP 2 reads images of any size
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, side, side, dtype=torch.uint8)).shape == (1, network.width)


def test_the_width_of_a_text_network_is_that_after_its_last_layer(tmp_path: Path) -> None:
    write_sentence_folder(tmp_path / "s", ("mean", "max"), ("Dense",), dense_width=12)
    network = load_network(find_text_encoder(f"hf:{tmp_path / 's'}", folders=[Path("/")]))
    assert network.width == 12
