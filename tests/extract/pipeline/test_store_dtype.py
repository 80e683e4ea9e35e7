"""Features are rounded once, when they are published; encoders in memory give the same numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tier4k.cache.errors import StoreError
from tier4k.cache.keys import key_array
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.find import find_text_encoder
from tier4k.extract.encoders.from_signature import image_choice
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.images.crops import Crops
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.pipeline.loaded_encoders import LiveEncoders
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.run import extract
from tier4k.tests.builders.data import tiny_encoder, write_pku
from tier4k.tests.builders.listener import Silent

OPTIONS = ExtractionOptions(workers=0, batch_size=32, device="cpu")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("data")
    write_pku(root)
    return check(root).manifest


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> ImageEncoder:
    return tiny_encoder(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def text(bert_folder: Path) -> TextEncoder:
    return find_text_encoder("bert-base-uncased", bert_folder)


def stored(root: Path, encoder: ImageEncoder | TextEncoder, manifest: Manifest) -> np.ndarray:
    inputs = manifest.images() if isinstance(encoder, ImageEncoder) else manifest.prompts()
    keys = key_array(map(bytes.fromhex, inputs.index))
    return FeatureStore.open(root / encoder.signature.folder_name).read(keys)


@pytest.fixture(scope="module")
def root(
    tmp_path_factory: pytest.TempPathFactory, manifest: Manifest, image: ImageEncoder, text: TextEncoder
) -> Path:
    """Stores of both types of every encoder, filled by one extraction."""
    folder = tmp_path_factory.mktemp("features")
    encoders = [
        half for one in (image, replace(image, crops=Crops(2)), text) for half in (one, stored_half(one))
    ]
    summaries = extract(DatasetInputs.of(manifest), encoders, folder, OPTIONS, Silent())
    assert len(summaries) == 6
    assert all(summary.encoded == summary.inputs for summary in summaries)
    return folder


def stored_half(encoder: ImageEncoder | TextEncoder) -> ImageEncoder | TextEncoder:
    return replace(encoder, store_dtype="float16")


def test_stores_of_both_types_exist_side_by_side_and_differ_by_rounding_alone(
    root: Path, manifest: Manifest, image: ImageEncoder, text: TextEncoder
) -> None:
    for encoder in (image, replace(image, crops=Crops(2)), text):
        assert stored_half(encoder).signature == replace(encoder.signature, dtype="float16")
        whole, rounded = stored(root, encoder, manifest), stored(root, stored_half(encoder), manifest)
        assert (whole.dtype, rounded.dtype) == (np.float32, np.float16)
        np.testing.assert_array_equal(rounded, whole.astype(np.float16))


def test_encoders_in_memory_give_the_numbers_of_the_store(
    root: Path, manifest: Manifest, image: ImageEncoder, text: TextEncoder
) -> None:
    live = LiveEncoders({"i": stored_half(image)}, {"t": stored_half(text)}, "cpu")
    images, texts = live.images(list(manifest.images()))["i"], live.texts(list(manifest.prompts()))["t"]
    for found, encoder in ((images, image), (texts, text)):
        assert found.dtype == np.float32
        expected = stored(root, stored_half(encoder), manifest)
        # Rounding may turn a difference of the last bit, as between two batches, into one of a float16.
        assert (found == expected).mean() > 0.98
        np.testing.assert_allclose(found, expected, rtol=2**-10, atol=1e-6)


def test_the_encoder_of_a_signature_has_the_type_of_its_store(image: ImageEncoder) -> None:
    for dtype in ("float32", "float16"):
        assert image_choice(replace(image, store_dtype=dtype).signature).store_dtype == dtype


def test_a_feature_beyond_float16_ends_the_extraction_and_the_encoder_in_memory(
    tmp_path: Path, manifest: Manifest, image: ImageEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = ImageNetwork.forward
    monkeypatch.setattr(ImageNetwork, "forward", lambda network, images: forward(network, images) + 7e4)
    half = replace(image, store_dtype="float16")
    with pytest.raises(StoreError, match=r"a feature has the value 7\d{4}.*--store-dtype float32"):
        extract(DatasetInputs.of(manifest), [half], tmp_path, OPTIONS, Silent())
    assert not list(tmp_path.glob("*/*.h5"))
    with pytest.raises(StoreError, match="float16 holds numbers up to 65504"):
        LiveEncoders({"i": half}, {}, "cpu").images(list(manifest.images())[:1])
    extract(DatasetInputs.of(manifest), [image], tmp_path, OPTIONS, Silent())


@pytest.mark.parametrize("field", ["precision", "dtype"])
def test_a_record_with_an_unknown_type_of_numbers_is_refused(image: ImageEncoder, field: str) -> None:
    with pytest.raises(EncoderError, match=rf"have the {field} '\*', which tier4k does not know \(f"):
        image_choice(replace(image.signature, **{field: "*"}))
