"""Rewards: values of all forms of images, threads, and gradients against finite differences."""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

import tier4k
from tier4k.cache.errors import TierError
from tier4k.extract.encoders.find import find_text_encoder, function_encoder
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.images.crops import Crops
from tier4k.extract.pipeline import live_images
from tier4k.extract.scorers.find import find_scorer
from tier4k.extract.scorers.scorer import Scorer
from tier4k.heads.data.streams import Streams
from tier4k.heads.encoders.sources import EncoderSource
from tier4k.heads.inference.gradient import DifferentiableHeadRewards, DifferentiableScorerRewards
from tier4k.heads.inference.head_modules import HeadModule
from tier4k.heads.inference.metric import Metric
from tier4k.heads.inference.reward import HeadRewards, Reward
from tier4k.heads.regressors.base import BaseHead
from tier4k.heads.regressors.ensemble import EnsembleHead
from tier4k.heads.regressors.kernel import KernelRidgeHead, SVRHead
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.options import HeadError
from tier4k.heads.regressors.ridge import RidgeHead
from tier4k.heads.results.model import Model
from tier4k.tests.builders.own_encoders import PREPROCESSING, QUARTERS
from tier4k.tests.builders.scorers import SIDE, write_clip

PROMPTS = ["a red fox", "two boats", "a red fox"]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip")


@pytest.fixture(scope="module")
def clip_reward(clip_folder: Path) -> Reward:
    """The reward of CLIPScore by a tiny CLIP."""
    return tier4k.reward("clipscore", weights=clip_folder, device="cpu")


@pytest.fixture(scope="module")
def resizing_reward(clip_folder: Path) -> Reward:
    """The same on a CPU that preprocesses tensors as a GPU does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_images, "RESIZING_DEVICES", ("cpu",))
        reward = tier4k.reward("clipscore", weights=clip_folder, device="cpu")
        reward(images=pixels(1), prompts="a fox")  # makes what reads images
    return reward


def pixels(count: int, height: int = 41, width: int = 57) -> Tensor:
    """Return images (count, 3, height, width) uint8."""
    random = torch.Generator().manual_seed(height + width)
    return torch.randint(256, (count, 3, height, width), dtype=torch.uint8, generator=random)


def as_pil(images: Tensor) -> list[Image.Image]:
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]


def clip_scores(folder: Path, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
    """Return CLIPScores by Pillow and transformers alone."""
    model = CLIPModel.from_pretrained(folder).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    found = []
    for image, prompt in zip(images, prompts, strict=True):
        shorter = min(image.size)
        size = (image.width * SIDE // shorter, image.height * SIDE // shorter)
        left, top = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
        crop = image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + SIDE, top + SIDE))
        values = (np.asarray(crop) / 255 - (0.48145466, 0.4578275, 0.40821073)) / (
            0.26862954,
            0.26130258,
            0.27577711,
        )
        tensor = torch.from_numpy(values).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            output = model(**tokenizer([prompt], return_tensors="pt"), pixel_values=tensor)
        found.append(float((output.image_embeds * output.text_embeds).sum()))
    return found


def test_a_scorer_rewards_every_form_of_an_image_alike(
    clip_folder: Path, clip_reward: Reward, resizing_reward: Reward
) -> None:
    images = pixels(3)
    pil = as_pil(images)
    expected = clip_scores(clip_folder, pil, PROMPTS)
    arrays = images.permute(0, 2, 3, 1).numpy()
    forms = (images, list(images), images.float() / 255, arrays, pil, [pil[0], images[1], arrays[2] / 255])
    for reward, form in product((clip_reward, resizing_reward), forms):
        found = reward(images=form, prompts=PROMPTS)
        assert (found.shape, found.dtype, found.device) == ((3,), torch.float32, reward.device)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    single = clip_reward(images=images[0], prompts=PROMPTS[0])
    np.testing.assert_allclose(single, expected[:1], atol=1e-5)


def test_a_gpu_reads_tensors_without_the_memory_of_the_machine(
    resizing_reward: Reward, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = resizing_reward(images=as_pil(pixels(2)), prompts="a fox")
    monkeypatch.setattr("tier4k.extract.pipeline.live_images.as_image", None)  # which decodes there
    assert resizing_reward(images=pixels(2), prompts="a fox").tolist() == expected.tolist()


def test_images_of_several_sizes_keep_their_places(clip_reward: Reward, resizing_reward: Reward) -> None:
    images = [pixels(1, 40, 60)[0], pixels(1, 33, 35)[0], pixels(1, 40, 60)[0].flip(2), pixels(1, 80, 64)[0]]
    prompts = ["a", "b", "c", "d"]
    single = [float(clip_reward(images=one, prompts=text)) for one, text in zip(images, prompts, strict=True)]
    mixed = [images[0], *as_pil(torch.stack([images[1]])), images[2], images[3]]
    for reward in (clip_reward, resizing_reward):
        np.testing.assert_allclose(reward(images=mixed, prompts=prompts), single, atol=1e-5)


def test_arguments_cannot_be_swapped(clip_reward: Reward) -> None:
    with pytest.raises(TypeError):
        clip_reward(pixels(1), "a fox")  # type: ignore[misc]
    with pytest.raises(TierError, match="a Tensor is not a text prompt"):
        clip_reward(images=["a fox"], prompts=pixels(1))  # type: ignore[arg-type]


WRONG = {
    "source": (lambda _: tier4k.reward("imagereword"), "neither a folder nor a scorer 'imagereword'"),
    "target": (lambda _: tier4k.reward("clipscore", target="MOS"), "has no target"),
    "weights": (lambda _: tier4k.reward("clipscore", image_weights=Path("w")), "has no image_weights"),
    "batch size": (lambda _: tier4k.reward("clipscore", batch_size=0), "batch_size=0 is no number"),
    "sparse": (lambda reward: reward(images=pixels(1)[0].to_sparse(), prompts="a"), "pass a dense one"),
    "meta": (lambda reward: reward(images=pixels(1).to("meta"), prompts="a"), "on meta has no pixels"),
    "prompt": (lambda reward: reward(images=pixels(1)), "None is not a text prompt"),
    "lengths": (lambda reward: reward(images=pixels(2), prompts=["a"]), "1 prompts for 2 images"),
    "none": (lambda reward: reward(images=[], prompts=[]), "empty"),
    "range": (lambda reward: reward(images=pixels(2).float(), prompts="a"), "divide the pixels by 255"),
    "type": (lambda reward: reward(images=pixels(2).long(), prompts="a"), "int64"),
    "gradient": (
        lambda reward: reward(images=torch.rand(3, 40, 40, requires_grad=True), prompts="a"),
        "gradient=True",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_call_is_refused_with_a_remedy(
    clip_reward: Reward, resizing_reward: Reward, case: str
) -> None:
    call, expected = WRONG[case]
    for reward in (clip_reward, resizing_reward):
        with pytest.raises(TierError, match=expected):
            call(reward)


HEADS: dict[str, BaseHead] = {
    "ridge": RidgeHead(image_transform="sqrt"),
    "mlp": MLPHead(hidden=4, max_epochs=3, activation="gelu", random_state=0),
    "gated": MLPHead(hidden=4, max_epochs=3, fusion="gated", activation="silu", random_state=0),
    "kernel-ridge": KernelRidgeHead(target_transform="rank-gauss"),
    "streams": KernelRidgeHead(kernels="streams+product"),
    "svr": SVRHead(),
    "ensemble": EnsembleHead(members=("ridge", "svr"), random_state=0),
    "ranks": EnsembleHead(members=("ridge", "kernel-ridge"), combine="ranks", random_state=0),
    "interaction": RidgeHead(interaction="cosine+product+templates"),
    "map": KernelRidgeHead(kernels="encoders+product", interaction="map", leave_out="group"),
}
SLOW = ("gated", "kernel-ridge", "svr", "ensemble")  # others have the same modules


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in HEADS]
)
def test_a_head_has_one_value_and_the_right_gradient_as_a_module(name: str) -> None:
    random = np.random.default_rng(0)
    widths = {"text": 3, "image": 5}
    streams = Streams.of(**widths)
    if name in ("interaction", "map"):
        streams = _with_embeddings(streams)
    X = random.normal(size=(40, streams.width))
    head = HEADS[name].fit(X, np.tanh(X @ random.normal(size=streams.width)), streams=streams)
    module = HeadModule(head, torch.float64)
    inputs = torch.from_numpy(random.normal(size=(4, streams.width))).requires_grad_()
    np.testing.assert_allclose(
        module(inputs)[:, 0].detach(), head.predict(inputs.detach().numpy()), atol=1e-9
    )
    assert torch.autograd.gradcheck(module, inputs)


def _with_embeddings(streams: Streams) -> Streams:
    from tier4k.heads.data.streams import Part

    embeddings = (Part("embedding", "image", 3), Part("embedding", "text", 3), Part("templates", "", 2))
    return Streams((*streams.parts, *embeddings))


def test_the_gradient_of_a_root_at_zero_is_zero() -> None:
    X = np.random.default_rng(0).normal(size=(30, 4))
    module = HeadModule(RidgeHead(image_transform="sqrt").fit(X, X[:, 0]), torch.float64)
    inputs = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    module(inputs).sum().backward()
    assert inputs.grad is not None
    assert (inputs.grad == 0).all()


def test_a_head_of_a_user_has_no_gradient() -> None:
    class Mine(RidgeHead):
        """A head whose predictions tier4k does not know."""

    X = np.random.default_rng(0).normal(size=(30, 4))
    with pytest.raises(HeadError, match="Mine is no head of tier4k"):
        HeadModule(Mine().fit(X, X[:, 0]), torch.float64)


def head_source(method: str, crops: int = 0, text_folder: Path | None = None) -> EncoderSource:
    """Return two ridge heads on the colours of the quarters of images, and on texts."""
    choice = ImageChoice(crops=Crops(crops) if crops else None)
    image = function_encoder(QUARTERS, choice)
    signatures = {"image": image.signature}
    find_texts = {}
    width = 24 if method == "fr" else 12
    if text_folder is not None:
        text = find_text_encoder("bert-base-uncased", text_folder)
        signatures["text"] = text.signature
        find_texts["bert-base-uncased"] = lambda: text
        width += 96
    random = np.random.default_rng(1)
    heads = {}
    for repeat in range(2):
        X = random.normal(size=(30, width))
        heads["MOS", repeat] = KernelRidgeHead().fit(X, X @ random.normal(size=width))
    streams = () if text_folder else (("image", "image-prompt") if method == "fr" else ("image",))
    model = Model(Path("run"), method, "kernel-ridge", {}, signatures, (), heads, {}, {}, streams=streams)  # type: ignore[arg-type]
    return EncoderSource(model, {"quarters": lambda: image}, find_texts)


@pytest.mark.parametrize("method", ["nr", "pr", "fr"])
def test_the_reward_of_heads_with_a_gradient_is_that_without_but_for_rounding(method: str) -> None:
    source = head_source(method)
    images, guides = pixels(4).float() / 255, pixels(4, 45, 33).float() / 255
    image_prompts = None if method == "nr" else [guides[0], guides[1], guides[2], guides[3]]
    if method == "pr" and image_prompts:
        image_prompts[1] = None
    plain = Reward(HeadRewards(Metric([source], "cpu")), gradient=False)
    exact = plain(images=images, image_prompts=image_prompts)
    metric = Metric([source], "cpu").score(as_pil(pixels(4)), None, image_prompts)
    np.testing.assert_allclose(exact, metric, atol=1e-6)
    smooth = Reward(DifferentiableHeadRewards([source], "cpu", 3), gradient=True)
    found = smooth(images=images.requires_grad_(), image_prompts=image_prompts)
    assert found.requires_grad
    np.testing.assert_allclose(found.detach(), exact, atol=0.03)


def finite_difference(rewards: object, images: Tensor, direction: Tensor, prompts: object) -> Tensor:
    """Return the derivative (N,) of rewards in a direction by central differences."""
    step = 1e-5
    ends = [rewards(images + sign * step * direction, prompts, [None] * len(images)) for sign in (1, -1)]  # type: ignore[operator]
    return (ends[0] - ends[1]) / (2 * step)


def assert_gradient_is_right(
    rewards: DifferentiableHeadRewards | DifferentiableScorerRewards, prompts: object
) -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 37, 45, generator=random, dtype=torch.float64) * 0.8 + 0.1
    direction = torch.randn(images.shape, generator=random, dtype=torch.float64)
    leaf = images.clone().requires_grad_()
    rewards(list(leaf), prompts, [None, None]).sum().backward()  # type: ignore[arg-type]
    assert leaf.grad is not None
    found = (leaf.grad * direction).sum((1, 2, 3))
    expected = finite_difference(rewards, images, direction, prompts)
    assert (expected.abs() > 1e-4).all()
    np.testing.assert_allclose(found, expected.detach(), rtol=1e-4)


def test_the_gradient_of_heads_equals_finite_differences() -> None:
    rewards = DifferentiableHeadRewards([head_source("nr")], "cpu", 8)
    rewards.networks[0].network.double()
    assert_gradient_is_right(rewards, None)


def test_an_autocast_around_a_reward_changes_nothing(clip_folder: Path, clip_reward: Reward) -> None:
    graded = Reward(DifferentiableHeadRewards([head_source("nr")], "cpu", 8), gradient=True)
    scored = tier4k.reward("clipscore", weights=clip_folder, device="cpu", gradient=True)
    images = torch.rand(2, 3, 41, 57)
    for reward in (clip_reward, graded, scored):
        expected = reward(images=images, prompts=["a red fox", "two boats"])
        with torch.autocast("cpu", torch.bfloat16):
            found = reward(images=images, prompts=["a red fox", "two boats"])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_features_of_another_length_than_in_the_fit_are_refused() -> None:
    source = head_source("nr")
    image = function_encoder(replace(QUARTERS, function=lambda images: images[:, 0, 0]), ImageChoice())
    changed = replace(source, find_images={"quarters": lambda: image})
    for rewards in (HeadRewards(Metric([changed], "cpu")), DifferentiableHeadRewards([changed], "cpu", 8)):
        with pytest.raises(TierError, match="fitted on 12 features of each row, and there are 32"):
            rewards([torch.rand(3, 40, 40)], None, [None])


def test_the_gradient_of_a_scorer_equals_finite_differences(clip_folder: Path) -> None:
    scorer = find_scorer("clipscore", clip_folder)
    assert isinstance(scorer, Scorer)
    rewards = DifferentiableScorerRewards(scorer, "cpu", 8)
    rewards.networks[0].network.double()
    assert_gradient_is_right(rewards, ["a fox", "a boat"])


def test_a_reward_with_a_gradient_trains_an_image(clip_folder: Path, clip_reward: Reward) -> None:
    reward = tier4k.reward("clipscore", weights=clip_folder, device="cpu", gradient=True)
    image = (pixels(1)[0].float() / 255).requires_grad_()
    before = reward(images=image, prompts="a fox")
    np.testing.assert_allclose(before.detach(), clip_reward(images=pixels(1), prompts="a fox"), atol=2e-3)
    before.sum().backward()
    assert image.grad is not None
    step = (image + 0.02 * image.grad.sign()).clamp(0, 1).detach()
    assert clip_reward(images=step, prompts="a fox") > before
    with pytest.raises(TierError, match="floats from 0 to 1, not a value of type Image"):
        reward(images=as_pil(pixels(1)), prompts="a fox")


def test_random_crops_have_no_gradient() -> None:
    with pytest.raises(TierError, match="extract without --crops"):
        DifferentiableHeadRewards([head_source("nr", crops=2)], "cpu", 8)
    assert PREPROCESSING.size == 32


@pytest.mark.slow
def test_a_thousand_calls_from_eight_threads_equal_serial_calls(clip_folder: Path, bert_folder: Path) -> None:
    images, prompts = (
        pixels(20),
        [f"prompt {number % 7} {'and more ' * (number % 5)}" for number in range(20)],
    )
    rewards = [
        lambda: tier4k.reward("clipscore", weights=clip_folder, device="cpu"),
        lambda: Reward(HeadRewards(Metric([head_source("nr", text_folder=bert_folder)], "cpu")), False),
    ]
    for make, calls in zip(rewards, (1000, 200), strict=True):
        serial_reward = make()
        serial = []
        for image, text in zip(images, prompts, strict=True):
            serial.append(float(serial_reward(images=image, prompts=text)))
        shared = make()  # its networks are loaded by threads

        def call(number: int, reward: Reward = shared) -> float:
            return float(reward(images=images[number % 20], prompts=prompts[number % 20]))

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(call, range(calls)))
        np.testing.assert_allclose(found, serial * (calls // 20), atol=1e-5)


class Brightness:
    """A scorer of another package: how bright an image is."""

    name = "brightness"
    version = "1"

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        assert len(prompts) == len(images)
        return images.mean(dim=(1, 2, 3))


def test_a_scorer_of_another_package_is_a_reward_without_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bright", ModuleType("bright"))
    monkeypatch.setattr(sys.modules["bright"], "Brightness", Brightness, raising=False)
    images = torch.rand(3, 3, 20, 30)
    values = tier4k.reward("bright:Brightness", device="cpu")(images=images, prompts=PROMPTS)
    levels = (images * 255).round() / 255
    torch.testing.assert_close(values, levels.mean(dim=(1, 2, 3)), rtol=0, atol=2 / 255)
    with pytest.raises(TierError, match="leave out gradient=True"):
        tier4k.reward("bright:Brightness", device="cpu", gradient=True)
    monkeypatch.setattr(Brightness, "reads_prompts", False, raising=False)
    without_prompts = tier4k.reward("bright:Brightness", device="cpu")(images=images)
    assert without_prompts.tolist() == values.tolist()
