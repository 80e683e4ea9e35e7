"""Image encoders in code: their features, their signatures, where they are found, and what is refused."""

import pickle
import re
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import tier4k
from tier4k import image_preprocessing
from tier4k.cache.errors import TierError
from tier4k.cache.keys import file_key, key_array
from tier4k.cache.signature import SignatureError
from tier4k.cache.store import FeatureStore
from tier4k.extract.encoders import function
from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.encoders.find import find_image_encoder, function_encoder
from tier4k.extract.encoders.from_signature import image_encoder_of
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.images.crops import Crops
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.pipeline.load import load_network
from tier4k.extract.pipeline.loaded_encoders import LiveEncoders
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.run import extract
from tier4k.tests.builders.commands import DATA, on_one_line, succeed, tier
from tier4k.tests.builders.listener import Silent
from tier4k.tests.builders.own_encoders import (
    LINEAR,
    NEXT_VERSION,
    PREPROCESSING,
    QUARTERS,
    WRONG_SHAPE,
    quarters,
)

PATH = "tier4k.tests.builders.own_encoders:QUARTERS"
OTHER = "tier4k.tests.builders.own_encoders:NO_ENCODER"


def quarters_of(path: Path) -> np.ndarray:
    """The features of QUARTERS by Pillow and NumPy alone."""
    image = Image.open(path).convert("RGB")
    shorter = min(image.size)
    sides = (image.width * 36 // shorter, image.height * 36 // shorter)
    left, top = round((sides[0] - 32) / 2), round((sides[1] - 32) / 2)
    pixels = np.asarray(image.resize(sides, Image.Resampling.BICUBIC))[top : top + 32, left : left + 32]
    colours = pixels.reshape(2, 16, 2, 16, 3).mean((1, 3)) / 255
    return ((colours - (0.5, 0.4, 0.3)) / (0.5, 0.25, 1.0)).transpose(2, 0, 1).reshape(-1)


@pytest.mark.slow
def test_a_command_stores_the_features_of_a_function_and_heads_are_fitted_on_them(project: Path) -> None:
    streams = ["--streams", "image"]
    for _ in range(2):  # the second time, nothing is encoded
        output = succeed("extract", "Dataset", "--image-encoder", PATH, *streams)
    assert "quarters" in output
    (store,) = [FeatureStore.open(path) for path in Path("features").glob("quarters-own-*")]
    assert store.signature.architecture == f"function {PATH}"
    files = sorted((DATA / "All").iterdir())
    expected = np.stack([quarters_of(path) for path in files])
    np.testing.assert_allclose(store.read(key_array(map(file_key, files))), expected, atol=1e-5)
    for name in ("quarters", PATH):
        fit = ["fit-head", "Dataset", "--image-encoder", name, *streams, "--head", "ridge", "--repeats", "1"]
        succeed(*fit, "--split", "random", "--out", "runs")
    (run,) = Path("runs").iterdir()  # both names are those of one run
    expected_score = tier4k.load(run, target="MOS_q").score(files[0])
    reward = tier4k.reward(run, target="MOS_q", device="cpu", image_weights=QUARTERS)
    pixels = torch.from_numpy(np.array(Image.open(files[0]).convert("RGB"))).permute(2, 0, 1)
    assert reward(images=pixels).tolist() == pytest.approx([expected_score], abs=1e-6)
    code, output = tier("export", str(run), "exported")
    assert code == 2
    assert "quarters is a function, which a folder cannot hold" in on_one_line(output)


def test_the_signature_names_function_version_and_import_path() -> None:
    signature = function_encoder(QUARTERS, ImageChoice()).signature
    assert signature == find_image_encoder(ImageChoice(PATH)).signature
    assert (signature.encoder, signature.architecture) == ("quarters", f"function {PATH}")
    assert signature.feature == "pooled: the output of version 1"
    other = function_encoder(NEXT_VERSION, ImageChoice()).signature
    assert set(signature.differences(vars(other))) == {"architecture", "weights", "feature"}


def test_a_torch_module_is_copied_and_stays_as_it_is() -> None:
    encoder = function_encoder(LINEAR, ImageChoice())
    assert isinstance(LINEAR.function, torch.nn.Module)
    LINEAR.function.train()
    network = load_network(encoder).frozen("fp32")
    assert LINEAR.function.training
    assert next(LINEAR.function.parameters()).requires_grad
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    (features,) = LiveEncoders({"linear": encoder}, {}, "cpu").images([image]).values()
    crop = PREPROCESSING.apply(np.dstack([image, image[..., 0]]))
    normalised = (torch.from_numpy(crop) / 255 - network.mean) / network.std
    np.testing.assert_allclose(features, LINEAR.function(normalised).detach(), atol=1e-5)


def test_random_crops_of_a_function_are_stored_beside_the_centre() -> None:
    encoder = function_encoder(QUARTERS, ImageChoice(crops=Crops(2, 0)))
    image = np.random.default_rng(0).integers(0, 256, (40, 200, 3), np.uint8)
    (features,) = LiveEncoders({"quarters": encoder}, {}, "cpu").images([image]).values()
    assert features.shape == (1, 3, 12)
    (centre,) = (
        LiveEncoders({"quarters": function_encoder(QUARTERS, ImageChoice())}, {}, "cpu")
        .images([image])
        .values()
    )
    np.testing.assert_allclose(features[:, 0], centre, atol=1e-6)
    assert len(np.unique(features[0], axis=0)) == 3


def test_an_entry_point_names_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("quarters", PATH, "tier4k.encoders")
    monkeypatch.setattr(function, "installed_plugins", lambda _: {"quarters": point, "other": point})
    encoder = find_image_encoder(ImageChoice("quarters"))
    assert encoder.signature == function_encoder(QUARTERS, ImageChoice()).signature
    with pytest.raises(TierError, match="give both one name"):
        find_image_encoder(ImageChoice("other"))


def test_a_signature_finds_its_function_where_the_user_trusts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    signature = function_encoder(QUARTERS, ImageChoice()).signature
    for given in (None, Path(PATH), QUARTERS):  # without one, the module is imported already
        assert image_encoder_of(signature, given).signature == signature
    unknown = replace(signature, architecture="function not_imported:MINE")
    with pytest.raises(TierError, match=re.escape("--image-weights not_imported:MINE")):
        image_encoder_of(unknown)
    assert image_encoder_of(unknown, QUARTERS).signature == unknown
    with pytest.raises(TierError, match="was no global variable of a module"):
        image_encoder_of(replace(signature, architecture="function"))
    with pytest.raises(SignatureError, match="version 1.*version 2"):
        image_encoder_of(signature, NEXT_VERSION)


def test_other_processes_import_a_function_and_refuse_a_local_one() -> None:
    encoder = function_encoder(QUARTERS, ImageChoice())
    assert pickle.loads(pickle.dumps(encoder)) == encoder
    local = tier4k.ImageEncoderFunction("local", "1", lambda images: images[:, 0, 0], PREPROCESSING)
    assert function_encoder(local, ImageChoice()).signature.architecture == "function"
    with pytest.raises(TierError, match="local is no global variable of a module"):
        pickle.dumps(function_encoder(local, ImageChoice()))


def encode_dataset(encoder: ImageEncoder, root: str, device: str) -> np.ndarray:
    """Encode the images of the data set, and return their features in the order of the rows."""
    manifest = tier4k.load_manifest("Dataset")
    options = ExtractionOptions(workers=0, device=device, unit_rows=4)
    extract(DatasetInputs.of(manifest), [encoder], Path(root), options, Silent())
    return FeatureStore.open(Path(root) / encoder.signature.folder_name).read(manifest.keys("image"))


@pytest.mark.slow
@pytest.mark.usefixtures("project")
def test_one_process_encodes_with_a_local_function_and_several_refuse_it_before_they_start() -> None:
    expected = encode_dataset(function_encoder(QUARTERS, ImageChoice()), "one", "cpu")
    local = tier4k.ImageEncoderFunction("local", "1", quarters, PREPROCESSING)
    encoder = function_encoder(local, ImageChoice())
    np.testing.assert_array_equal(encode_dataset(encoder, "one", "cpu"), expected)
    with pytest.raises(TierError, match="several devices and Ray import it in other processes"):
        encode_dataset(encoder, "two", "cpu,cpu")
    assert not list(Path("two").glob("local-*"))


def encode(given: tier4k.ImageEncoderFunction) -> Tensor:
    return load_network(function_encoder(given, ImageChoice())).width


REFUSED = {
    "no encoder": (lambda: find_image_encoder(ImageChoice(OTHER)), "a Tensor and no image encoder"),
    "no object": (lambda: find_image_encoder(ImageChoice(PATH + "X")), "cannot be imported"),
    "size": (lambda: find_image_encoder(ImageChoice(PATH + "@64")), "--image-size"),
    "feature": (lambda: find_image_encoder(ImageChoice(PATH, feature="multilevel")), "--feature pooled"),
    "precision": (lambda: find_image_encoder(ImageChoice(PATH, precision="bf16")), "--precision bf16"),
    "weights": (lambda: find_image_encoder(ImageChoice(PATH), Path("a.pth")), "leave out --image-weights"),
    "preset": (lambda: function_encoder(replace(QUARTERS, name="clip"), ImageChoice()), "another name"),
    "name": (lambda: replace(QUARTERS, name="my encoder"), "'my encoder' is not a name"),
    "version": (lambda: replace(QUARTERS, version=" "), "has no version"),
    "shape": (lambda: encode(WRONG_SHAPE), r"returns \(2, 3, 32, 32\) for 2 images"),
    "version 1": (lambda: replace(QUARTERS, version=1), "has no version"),
    "long name": (lambda: replace(QUARTERS, name="x" * 101), "at most 100 in all"),
    "function": (lambda: replace(QUARTERS, function=None), "needs a callable"),
    "preprocessing": (lambda: replace(QUARTERS, preprocessing=None), "needs a callable"),
    "no features": (
        lambda: encode(replace(QUARTERS, function=lambda _: torch.ones(2, 0))),
        "returns 0 features",
    ),
    "NaN": (
        lambda: encode(replace(QUARTERS, function=lambda _: torch.ones(2, 3) / 0)),
        "NaN or infinity for 2",
    ),
    "error": (lambda: encode(replace(QUARTERS, function=lambda _: 1 / 0)), "ZeroDivisionError"),
    "finetuning": (lambda: load_network(function_encoder(QUARTERS, ImageChoice())).layers(), "finetuned"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_function_cannot_do_is_refused_with_a_remedy(case: str) -> None:
    call, expected = REFUSED[case]
    with pytest.raises(TierError, match=expected):
        call()


@pytest.mark.slow
@pytest.mark.usefixtures("project")
def test_an_object_is_extracted_and_fitted_from_python() -> None:
    stores = tier4k.extract_features("Dataset", image_encoder=QUARTERS, features="own", streams="image")
    (signature,) = [store.signature for store in stores.images.values()]
    assert signature == function_encoder(QUARTERS, ImageChoice()).signature
    options = tier4k.FitOptions(estimator="ridge", streams=("image",), split="random", repeats=1)
    run = tier4k.fit_head(tier4k.load_manifest("Dataset"), stores, options, "runs")
    image = next((DATA / "All").iterdir())
    reward = tier4k.reward(run, target="MOS_q", device="cpu")
    assert reward(images=Image.open(image)).tolist() == pytest.approx(
        [tier4k.load(run, target="MOS_q").score(image)], abs=1e-6
    )


def test_an_error_or_another_length_after_the_first_images_is_one_of_tier4k() -> None:
    widths = iter([12, 12, 5])
    changing = replace(QUARTERS, function=lambda images: quarters(images)[:, : next(widths)])
    network = load_network(function_encoder(changing, ImageChoice()))
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    assert network.width == network(images).shape[1] == 12
    with pytest.raises(TierError, match="returns 5 features of torch.float32 for each image, and 12 for the"):
        network(images)
    with pytest.raises(TierError, match="quarters fails on images .*: StopIteration"):
        network(images)


@pytest.mark.parametrize("error", [SystemExit(3), SystemExit(), ValueError("x" * 5000)])
def test_a_function_cannot_end_the_program_nor_fill_the_screen(error: BaseException) -> None:
    def failing(images: Tensor) -> Tensor:
        raise error

    network = load_network(function_encoder(replace(QUARTERS, function=failing), ImageChoice()))
    with pytest.raises(TierError, match=f"quarters fails on images .*: {type(error).__name__}") as caught:
        network(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "values",
    [
        {"size": 0},
        {"size": 2**64},
        {"size": 32.5},
        {"size": "32"},
        {"size": True},
        {"size": 32, "resize": 0},
        {"size": 32, "mean": (0.5, 0.5)},
        {"size": 32, "mean": None},
        {"size": 32, "mean": (0.5, 0.5, "a")},
        {"size": 32, "std": (0.5, 0.5, 0)},
        {"size": 32, "std": (0.5, 0.5, float("nan"))},
        {"size": 32, "std": (10**400, 1, 1)},
        {"size": 32, "interpolation": "nearest"},
        {"size": 32, "crop": None},
    ],
)
def test_a_wrong_value_of_a_preprocessing_is_an_error_of_tier4k(values: dict[str, Any]) -> None:
    with pytest.raises(TierError, match="use"):
        image_preprocessing(**values)
