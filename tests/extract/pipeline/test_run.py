"""Stage 1 encodes every distinct input once, under the key of its bytes, and keeps it when it is stopped."""

import json
import os
import pickle
import shutil
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tier4k.cache.atomic import TEMPORARY_PREFIX
from tier4k.cache.errors import StoreError
from tier4k.cache.keys import key_array
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders import load
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.find import find_text_encoder
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.extract.images.crops import Crops
from tier4k.extract.images.decode import decode
from tier4k.extract.images.pixels import decode_pixels
from tier4k.extract.images.preprocessing import Preprocessing, reference
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.inputs.record import records
from tier4k.extract.pipeline.batch_size import BatchSize
from tier4k.extract.pipeline.cut_units import image_units
from tier4k.extract.pipeline.device import choose_device
from tier4k.extract.pipeline.image_reader import ImageReader, ImageVariant, ImageVariants
from tier4k.extract.pipeline.listener import StreamSummary
from tier4k.extract.pipeline.load import load_network
from tier4k.extract.pipeline.options import ExtractionError, ExtractionOptions
from tier4k.extract.pipeline.run import extract
from tier4k.extract.pipeline.unreadable import require_all_encoded
from tier4k.tests.builders.data import save_picture, save_table, tiny_encoder, write_pku
from tier4k.tests.builders.golden import write_tiny_bert
from tier4k.tests.builders.listener import Silent
from tier4k.tests.builders.preprocessed import preprocessed
from tier4k.tests.builders.stores import hexadecimal_keys

OPTIONS = ExtractionOptions(workers=0, batch_size=3, unit_rows=3, device="cpu")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> ImageEncoder:
    return tiny_encoder(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    folder = tmp_path_factory.mktemp("text")
    write_tiny_bert(folder)
    return find_text_encoder("bert-base-uncased", folder)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The number of rows that went through each network."""
    seen = {"image": 0, "text": 0}
    encode_image, encode_text = ImageNetwork.forward, TextNetwork.forward

    def count_image(self: ImageNetwork, images: torch.Tensor) -> torch.Tensor:
        seen["image"] += len(images)
        return encode_image(self, images)

    def count_text(self: TextNetwork, batch) -> torch.Tensor:
        seen["text"] += len(batch.ids)
        return encode_text(self, batch)

    monkeypatch.setattr(ImageNetwork, "forward", count_image)
    monkeypatch.setattr(TextNetwork, "forward", count_text)
    return seen


def run(
    data: Path,
    encoders: Sequence[ImageEncoder | TextEncoder],
    root: Path,
    options: ExtractionOptions = OPTIONS,
) -> list[StreamSummary]:
    return extract(DatasetInputs.of(check(data).manifest), encoders, root, options, Silent())


def stored(root: Path, encoder: ImageEncoder | TextEncoder, manifest: Manifest) -> np.ndarray:
    inputs = manifest.images() if isinstance(encoder, ImageEncoder) else manifest.prompts()
    return FeatureStore.open(root / encoder.signature.folder_name).read(
        key_array(map(bytes.fromhex, inputs.index))
    )


def test_every_distinct_input_passes_its_network_once(tmp_path: Path, image, text, rows) -> None:
    write_pku(tmp_path / "data", rows=12, image_to_image=6)
    shutil.copy(
        tmp_path / "data" / "I2I" / "Image_prompt" / "0.png",
        tmp_path / "data" / "I2I" / "Image_prompt" / "1.png",
    )
    listener = Silent()
    summaries = extract(
        DatasetInputs.of(check(tmp_path / "data").manifest), [image, text], tmp_path / "f", OPTIONS, listener
    )
    assert rows == {"image": 12 + 2, "text": 6}  # three image prompts, two of them alike
    assert [(one.stream, one.inputs, one.encoded) for one in summaries] == [("image", 14, 14), ("text", 6, 6)]
    assert listener.total == rows and listener.done == 20
    assert all(one.timing.encode > 0 and one.timing.total >= one.timing.encode for one in summaries)


def test_features_are_those_of_the_file_under_its_key(tmp_path: Path, image, text) -> None:
    write_pku(tmp_path / "data")
    manifest = check(tmp_path / "data").manifest
    extract(DatasetInputs.of(manifest), [image, text], tmp_path / "f", OPTIONS, Silent())
    network = load_network(image)
    with torch.inference_mode():
        expected = [
            network(preprocessed(image.preprocessing, decode(Path(path).read_bytes()))[None])[0].numpy()
            for path in manifest.images()
        ]
        texts = load_network(text)
        expected_texts = [texts(texts.tokenize([prompt]))[0].numpy() for prompt in manifest.prompts()]
    np.testing.assert_allclose(stored(tmp_path / "f", image, manifest), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stored(tmp_path / "f", text, manifest), expected_texts, rtol=1e-4, atol=1e-5)


def test_a_second_run_encodes_nothing_and_loads_no_network(
    tmp_path: Path, image, text, rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pku(tmp_path / "data")
    run(tmp_path / "data", [image, text], tmp_path / "f")
    monkeypatch.setattr(load, "load_image_network", lambda *_: pytest.fail("the network was loaded"))
    monkeypatch.setattr(TextNetwork, "of", lambda *_: pytest.fail("the network was loaded"))
    before = dict(rows)
    files = sorted(path for path in (tmp_path / "f").rglob("*"))
    assert [one.encoded for one in run(tmp_path / "data", [image, text], tmp_path / "f")] == [0, 0]
    assert rows == before
    assert sorted((tmp_path / "f").rglob("*")) == files


def test_a_grown_and_renamed_data_set_costs_exactly_what_is_new(tmp_path: Path, image, text, rows) -> None:
    data = tmp_path / "data"
    frame = write_pku(data, rows=16, image_to_image=6)
    run(data, [image, text], tmp_path / "f")
    for row in range(10):
        name = frame.loc[row, "Generated_image"]
        (data / "All" / name).rename(data / "All" / f"renamed_{name}")
        frame.loc[row, "Generated_image"] = f"renamed_{name}"
    new = [
        (f"SD_{row}.png", None, "a new prompt" if row < 5 else frame.loc[row, "Text_prompt"], 1.0, 2.0, 3.0)
        for row in range(10)
    ]
    for row in range(10):
        save_picture(data / "All" / f"SD_{row}.png", 9000 + row)
    save_table(pd.concat([frame, pd.DataFrame(new, columns=frame.columns)]), data / "annotation.xlsx")
    rows.update(image=0, text=0)
    run(data, [image, text], tmp_path / "f")
    assert rows == {"image": 10, "text": 1}


def test_the_data_set_is_recorded_before_the_first_input_is_encoded(
    tmp_path: Path, image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`store gc` keeps a store that is being filled."""
    write_pku(tmp_path / "data")
    recorded: list[str] = []

    def look(self: Silent, stream: str, total: int) -> None:
        recorded.extend(record.about.name for record in records(tmp_path / "f").sound)
        assert not list((tmp_path / "f").glob("*/*.h5"))

    monkeypatch.setattr(Silent, "started", look)
    run(tmp_path / "data", [image], tmp_path / "f")
    assert len(recorded) == 1


def test_the_data_set_is_recorded_where_all_inputs_are_stored(tmp_path: Path, image) -> None:
    write_pku(tmp_path / "data")
    run(tmp_path / "data", [image], tmp_path / "f")
    shutil.rmtree(tmp_path / "f" / "datasets")
    run(tmp_path / "data", [image], tmp_path / "f")
    (record,) = records(tmp_path / "f").sound
    assert len(record.keys_of("image")) == 10


def test_a_library_user_gets_extract_json_of_the_last_extraction_that_encoded(tmp_path: Path, image) -> None:
    write_pku(tmp_path / "data")
    manifest = check(tmp_path / "data").manifest
    path = tmp_path / "f" / "extract.json"
    data = ["Dataset", "more"]
    extract(
        DatasetInputs.of(manifest),
        [image],
        tmp_path / "f",
        OPTIONS,
        Silent(),
        data=data,
        command=["tier", "extract"],
    )
    found = json.loads(path.read_text())
    assert found["data"] == "Dataset more"
    assert found["command"] == ["tier", "extract"]
    assert found["encoders"][0]["encoded"] == 10
    extract(DatasetInputs.of(manifest), [image], tmp_path / "f", OPTIONS, Silent())
    assert json.loads(path.read_text()) == found


def test_extraction_leaves_the_process_as_it_was(tmp_path: Path, image) -> None:
    write_pku(tmp_path / "data")
    environment = dict(os.environ)
    convolutions = torch.backends.cudnn.allow_tf32
    run(tmp_path / "data", [image], tmp_path / "f")
    assert dict(os.environ) == environment
    assert torch.backends.cudnn.allow_tf32 == convolutions


def test_another_encoder_has_another_store(tmp_path: Path, image, rows) -> None:
    write_pku(tmp_path / "data")
    other = tiny_encoder(tmp_path / "w", seed=1)
    first, second = run(tmp_path / "data", [image, other], tmp_path / "f")
    assert first.store != second.store and second.encoded == second.inputs == 10


@pytest.mark.parametrize(
    "options",
    [
        ExtractionOptions(0, 1, 1),
        ExtractionOptions(2, 4, 2, unit_rows=5),
        ExtractionOptions(0, 64, 64, shard_rows=3),
    ],
)
def test_batches_workers_and_shards_change_no_feature(
    tmp_path: Path, image, text, options: ExtractionOptions
) -> None:
    write_pku(tmp_path / "data")
    manifest = check(tmp_path / "data").manifest
    extract(DatasetInputs.of(manifest), [image, text], tmp_path / "one", OPTIONS, Silent())
    extract(DatasetInputs.of(manifest), [image, text], tmp_path / "two", options, Silent())
    for encoder in (image, text):
        one, two = (stored(tmp_path / root, encoder, manifest) for root in ("one", "two"))
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5 * np.abs(one).max())


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "change",
    [
        lambda path: save_picture(path, 999),
        lambda path: path.write_bytes(b"broken"),
        lambda path: path.unlink(),
    ],
)
def test_an_image_that_changes_after_the_check_costs_its_row_alone(
    tmp_path: Path, image, workers: int, change
) -> None:
    write_pku(tmp_path / "data")
    manifest = check(tmp_path / "data").manifest
    images = manifest.images()
    path, before = Path(images.iloc[7]), Path(images.iloc[7]).read_bytes()
    change(path)
    options = ExtractionOptions(workers, batch_size=3, unit_rows=3, device="cpu")
    listener = Silent()
    (summary,) = extract(DatasetInputs.of(manifest), [image], tmp_path / "f", options, listener)
    assert summary.encoded == len(images) - 1
    assert listener.done == listener.total["image"] == len(images)
    assert [Path(one.place) for one in summary.unreadable] == [path]
    with pytest.raises(ExtractionError, match=f"1 image was left out.*{path.name}.*--on-error skip"):
        require_all_encoded([summary])
    store = FeatureStore.open(tmp_path / "f" / image.signature.folder_name)
    assert hexadecimal_keys(store) == set(images.index) - {images.index[7]}
    path.write_bytes(before)
    (summary,) = extract(DatasetInputs.of(manifest), [image], tmp_path / "f", options, Silent())
    assert summary.encoded == 1
    require_all_encoded([summary])
    extract(DatasetInputs.of(manifest), [image], tmp_path / "whole", options, Silent())
    assert np.allclose(
        stored(tmp_path / "f", image, manifest), stored(tmp_path / "whole", image, manifest), rtol=1e-4
    )


def test_a_pipe_in_place_of_an_image_costs_its_row_and_waits_for_nobody(tmp_path: Path, image) -> None:
    write_pku(tmp_path / "data")
    manifest = check(tmp_path / "data").manifest
    pipe = Path(manifest.images().iloc[2])
    pipe.unlink()
    os.mkfifo(pipe)
    (summary,) = extract(DatasetInputs.of(manifest), [image], tmp_path / "f", OPTIONS, Silent())
    assert [(one.place, one.reason) for one in summary.unreadable] == [
        (str(pipe), "the file cannot be read (it is a pipe or a device)")
    ]


def test_too_little_memory_for_reading_is_no_fault_of_the_image(
    tmp_path: Path, image, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pku(tmp_path / "data")
    manifest = check(tmp_path / "data").manifest

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("tier4k.extract.pipeline.image_reader.read_pixels", fail)
    with pytest.raises(ExtractionError, match="too little memory to read .* pass a smaller --workers"):
        extract(DatasetInputs.of(manifest), [image], tmp_path / "f", OPTIONS, Silent())


def test_a_unit_of_images_that_cannot_be_read_costs_nothing_else(tmp_path: Path, image) -> None:
    write_pku(tmp_path / "data")
    manifest = check(tmp_path / "data").manifest
    images = manifest.images()
    for place in images.iloc[3:6]:
        Path(place).unlink()
    (summary,) = extract(DatasetInputs.of(manifest), [image], tmp_path / "f", OPTIONS, Silent())
    assert summary.encoded == len(images) - 3
    assert [one.place for one in summary.unreadable] == images.iloc[3:6].tolist()


def test_an_interrupt_keeps_encoded_features_and_the_next_run_continues(
    tmp_path: Path, image, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pku(tmp_path / "data")
    manifest = check(tmp_path / "data").manifest
    forward, batches = ImageNetwork.forward, []

    def interrupted(self: ImageNetwork, images: torch.Tensor) -> torch.Tensor:
        batches.append(len(images))
        if len(batches) == 3:
            raise KeyboardInterrupt
        return forward(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(ImageNetwork, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            extract(DatasetInputs.of(manifest), [image], tmp_path / "f", OPTIONS, Silent())
    assert hexadecimal_keys(FeatureStore.open(tmp_path / "f" / image.signature.folder_name)) == set(
        manifest.images().index[:6]
    )
    assert (
        extract(DatasetInputs.of(manifest), [image], tmp_path / "f", OPTIONS, Silent())[0].encoded
        == len(manifest.images()) - 6
    )
    extract(DatasetInputs.of(manifest), [image], tmp_path / "whole", OPTIONS, Silent())
    parts, whole = (stored(tmp_path / root, image, manifest) for root in ("f", "whole"))
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5 * np.abs(whole).max())


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path: Path, image) -> None:
    write_pku(tmp_path / "data")
    (tmp_path / "f").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="cannot write"):
        run(tmp_path / "data", [image], tmp_path / "f")


@pytest.mark.parametrize("name", ["cuda:99", "tpu", ""])
def test_a_device_that_does_not_exist_is_an_error_and_leaves_no_store(
    tmp_path: Path, image, name: str
) -> None:
    write_pku(tmp_path / "data")
    with pytest.raises(ExtractionError, match="cannot be used.*pass --device auto, cpu, cuda"):
        run(tmp_path / "data", [image], tmp_path / "f", ExtractionOptions(0, device=name))
    assert not (tmp_path / "f").exists()
    assert choose_device("cpu").type == "cpu"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bytes of every image that is decoded, in order."""
    seen: list[bytes] = []

    def count(data: bytes):
        seen.append(data)
        return decode_pixels(data)

    monkeypatch.setattr("tier4k.extract.images.pixels.decode_pixels", count)
    return seen


def test_each_image_is_decoded_once_for_all_encoders_and_their_features_stay_the_same(
    tmp_path: Path, image, decoded
) -> None:
    write_pku(tmp_path / "data")
    manifest = check(tmp_path / "data").manifest
    other = replace(tiny_encoder(tmp_path / "w", "test_efficientnet"), feature="multilevel", crops=Crops(2))
    larger = replace(image, preprocessing=reference(96, 100))
    encoders = [image, other, larger]
    summaries = extract(DatasetInputs.of(manifest), encoders, tmp_path / "together", OPTIONS, Silent())
    assert sorted(decoded) == sorted(Path(path).read_bytes() for path in manifest.images())
    assert [one.encoded for one in summaries] == [10, 10, 10]
    for encoder in encoders:
        extract(DatasetInputs.of(manifest), [encoder], tmp_path / "alone", OPTIONS, Silent())
        assert np.array_equal(
            stored(tmp_path / "together", encoder, manifest), stored(tmp_path / "alone", encoder, manifest)
        )


def test_of_several_encoders_each_encodes_only_what_it_misses(tmp_path: Path, image, decoded, rows) -> None:
    write_pku(tmp_path / "data", rows=6)
    run(tmp_path / "data", [image], tmp_path / "f")
    write_pku(tmp_path / "data", rows=12)
    manifest, other = check(tmp_path / "data").manifest, tiny_encoder(tmp_path / "w", seed=1)
    before = hexadecimal_keys(FeatureStore.open(tmp_path / "f" / image.signature.folder_name))
    new = [key for key in manifest.images().index if key not in before]
    assert 0 < len(new) < len(manifest.images())
    decoded.clear()
    rows.update(image=0)
    listener = Silent()
    summaries = extract(DatasetInputs.of(manifest), [image, other], tmp_path / "f", OPTIONS, listener)
    assert [one.encoded for one in summaries] == [len(new), len(manifest.images())]
    assert len(decoded) == len(manifest.images()) == listener.total["image"] == listener.done
    assert rows["image"] == len(new) + len(manifest.images())
    extract(DatasetInputs.of(manifest), [image], tmp_path / "whole", OPTIONS, Silent())
    extract(DatasetInputs.of(manifest), [other], tmp_path / "whole", OPTIONS, Silent())
    for encoder in (image, other):
        found, expected = (stored(tmp_path / root, encoder, manifest) for root in ("f", "whole"))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_encoders_of_equal_preprocessing_share_it(
    tmp_path: Path, image, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pku(tmp_path / "data")
    sizes: list[int] = []
    apply = Preprocessing.apply

    def counting(self: Preprocessing, pixels: np.ndarray) -> np.ndarray:
        sizes.append(self.size)
        return apply(self, pixels)

    monkeypatch.setattr(Preprocessing, "apply", counting)
    other, larger = tiny_encoder(tmp_path / "w", seed=1), replace(image, preprocessing=reference(96, 100))
    run(tmp_path / "data", [image, other, larger], tmp_path / "f")
    assert (sizes.count(64), sizes.count(96)) == (10, 10)


def test_an_encoder_named_twice_is_one(tmp_path: Path, image, rows) -> None:
    write_pku(tmp_path / "data")
    assert [one.encoded for one in run(tmp_path / "data", [image, replace(image)], tmp_path / "f")] == [10]
    assert rows["image"] == 10


def test_an_interrupt_costs_one_batch_of_one_encoder_and_doubles_nothing(
    tmp_path: Path, image, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pku(tmp_path / "data")
    manifest, other = check(tmp_path / "data").manifest, tiny_encoder(tmp_path / "w", seed=1)
    forward, batches = ImageNetwork.forward, []

    def interrupted(self: ImageNetwork, images: torch.Tensor) -> torch.Tensor:
        batches.append(len(images))
        if len(batches) == 4:  # the second batch of the second encoder
            raise KeyboardInterrupt
        return forward(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(ImageNetwork, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            extract(DatasetInputs.of(manifest), [image, other], tmp_path / "f", OPTIONS, Silent())
    assert [
        one.encoded
        for one in extract(DatasetInputs.of(manifest), [image, other], tmp_path / "f", OPTIONS, Silent())
    ] == [10 - 6, 10 - 3]
    for encoder in (image, other):
        store = FeatureStore.open(tmp_path / "f" / encoder.signature.folder_name)
        assert sum(shard.count for shard in store.shards) == len(store.keys) == 10


def test_a_killed_extraction_loses_one_batch_of_a_slow_encoder(
    tmp_path: Path, image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All ten images are one unit of two encoders. At most two batches wait to be stored."""
    write_pku(tmp_path / "data")
    manifest, other = check(tmp_path / "data").manifest, tiny_encoder(tmp_path / "w", seed=1)
    now, stored_rows = 0.0, []
    monkeypatch.setattr("tier4k.cache.writer.time.monotonic", lambda: now)
    forward = ImageNetwork.forward

    def slow(self: ImageNetwork, images: torch.Tensor) -> torch.Tensor:
        nonlocal now
        now += 41
        store = FeatureStore.open(tmp_path / "f" / image.signature.folder_name)
        stored_rows.append(store.rows)
        return forward(self, images)

    monkeypatch.setattr(ImageNetwork, "forward", slow)
    options = replace(OPTIONS, unit_rows=12)
    extract(DatasetInputs.of(manifest), [image, other], tmp_path / "f", options, Silent())
    assert len(stored_rows) == 8
    assert stored_rows[3] >= 3
    assert stored_rows[-1] == 10  # while the other encoder encodes its last batch


@pytest.mark.parametrize("workers", [0, 2])
def test_whole_images_of_many_shapes_are_encoded_as_one_by_one(tmp_path: Path, image, workers: int) -> None:
    write_pku(tmp_path / "data", rows=8)  # of eight widths
    manifest = check(tmp_path / "data").manifest
    whole = replace(image, preprocessing=image.preprocessing.whole(48))
    extract(
        DatasetInputs.of(manifest),
        [whole],
        tmp_path / "f",
        ExtractionOptions(workers, 4, device="cpu"),
        Silent(),
    )
    network = load_network(whole)
    images = [
        preprocessed(whole.preprocessing, decode(Path(path).read_bytes())) for path in manifest.images()
    ]
    assert len({pixels.shape for pixels in images}) > 4
    with torch.inference_mode():
        expected = np.array([network(pixels[None])[0].numpy() for pixels in images])
    np.testing.assert_allclose(
        stored(tmp_path / "f", whole, manifest), expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )


def test_small_whole_images_and_long_strips_are_encoded_with_the_others(tmp_path: Path, image) -> None:
    write_pku(tmp_path / "data")  # 30 pixels high
    save_picture(tmp_path / "data" / "All" / "MJ_1000_00.png", 1, (900, 9))
    whole = replace(image, preprocessing=image.preprocessing.whole("full"), crops=Crops(1))
    assert [one.encoded for one in run(tmp_path / "data", [whole], tmp_path / "f")] == [8 + 2]


def test_an_image_too_small_for_its_encoder_is_an_error_with_its_remedy(
    tmp_path: Path, image, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pku(tmp_path / "data")
    narrow = torch.nn.Conv2d(3, 4, 33)
    monkeypatch.setattr(ImageNetwork, "forward", lambda _self, images: narrow(images.float()).mean((2, 3)))
    with pytest.raises(
        ExtractionError,
        match="a crop of .* x 32 pixels is too small for this encoder: pass a larger --image-size",
    ):
        run(tmp_path / "data", [replace(image, preprocessing=image.preprocessing.whole(32))], tmp_path / "f")


def test_the_reader_can_be_sent_to_another_process(tmp_path: Path, image) -> None:
    write_pku(tmp_path / "data")
    images = DatasetInputs.of(check(tmp_path / "data").manifest).images
    variants = [
        ImageVariant(image.preprocessing, Crops(2)),
        ImageVariant(image.preprocessing.whole(48), Crops()),
    ]
    device = torch.device("cpu")
    reader = ImageReader(ImageVariants.of(variants, device), device)
    (unit,) = image_units(images, np.arange(2 * len(images)).reshape(2, -1) % len(images) == 3, 99)
    unit_there, reader_there = pickle.loads(pickle.dumps((unit, reader)))
    read, expected = reader_there.read(unit_there), reader.read(unit)
    assert bytes(unit_there.keys) == bytes(images.keys[3])
    assert read.numbers.tolist() == [0]
    assert [sum(len(stack.pixels) for stack in stacks) for stacks in read.images] == [3, 1]
    for found, other in zip(read.images, expected.images, strict=True):
        assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(found, other, strict=True))


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit"])
def test_a_batch_of_1_and_of_32_give_the_same_features(tmp_path: Path, architecture: str) -> None:
    write_pku(tmp_path / "data", rows=32, image_to_image=0)
    manifest, encoder = check(tmp_path / "data").manifest, tiny_encoder(tmp_path, architecture)
    for size in (1, 32):
        extract(
            DatasetInputs.of(manifest),
            [encoder],
            tmp_path / str(size),
            ExtractionOptions(0, size, device="cpu"),
            Silent(),
        )
    one, many = (stored(tmp_path / size, encoder, manifest) for size in ("1", "32"))
    assert np.linalg.norm(many - one, axis=1).max() < 1e-4 * np.linalg.norm(one, axis=1).min()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_stored_as_float32_and_stays_close(
    tmp_path: Path, image, text, precision: str
) -> None:
    write_pku(tmp_path / "data")
    manifest = check(tmp_path / "data").manifest
    extract(DatasetInputs.of(manifest), [image, text], tmp_path / "f", OPTIONS, Silent())
    for encoder in (image, text):
        half = replace(encoder, precision=precision)
        extract(DatasetInputs.of(manifest), [half], tmp_path / "f", OPTIONS, Silent())
        found, expected = (stored(tmp_path / "f", one, manifest) for one in (half, encoder))
        assert found.dtype == np.float32 and not np.array_equal(found, expected)
        cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
        assert cosine.min() >= 0.999


def settle(rates: dict[int, float]) -> list[int]:
    """Return the batch sizes that are tried when a batch of B images runs at `rates[B]`."""
    size, tried = BatchSize(None, "cpu"), []
    for _ in range(30):
        tried.append(size.current)
        size.measured(32, 1000, 1 / rates[size.current])
    return [one for one, before in zip(tried, [None, *tried], strict=False) if one != before]


@pytest.mark.parametrize(
    ("rates", "sizes"),
    [
        ({4: 10, 8: 18, 16: 30, 32: 50}, [4, 8, 16, 32]),
        ({4: 10, 8: 18, 16: 30, 32: 31}, [4, 8, 16, 32, 16]),
        ({4: 10, 8: 10}, [4, 8, 4]),
        ({4: 10, 8: 12, 16: 5}, [4, 8, 16, 8]),
    ],
)
def test_the_batch_doubles_while_that_pays_and_then_stays(rates: dict[int, float], sizes: list[int]) -> None:
    assert settle(rates) == sizes


def test_the_first_chunk_of_a_size_is_not_measured() -> None:
    size = BatchSize(None, "cpu")
    size.measured(4, 1000, 100)  # slow, as everything is set up
    size.measured(32, 1000, 1)
    assert size.current == 8
    size.measured(8, 1000, 100)
    assert size.current == 8
    for _ in range(3):
        size.measured(8, 250, 0.1)
    assert size.current == 8  # too few to judge
    size.measured(8, 250, 0.1)
    assert size.current == 16


def test_a_batch_that_takes_seconds_is_not_doubled() -> None:
    size = BatchSize(None, "cpu")
    for seconds in (9.0, 9.0, 7.0, 9.0, 8.0, 9.0, 9.0, 9.0, 9.0, 9.0):
        size.measured(4, 1000, seconds)
    assert size.current == 4 and size.is_settled


@pytest.mark.parametrize(
    ("fast", "seconds", "settled"), [(0, 6.0, 1), (0, 3.0, 2), (10, 60.0, 1), (10, 2.0, 4)]
)
def test_a_batch_that_takes_too_long_is_halved_until_it_does_not(
    fast: int, seconds: float, settled: int
) -> None:
    """The first inputs are fast: another program starts to use the processor."""
    size, calls = BatchSize(None, "cpu"), 0
    while not size.is_settled:
        calls += 1
        size.measured(size.current, 1000, (0.01 if calls <= fast else seconds) * size.current)
    assert size.current == settled


def test_several_batches_that_are_encoded_together_are_not_one_long_batch() -> None:
    size = BatchSize(None, "cpu")
    for _ in range(2):
        size.measured(40, 1000, 15.0)  # ten batches
    assert size.current == 8


def test_a_given_batch_size_is_kept(tmp_path: Path, image) -> None:
    size = BatchSize(5, "cpu")
    for seconds in (3.0, 2.0, 1.0, 9.0):
        size.measured(5, 1000, seconds)
    assert size.current == 5
    write_pku(tmp_path / "data")
    assert run(tmp_path / "data", [image], tmp_path / "f")[0].batch_size == 3


OUT_OF_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
)


def limit_memory(
    monkeypatch: pytest.MonkeyPatch, most: int, error: Exception = OUT_OF_MEMORY[0]
) -> list[int]:
    """Let networks run out of memory above `most` images; return the list of the batch sizes they receive."""
    forward, given = ImageNetwork.forward, []

    def limited(self: ImageNetwork, images: torch.Tensor) -> torch.Tensor:
        given.append(len(images))
        if len(images) > most:
            raise error
        return forward(self, images)

    monkeypatch.setattr(ImageNetwork, "forward", limited)
    return given


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["gpu", "cpu"])
@pytest.mark.parametrize(("batch_size", "failed", "settled"), [(None, [4], 2), (7, [7, 3], 1)])
def test_too_little_memory_halves_the_batch_and_continues(
    tmp_path: Path,
    image,
    batch_size,
    failed: list[int],
    settled: int,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_pku(tmp_path / "data", rows=20)
    manifest = check(tmp_path / "data").manifest
    extract(DatasetInputs.of(manifest), [image], tmp_path / "whole", OPTIONS, Silent())
    given = limit_memory(monkeypatch, 2, error)
    (summary,) = extract(
        DatasetInputs.of(manifest),
        [image],
        tmp_path / "f",
        ExtractionOptions(0, batch_size, device="cpu"),
        Silent(),
    )
    assert summary.batch_size == settled
    assert [size for size in given if size > 2] == failed  # it does not try again
    found, expected = (stored(tmp_path / root, image, manifest) for root in ("f", "whole"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_too_little_memory_for_a_single_image_is_an_error_with_its_remedy(
    tmp_path: Path, image, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pku(tmp_path / "data")
    limit_memory(monkeypatch, 0)
    with pytest.raises(
        ExtractionError,
        match="too little memory for a single input: pass --device cpu or a smaller --image-size",
    ):
        run(tmp_path / "data", [image], tmp_path / "f")


def test_memory_that_ran_out_is_free_again_before_the_smaller_batch(
    tmp_path: Path, image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error itself holds the maps of the batch that failed, so it must be gone by then."""
    write_pku(tmp_path / "data")
    forward, held = ImageNetwork.forward, []

    class Maps:
        """Stands for what fills the memory."""

    def failing_once(self: ImageNetwork, images: torch.Tensor) -> torch.Tensor:
        if not held:
            maps = Maps()
            held.append(weakref.ref(maps))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, images)

    freed: list[bool] = []
    monkeypatch.setattr(ImageNetwork, "forward", failing_once)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(held[0]() is None))
    run(tmp_path / "data", [image], tmp_path / "f")
    assert freed == [True]


def test_the_parts_of_an_extraction_share_the_inputs(tmp_path: Path, image, text, rows) -> None:
    write_pku(tmp_path / "data", rows=16)
    manifest = check(tmp_path / "data").manifest
    encoded = [
        [
            one.encoded
            for one in extract(
                DatasetInputs.of(manifest),
                [image, text],
                tmp_path / "f",
                replace(OPTIONS, part=(part, 3)),
                Silent(),
            )
        ]
        for part in (1, 2, 3)
    ]
    assert (
        np.sum(encoded, axis=0).tolist()
        == [len(manifest.images()), len(manifest.prompts())]
        == [rows["image"], rows["text"]]
    )
    assert [
        one.encoded
        for one in extract(DatasetInputs.of(manifest), [image, text], tmp_path / "f", OPTIONS, Silent())
    ] == [
        0,
        0,
    ]


def test_what_a_killed_extraction_left_goes_although_nothing_is_missing(
    tmp_path: Path, image: ImageEncoder
) -> None:
    write_pku(tmp_path / "data")
    dataset = DatasetInputs.of(check(tmp_path / "data").manifest)
    root = tmp_path / "features"
    extract(dataset, [image], root, OPTIONS, Silent())
    left = root / f"{TEMPORARY_PREFIX}of-a-dead-process"
    left.mkdir()
    (summary,) = extract(dataset, [image], root, OPTIONS, Silent())
    assert not summary.encoded and not left.exists()
