"""Random crops depend on the seed, the image and the number of the crop alone; heads train and
average over them.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps

from tier4k.cache.keys import key_array
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.encoders.find import find_text_encoder
from tier4k.extract.images.crops import Crops
from tier4k.extract.images.preprocessing import reference
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.pipeline.load import load_network
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.run import extract
from tier4k.heads.data.features import FeatureSet, load_features
from tier4k.heads.data.fusion import Fused, FusionError, fuse
from tier4k.heads.data.splits import Split
from tier4k.heads.data.streams import Streams
from tier4k.heads.evaluation.run_trials import run_trials
from tier4k.heads.evaluation.trial import mean_over_crops
from tier4k.heads.regressors.base import Head
from tier4k.heads.regressors.choices import HeadName
from tier4k.heads.regressors.registry import fit_heads, resolve_options
from tier4k.heads.regressors.tasks import FitTask
from tier4k.tests.builders.data import make_picture, tiny_encoder, write_pku
from tier4k.tests.builders.listener import Silent
from tier4k.tests.builders.preprocessed import preprocessed, random_crops_of
from tier4k.tests.builders.stores import stores_of

OPTIONS = ExtractionOptions(workers=0, batch_size=8, device="cpu")


def coordinates(width: int, height: int) -> Image.Image:
    """A image whose every pixel tells where it is."""
    down, across = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([across, down, np.zeros_like(across)], axis=2).astype(np.uint8))


def places(
    count: int, keys: int, size: tuple[int, int], resize: int | None, crop: int | None
) -> set[tuple[int, int, bool]]:
    """Left, top and whether it is flipped, of every crop of an image under many keys."""
    preprocessing = reference(crop, resize) if crop and resize else reference(1, 1).whole("full")
    crops, image, found = Crops(count, 5), coordinates(*size), set()
    for key in range(keys):
        for crop in random_crops_of(preprocessing, crops, image, key.to_bytes(32, "big")):
            across, down, _ = crop.numpy().astype(int)
            flipped = across[0, 0] > across[0, -1]
            left = across.min()
            expected = np.arange(left, left + across.shape[1])
            assert (
                across == (expected[::-1] if flipped else expected)
            ).all()  # a piece of the image, nothing else
            assert (down == np.arange(down[0, 0], down[0, 0] + down.shape[0])[:, None]).all()
            found.add((int(left), int(down[0, 0]), bool(flipped)))
    return found


def test_crops_cover_every_place_in_the_image_and_half_are_flipped() -> None:
    found = places(count=4, keys=300, size=(60, 40), resize=40, crop=32)
    assert {left for left, _, _ in found} == set(range(60 - 32 + 1))
    assert {top for _, top, _ in found} == set(range(40 - 32 + 1))
    assert 0.4 < np.mean([flipped for _, _, flipped in found]) < 0.6


def test_crops_of_whole_images_are_seven_eighths_of_them() -> None:
    found = places(count=4, keys=100, size=(80, 40), resize=None, crop=None)
    assert {left for left, _, _ in found} == set(range(80 - 70 + 1))
    assert {top for _, top, _ in found} == set(range(40 - 35 + 1))


@pytest.mark.parametrize("size", [(80, 40), (14, 14), (300, 1), (5000, 90)])
def test_crops_of_whole_images_in_patches_are_whole_patches(size: tuple[int, int]) -> None:
    preprocessing = reference(1, 1).whole(42, multiple=14)
    image = Image.new("RGB", size)
    full = preprocessed(preprocessing, image).shape[1:]
    for crop in random_crops_of(preprocessing, Crops(3), image, bytes(32)):
        for side, full_side in zip(crop.shape[1:], full, strict=True):
            assert side % 14 == 0 and 0 < side <= full_side
            assert abs(side - full_side * 7 / 8) <= 7.5


def test_a_crop_follows_from_seed_key_and_number_alone() -> None:
    image, preprocessing = make_picture(0, (90, 60)), reference(32, 40)

    def crops(count: int, seed: int, key: int) -> list[bytes]:
        made = random_crops_of(preprocessing, Crops(count, seed), image, bytes([key]) * 32)
        return [crop.numpy().tobytes() for crop in made]

    assert crops(5, 1, 1) == crops(5, 1, 1)
    assert crops(3, 1, 1) == crops(5, 1, 1)[:3]
    assert len({*crops(5, 1, 1), *crops(5, 2, 1), *crops(5, 1, 2)}) == 15


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("crops")
    write_pku(folder)
    return check(folder).manifest


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ImageEncoder:
    return tiny_encoder(tmp_path_factory.mktemp("w"))


def features(
    manifest: Manifest, encoder: ImageEncoder, root: Path, options: ExtractionOptions = OPTIONS
) -> np.ndarray:
    """Extract, and read every image in the manifest's order."""
    extract(DatasetInputs.of(manifest), [encoder], root, options, Silent())
    return FeatureStore.open(root / encoder.signature.folder_name).read(
        key_array(map(bytes.fromhex, manifest.images().index))
    )


def close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_store_holds_the_centre_and_the_crops_of_every_image(
    tmp_path: Path, data: Manifest, encoder: ImageEncoder
) -> None:
    seen = replace(encoder, crops=Crops(3, 7))
    stored = features(data, seen, tmp_path)
    single = features(data, encoder, tmp_path)
    assert single.ndim == 2 and stored.shape == (len(data.images()), 4, single.shape[1])
    close(stored[:, 0], single)
    network = load_network(seen)
    for row, (key, path) in enumerate(data.images().items()):
        picture = Image.open(path).convert("RGB")
        crops = random_crops_of(encoder.preprocessing, seen.crops, picture, bytes.fromhex(key))
        with torch.inference_mode():
            close(stored[row, 1:], network(torch.stack(crops)).numpy())
    assert np.abs(stored[:, 1:] - stored[:, :1]).max(axis=(1, 2)).min() > 1e-3 * np.abs(stored).max()


def test_crops_are_the_same_whatever_the_order_the_batches_and_the_processes(
    tmp_path: Path, data: Manifest, encoder: ImageEncoder
) -> None:
    seen = replace(encoder, crops=Crops(2, 7))
    expected = features(data, seen, tmp_path / "a")
    backwards = replace(data, table=data.table.iloc[::-1].reset_index(drop=True))
    order = [list(data.images().index).index(key) for key in backwards.images().index]
    assert order != sorted(order)
    close(
        features(backwards, seen, tmp_path / "b", ExtractionOptions(2, batch_size=3, device="cpu")),
        expected[order],
    )
    close(
        features(
            data, replace(seen, crops=Crops(3, 7)), tmp_path / "c", ExtractionOptions(0, 1, device="cpu")
        )[:, :3],
        expected,
    )
    other = features(data, replace(seen, crops=Crops(2, 8)), tmp_path / "d")
    close(other[:, 0], expected[:, 0])
    assert np.abs(other[:, 1:] - expected[:, 1:]).max() > 1e-2 * np.abs(expected).max()


def test_crops_of_whole_images_of_many_shapes_are_stored(
    tmp_path: Path, data: Manifest, encoder: ImageEncoder
) -> None:
    whole = replace(encoder, preprocessing=encoder.preprocessing.whole(48))
    stored = features(data, replace(whole, crops=Crops(2)), tmp_path)
    assert stored.shape[1] == 3
    close(stored[:, 0], features(data, whole, tmp_path))


def test_count_and_seed_are_in_the_signature(encoder: ImageEncoder) -> None:
    crops = (Crops(), Crops(1), Crops(2), Crops(2, 1))
    assert len({replace(encoder, crops=one).signature.digest for one in crops}) == len(crops)
    assert replace(encoder, crops=Crops(2, 1)).signature.views == "centre + 2 random crops and flips, seed 1"
    assert encoder.signature.views == "centre"


def some_features(crops: int, guided: bool = False) -> FeatureSet:
    random = np.random.default_rng(crops)
    has = np.ones(6, bool) if guided else np.array([True, False, True, False, False, True])
    image, prompt = random.normal(size=(2, 6, crops, 4))
    prompt[~has] = 0
    texts = np.array([f"n{row}" for row in range(6)])
    return FeatureSet(
        text={"bert": random.normal(size=(6, 3))},
        image={"resnet18": image},
        image_prompt={"resnet18": prompt},
        has_image_prompt=has,
        targets=random.normal(size=(6, 1)),
        target_names=("mos",),
        name=texts,
        group=texts,
        generator=texts,
        position=np.arange(6),
        image_key=texts,
        dataset=np.full(len(texts), "toy"),
    )


@pytest.mark.parametrize(("method", "width"), [("nr", 7), ("fr", 11), ("pr", 7)])
def test_fusing_crops_is_fusing_each_crop(method, width: int) -> None:
    rows = some_features(3, guided=method == "fr")
    fused = fuse(rows, method).X
    assert fused.shape == (6, 3, width)
    for view in range(3):
        single = replace(
            rows,
            image={"resnet18": rows.image["resnet18"][:, view]},
            image_prompt={"resnet18": rows.image_prompt["resnet18"][:, view]},
        )
        assert np.array_equal(fused[:, view], fuse(single, method).X)
    assert (fused[:, :, :3] == rows.text["bert"][:, None]).all()


def test_partial_reference_averages_image_and_image_prompt_or_takes_the_image_alone() -> None:
    rows = some_features(2)
    image, image_prompt = rows.image["resnet18"], rows.image_prompt["resnet18"]
    for row, fused in enumerate(fuse(rows, "pr").X):
        expected = (image[row] + image_prompt[row]) / 2 if rows.has_image_prompt[row] else image[row]
        assert np.array_equal(fused[:, 3:], expected)
    with pytest.raises(FusionError, match="needs an image prompt in every row"):
        fuse(rows, "fr")


def one_trial(
    fused: np.ndarray, head: HeadName
) -> tuple[list[tuple[np.ndarray, FitTask]], tuple[np.ndarray, Head]]:
    """What the head of one repeat was given to learn, and what the repeat predicted for its test rows."""
    rows = some_features(0)
    given: list[tuple[np.ndarray, FitTask]] = []
    split = Split(np.array([0, 2]), np.array([], int), np.array([1, 3]), seed=0)
    with pytest.MonkeyPatch.context() as patch:

        def spy(name, heads, X, streams, tasks, *rest) -> None:
            given.extend((X, task) for task in tasks)
            fit_heads(name, heads, X, streams, tasks, *rest)

        patch.setattr("tier4k.heads.evaluation.run_trials.fit_heads", spy)
        options = resolve_options(head, "cached", "resnet18", {} if head == "ridge" else {"max_epochs": 1})
        vectors = Fused(fused, Streams.of(image=fused.shape[-1]))
        (trial,) = run_trials(rows, vectors, rows.target_names[:1], [split], head, options)
    return given, (trial.predictions["last"], trial.head)


def test_the_two_layers_learn_from_every_crop_and_a_prediction_is_the_mean_over_crops() -> None:
    rows = some_features(0)
    fused = np.random.default_rng(0).normal(size=(len(rows), 3, 4))
    ((X, task),), (predictions, head) = one_trial(fused, "mlp")
    assert np.array_equal(X[task.train], np.concatenate([fused[0], fused[2]]))
    scores = rows.targets[:, 0]
    assert task.scores[task.train].tolist() == [scores[0]] * 3 + [scores[2]] * 3
    expected = [head.predict(fused[row]).mean() for row in (1, 3)]
    np.testing.assert_allclose(predictions, expected, rtol=1e-5, atol=1e-6)


def test_ridge_learns_from_the_mean_of_an_images_crops() -> None:
    rows = some_features(0)
    fused = np.random.default_rng(0).normal(size=(len(rows), 3, 4))
    ((X, task),), (predictions, _) = one_trial(fused, "ridge")
    assert np.array_equal(X[task.train], fused.mean(axis=1)[[0, 2]])
    np.testing.assert_array_equal(one_trial(fused.mean(axis=1), "ridge")[1][0], predictions)


def test_without_crops_predictions_are_those_of_the_rows() -> None:
    fused = np.random.default_rng(0).normal(size=(5, 4))
    assert np.array_equal(mean_over_crops(lambda X: X[:, 0], fused), fused[:, 0])


def test_a_head_reads_the_crops_of_image_and_image_prompt_row_by_row(
    tmp_path: Path, data: Manifest, encoder, bert_folder: Path
) -> None:
    seen, text = replace(encoder, crops=Crops(2)), find_text_encoder("bert-base-uncased", bert_folder)
    extract(DatasetInputs.of(data), [seen, text], tmp_path, OPTIONS, Silent())
    stores = [FeatureStore.open(tmp_path / one.signature.folder_name) for one in (seen, text)]
    rows = load_features(data, stores_of(*stores))
    at = {key: number for number, key in enumerate(data.images().index)}
    everything = stores[0].read(key_array(map(bytes.fromhex, data.images().index)))
    (image,), (image_prompt,) = rows.image.values(), rows.image_prompt.values()
    assert image.shape == image_prompt.shape == (8, 3, everything.shape[2])
    table: pd.DataFrame = data.table
    assert np.array_equal(image, everything[[at[key] for key in table["image_key"]]])
    guided = rows.has_image_prompt
    assert np.array_equal(
        image_prompt[guided], everything[[at[key] for key in table.loc[guided, "image_prompt_key"]]]
    )
    assert not image_prompt[~guided].any()


def test_a_mirrored_crop_is_pillows_mirror() -> None:
    image = make_picture(1, (40, 40))
    found = {
        crop.numpy().tobytes()
        for key in range(20)
        for crop in random_crops_of(reference(40, 40), Crops(1), image, bytes([key]) * 32)
    }
    expected = {np.asarray(one).transpose(2, 0, 1).tobytes() for one in (image, ImageOps.mirror(image))}
    assert found == expected
