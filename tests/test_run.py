"""Stage 1 encodes every distinct input once, under the key of the very bytes it encoded, and loses nothing when it is stopped."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cache.keys import key_array
from cache.store import FeatureStore, StoreError
from extract.check import check
from extract.encode import ExtractionError, choose_device
from extract.encoders import ImageEncoder, TextEncoder, find_text_encoder
from extract.manifest import Manifest
from extract.networks import ImageNetwork, TextNetwork
from extract.pictures import decode
from extract.run import ExtractionOptions, StreamSummary, Timing, extract
from tests.data_builders import save_picture, save_table, tiny_encoder, write_pku
from tests.golden_formula import write_tiny_bert

OPTIONS = ExtractionOptions(workers=0, batch_size=3, device="cpu")


class Silent:
    """A listener that counts."""

    def __init__(self) -> None:
        self.total: dict[str, int] = {}
        self.done = 0

    def started(self, stream: str, total: int) -> None:
        self.total[stream] = total

    def advanced(self, count: int, _timing: Timing) -> None:
        self.done += count


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
    """How many rows went through each network."""
    seen = {"image": 0, "text": 0}
    encode_image, encode_text = ImageNetwork.forward, TextNetwork.forward

    def count_image(self: ImageNetwork, pictures: torch.Tensor) -> torch.Tensor:
        seen["image"] += len(pictures)
        return encode_image(self, pictures)

    def count_text(self: TextNetwork, batch) -> torch.Tensor:
        seen["text"] += len(batch.ids)
        return encode_text(self, batch)

    monkeypatch.setattr(ImageNetwork, "forward", count_image)
    monkeypatch.setattr(TextNetwork, "forward", count_text)
    return seen


def run(
    data: Path, encoders: Sequence[ImageEncoder | TextEncoder], root: Path, options: ExtractionOptions = OPTIONS
) -> list[StreamSummary]:
    return extract(check(data).manifest, encoders, root, options, Silent())


def stored(root: Path, encoder: ImageEncoder | TextEncoder, manifest: Manifest) -> np.ndarray:
    inputs = manifest.pictures() if isinstance(encoder, ImageEncoder) else manifest.prompts()
    return FeatureStore.open(root / encoder.signature.folder_name).read(key_array(map(bytes.fromhex, inputs.index)))


def test_every_distinct_input_passes_its_network_once(tmp_path: Path, image, text, rows) -> None:
    write_pku(tmp_path / "data", rows=12, image_to_image=6)
    shutil.copy(tmp_path / "data" / "I2I" / "Image_prompt" / "0.png", tmp_path / "data" / "I2I" / "Image_prompt" / "1.png")
    listener = Silent()
    summaries = extract(check(tmp_path / "data").manifest, [image, text], tmp_path / "f", OPTIONS, listener)
    assert rows == {"image": 12 + 2, "text": 6}  # three image prompts, two of them alike
    assert [(one.stream, one.inputs, one.encoded) for one in summaries] == [("image", 14, 14), ("text", 6, 6)]
    assert listener.total == rows and listener.done == 20
    assert all(one.timing.encode > 0 and one.timing.total >= one.timing.encode for one in summaries)


def test_features_are_those_of_the_file_under_its_key(tmp_path: Path, image, text) -> None:
    write_pku(tmp_path / "data")
    manifest = check(tmp_path / "data").manifest
    extract(manifest, [image, text], tmp_path / "f", OPTIONS, Silent())
    network, transform = image.load(), image.preparation.transform()
    with torch.inference_mode():
        expected = [network(transform(decode(Path(path).read_bytes()))[None])[0].numpy() for path in manifest.pictures()]
        texts = text.load()
        expected_texts = [texts(texts.tokenize([prompt]))[0].numpy() for prompt in manifest.prompts()]
    np.testing.assert_allclose(stored(tmp_path / "f", image, manifest), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stored(tmp_path / "f", text, manifest), expected_texts, rtol=1e-4, atol=1e-5)


def test_a_second_run_encodes_nothing_and_loads_no_network(tmp_path: Path, image, text, rows, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pku(tmp_path / "data")
    run(tmp_path / "data", [image, text], tmp_path / "f")
    monkeypatch.setattr(ImageNetwork, "of", lambda *_: pytest.fail("the network was loaded"))
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
    new = [(f"SD_{row}.png", None, "a new prompt" if row < 5 else frame.loc[row, "Text_prompt"], 1.0, 2.0, 3.0) for row in range(10)]
    for row in range(10):
        save_picture(data / "All" / f"SD_{row}.png", 9000 + row)
    save_table(pd.concat([frame, pd.DataFrame(new, columns=frame.columns)]), data / "annotation.xlsx")
    rows.update(image=0, text=0)
    run(data, [image, text], tmp_path / "f")
    assert rows == {"image": 10, "text": 1}


def test_another_encoder_has_another_store(tmp_path: Path, image, rows) -> None:
    write_pku(tmp_path / "data")
    other = tiny_encoder(tmp_path / "w", seed=1)
    first, second = run(tmp_path / "data", [image, other], tmp_path / "f")
    assert first.store != second.store and second.encoded == second.inputs == 10


@pytest.mark.parametrize("options", [ExtractionOptions(0, 1, 1), ExtractionOptions(2, 4, 2), ExtractionOptions(0, 64, 64, shard_rows=3)])
def test_batches_workers_and_shards_change_no_feature(tmp_path: Path, image, text, options: ExtractionOptions) -> None:
    write_pku(tmp_path / "data")
    manifest = check(tmp_path / "data").manifest
    extract(manifest, [image, text], tmp_path / "one", OPTIONS, Silent())
    extract(manifest, [image, text], tmp_path / "two", options, Silent())
    for encoder in (image, text):
        one, two = (stored(tmp_path / root, encoder, manifest) for root in ("one", "two"))
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5 * np.abs(one).max())


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "change", [lambda path: save_picture(path, 999), lambda path: path.write_bytes(b"broken"), lambda path: path.unlink()]
)
def test_a_picture_that_changes_after_the_check_is_refused_and_the_rest_is_kept(tmp_path: Path, image, workers: int, change) -> None:
    write_pku(tmp_path / "data")
    manifest = check(tmp_path / "data").manifest
    pictures = manifest.pictures()
    path, before = Path(pictures.iloc[7]), Path(pictures.iloc[7]).read_bytes()
    change(path)
    options = ExtractionOptions(workers, batch_size=3, device="cpu")
    with pytest.raises(ExtractionError, match=path.name) as error:
        extract(manifest, [image], tmp_path / "f", options, Silent())
    assert "Traceback" not in str(error.value)
    store = FeatureStore.open(tmp_path / "f" / image.signature.folder_name)
    assert store.hexadecimal_keys() == set(pictures.index[:6])
    path.write_bytes(before)
    assert extract(manifest, [image], tmp_path / "f", options, Silent())[0].encoded == len(pictures) - 6


def test_an_interrupt_keeps_what_is_encoded_and_the_next_run_goes_on(tmp_path: Path, image, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pku(tmp_path / "data")
    manifest = check(tmp_path / "data").manifest
    forward, batches = ImageNetwork.forward, []

    def interrupted(self: ImageNetwork, pictures: torch.Tensor) -> torch.Tensor:
        batches.append(len(pictures))
        if len(batches) == 3:
            raise KeyboardInterrupt
        return forward(self, pictures)

    with monkeypatch.context() as patch:
        patch.setattr(ImageNetwork, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            extract(manifest, [image], tmp_path / "f", OPTIONS, Silent())
    assert FeatureStore.open(tmp_path / "f" / image.signature.folder_name).hexadecimal_keys() == set(manifest.pictures().index[:6])
    assert extract(manifest, [image], tmp_path / "f", OPTIONS, Silent())[0].encoded == len(manifest.pictures()) - 6
    extract(manifest, [image], tmp_path / "whole", OPTIONS, Silent())
    parts, whole = (stored(tmp_path / root, image, manifest) for root in ("f", "whole"))
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5 * np.abs(whole).max())


def test_a_full_disk_is_an_error_that_says_what_is_kept(tmp_path: Path, image) -> None:
    write_pku(tmp_path / "data")
    (tmp_path / "f").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="cannot write"):
        run(tmp_path / "data", [image], tmp_path / "f")


@pytest.mark.parametrize("name", ["cuda:99", "tpu", ""])
def test_a_device_that_is_not_there_is_told_and_leaves_no_store(tmp_path: Path, image, name: str) -> None:
    write_pku(tmp_path / "data")
    with pytest.raises(ExtractionError, match="cannot be used.*choose auto, cpu, cuda"):
        run(tmp_path / "data", [image], tmp_path / "f", ExtractionOptions(0, device=name))
    assert not (tmp_path / "f").exists()
    assert choose_device("cpu").type == "cpu"
