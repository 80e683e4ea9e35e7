"""Heads on any subset of the streams, each with one or several encoders."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tier4k.cache.errors import StoreError
from tier4k.cache.keys import key_array, text_key
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.choices import Benchmark, Stream
from tier4k.extract.datasets.errors import DataError
from tier4k.heads.data.choices import Method
from tier4k.heads.data.features import load_features
from tier4k.heads.data.fusion import FusionError, fuse, method_streams
from tier4k.heads.data.stores import FeatureStores
from tier4k.heads.protocol.fit import fit_head
from tier4k.heads.protocol.options import FitOptions, ProtocolError
from tier4k.heads.results.read import read_config, read_predictions
from tier4k.heads.results.read_model import read_model
from tier4k.tests.golden.golden_rows import (
    IMAGE,
    IMAGE_WIDTH,
    TEXT,
    manifest,
    vectors,
    write_store,
    write_stores,
)

OPTIONS = FitOptions(targets=("MOS_quality",), repeats=2, estimator="ridge")
OTHER_IMAGE = replace(IMAGE, encoder="alexnet", weights="12" * 32)
OTHER_TEXT = replace(TEXT, encoder="t5", weights="34" * 32)


def image_store(
    root: Path,
    signature: Signature,
    width: int,
    scale: float = 1.0,
) -> FeatureStore:
    """A store of images and image prompts with features of this width."""
    table = manifest().table
    names = pd.concat([table["image"], table["image_prompt"]])
    distinct = names[names != ""].drop_duplicates()
    features = scale * vectors(distinct, width)[:, ::-1]
    return write_store(root, signature, key_array(map(text_key, distinct)), features)


def text_store(root: Path, signature: Signature, width: int) -> FeatureStore:
    """A store of prompts with features of this width."""
    prompts = manifest().table["prompt"].drop_duplicates()
    return write_store(root, signature, key_array(map(text_key, prompts)), vectors(prompts, width))


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> FeatureStores:
    """Two image encoders and two text encoders."""
    root = tmp_path_factory.mktemp("features")
    image, text, _ = write_stores(root)
    other_text = text_store(root, OTHER_TEXT, 5)
    return FeatureStores.of([image, image_store(root, OTHER_IMAGE, 7)], [text, other_text])


def only(stores: FeatureStores, *names: str) -> FeatureStores:
    """The stores with these names."""
    images = [store for name, store in stores.images.items() if name in names]
    texts = [store for name, store in stores.texts.items() if name in names]
    return FeatureStores.of(images, texts)


@pytest.mark.parametrize("method", ["nr", "fr", "pr"])
def test_each_stream_is_the_concatenation_of_its_encoders_in_the_order_of_their_names(
    stores: FeatureStores, method: Method
) -> None:
    rows = manifest().select("I2I" if method == "fr" else "all")
    X, streams = fuse(load_features(rows, stores), method)
    single = {
        name: fuse(load_features(rows, only(stores, name)), method, (stream,)).X
        for name, stream in (("alexnet", "image"), ("resnet18", "image"), ("bert", "text"), ("t5", "text"))
    }
    expected = [single["bert"], single["t5"], single["alexnet"], single["resnet18"]]
    parts = [("text", "bert"), ("text", "t5"), ("image", "alexnet"), ("image", "resnet18")]
    if method == "fr":
        for name in ("alexnet", "resnet18"):
            expected.append(fuse(load_features(rows, only(stores, name)), method, ("image-prompt",)).X)
            parts.append(("image-prompt", name))
    np.testing.assert_array_equal(X, np.hstack(expected))
    assert [(part.stream, part.name) for part in streams.parts] == parts
    assert [part.width for part in streams.parts] == [part.shape[1] for part in expected]


@pytest.mark.parametrize(
    ("method", "text", "streams"),
    [
        ("nr", "all", ()),
        ("nr", "image+text", ()),
        ("nr", "image", ("image",)),
        ("fr", "image-prompt + image", ("image", "image-prompt")),
        ("fr", "text+image", ("text", "image")),
        ("pr", "text", ("text",)),
    ],
)
def test_streams_have_one_order_and_all_of_them_are_the_default(
    method: Method, text: str, streams: tuple[Stream, ...]
) -> None:
    assert method_streams(text, method) == streams


def test_a_stream_that_the_method_lacks_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(FusionError, match="its streams are text, image"):
        method_streams("image-prompt", "nr")


@pytest.mark.parametrize("text", ["", "picture", "image+", "image+image"])
def test_what_is_no_list_of_streams_is_refused_for_any_method(text: str) -> None:
    with pytest.raises(DataError, match="use all, or some of text, image, image-prompt"):
        method_streams(text, "nr")


def test_a_subset_of_the_streams_is_the_head_on_their_columns_alone(
    stores: FeatureStores, tmp_path: Path
) -> None:
    one = only(stores, "resnet18", "bert")
    whole = fuse(load_features(manifest(), one), "nr").X
    for streams, columns in ((("text",), slice(0, 6)), (("image",), slice(6, None))):
        run = fit_head(manifest(), one, replace(OPTIONS, streams=streams), tmp_path)
        model = read_model(run.folder)
        assert model.streams == streams and read_config(run.folder).streams == streams
        for (_, repeat), head in model.heads.items():
            stored = read_predictions(run.folder)
            stored = stored[stored["repeat"] == repeat].set_index("name")["prediction"]
            predicted = pd.Series(head.predict(whole[:, columns]), manifest().table["name"])
            np.testing.assert_allclose(predicted[stored.index], stored, atol=1e-6)


def test_stores_that_no_stream_uses_are_not_needed(stores: FeatureStores, tmp_path: Path) -> None:
    for streams, name in ((("text",), "bert"), (("image",), "resnet18")):
        run = fit_head(manifest(), only(stores, name), replace(OPTIONS, streams=streams), tmp_path)
        assert len(read_config(run.folder).signatures) == 1
    with pytest.raises(ProtocolError, match="there is no text encoder"):
        fit_head(manifest(), only(stores, "resnet18"), OPTIONS, tmp_path)


@pytest.mark.parametrize(
    ("method", "stream", "column"),
    [("nr", "image", "image"), ("fr", "image", "image"), ("fr", "image-prompt", "image_prompt")],
)
def test_images_that_no_stream_uses_are_not_needed(
    stores: FeatureStores, tmp_path: Path, method: Method, stream: Stream, column: str
) -> None:
    benchmark: Benchmark = "I2I" if method == "fr" else "all"
    rows = manifest().select(benchmark)
    names = rows.table[column].drop_duplicates()
    part = write_store(tmp_path, IMAGE, key_array(map(text_key, names)), vectors(names, IMAGE_WIDTH))
    options = replace(OPTIONS, method=method, benchmark=benchmark, streams=(stream,))
    predicted = [
        read_predictions(fit_head(manifest(), one, options, tmp_path / name).folder)
        for name, one in (("part", FeatureStores.of([part])), ("whole", only(stores, "resnet18")))
    ]
    pd.testing.assert_frame_equal(*predicted)
    if method == "nr":  # the image stream of PR is the mean with the image prompt
        with pytest.raises(StoreError, match="are not in"):
            fit_head(manifest(), FeatureStores.of([part]), replace(options, method="pr"), tmp_path / "pr")


def test_streams_and_encoders_are_part_of_the_identity_and_their_order_is_not(
    stores: FeatureStores, tmp_path: Path
) -> None:
    names = [
        fit_head(manifest(), one, replace(OPTIONS, streams=streams), tmp_path).folder.name
        for one, streams in (
            (only(stores, "resnet18", "bert"), ()),
            (only(stores, "resnet18", "bert"), ("image",)),
            (only(stores, "resnet18", "alexnet", "bert"), ()),
            (stores, ()),
        )
    ]
    assert len(set(names)) == 4
    turned = FeatureStores.of([*stores.images.values()][::-1], [*stores.texts.values()][::-1])
    assert fit_head(manifest(), turned, OPTIONS, tmp_path).folder.name == names[-1]


@pytest.mark.parametrize("head", ["ridge", "kernel-ridge"])
def test_each_encoder_is_standardized_on_its_own(tmp_path: Path, head: str) -> None:
    predictions = []
    for scale in (1.0, 1e4):
        root = tmp_path / f"{scale}"
        image, text, _ = write_stores(root)
        several = FeatureStores.of([image, image_store(root, OTHER_IMAGE, 7, scale)], [text])
        run = fit_head(manifest(), several, replace(OPTIONS, estimator=head), root / "runs")
        predictions.append(read_predictions(run.folder)["prediction"])
    np.testing.assert_allclose(*predictions, atol=1e-4)


def test_encoders_with_different_numbers_of_crops_are_refused(stores: FeatureStores, tmp_path: Path) -> None:
    signature = replace(OTHER_IMAGE, views="centre + 2 random crops and flips, seed 0")
    table = manifest().table
    names = pd.concat([table["image"], table["image_prompt"]])
    distinct = names[names != ""].drop_duplicates()
    crops = np.repeat(vectors(distinct, 7)[:, None], 3, axis=1)
    cropped = write_store(tmp_path, signature, key_array(map(text_key, distinct)), crops)
    several = FeatureStores.of([cropped, stores.images["resnet18"]], [stores.texts["bert"]])
    with pytest.raises(StoreError, match=r"different numbers of crops \(alexnet 3, resnet18 1\)"):
        fit_head(manifest(), several, OPTIONS, tmp_path)
