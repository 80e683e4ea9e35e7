"""Rewards of images for the training of generators: the scores of heads or of a scorer, as tensors."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tier4k.cache.errors import TierError
from tier4k.extract.encoders.function import ImageEncoderFunction
from tier4k.extract.pipeline.given_images import ImageInput
from tier4k.extract.pipeline.loaded_encoders import BATCH
from tier4k.extract.pipeline.loaded_scorers import LiveScorers
from tier4k.extract.scorers.called import CalledScorer
from tier4k.extract.scorers.find import AnyScorer, find_scorer, is_scorer_name
from tier4k.extract.scorers.from_signature import scorer_of
from tier4k.extract.scorers.presets import SCORERS
from tier4k.extract.scorers.scorer import Scorer
from tier4k.extract.weights.files import search_folders
from tier4k.heads.encoders.sources import EncoderSource, beside_training, encoder_sources
from tier4k.heads.inference.given_rows import (
    ImagePrompts,
    Images,
    Prompts,
    image_list,
    image_prompt_list,
    prompt_list,
)
from tier4k.heads.inference.gradient import DifferentiableHeadRewards, DifferentiableScorerRewards
from tier4k.heads.inference.metric import Metric
from tier4k.heads.inference.predict import is_zero_shot, scorer_signature
from tier4k.heads.results.read_model import read_model
from tier4k.heads.results.run import Run, run_folder


class RewardError(TierError):
    """A reward cannot be made or computed."""


class RowRewards(Protocol):
    """Computes the rewards of lists of images; `Reward` takes other forms of images too."""

    device: torch.device

    def __call__(
        self,
        images: Sequence[ImageInput],
        prompts: Prompts,
        image_prompts: Sequence[ImageInput | None],
    ) -> Tensor:
        """Return the rewards (N,) of N images with their prompts and image prompts, on any device."""


class Reward:
    """A reward of images. Make it with `reward`. Threads may share it.

    Args:
        rewards: Computes the rewards of rows.
        gradient: Whether rewards have a gradient by the pixels.

    Attributes:
        device: The torch device of the rewards.
        gradient: Whether rewards have a gradient by the pixels.
    """

    def __init__(self, rewards: RowRewards, gradient: bool) -> None:
        self._rewards = rewards
        self.device = rewards.device
        self.gradient = gradient

    def __call__(
        self,
        *,
        images: Images,
        prompts: Prompts = None,
        image_prompts: ImagePrompts = None,
    ) -> Tensor:
        """Return the rewards (N,) of N images, float32, on the device.

        Args:
            images: Tensor (N, 3, H, W) or (3, H, W), array (N, H, W, 3) or (H, W, 3), PIL image or path; or a
                list of images, which may differ in size. Pixels are uint8, or floats from 0 to 1. A tensor on
                a GPU is not copied to the memory of the machine.
            prompts: The text prompt of each image, or one for all; None only where the reward reads none.
            image_prompts: The image prompt of each image, or one for all, in the forms of an image; None
                (also in a list) where there is none. Rewards that read no image prompts do not use them.

        Raises:
            FusionError: The heads need image prompts and one is missing.
            ImageError: An input is not an image.
            ModelError: The lists differ in length, or a prompt is missing.
            RewardError: The images require a gradient and the reward has none.
        """
        listed = image_list(images)
        listed_prompts = image_prompt_list(image_prompts, len(listed))
        if not self.gradient:
            _require_no_gradient([*listed, *listed_prompts])
        with torch.autocast(self.device.type, enabled=False):  # as if there were none around the caller
            return self._rewards(listed, prompts, listed_prompts).to(self.device, torch.float32)


def reward(
    source: str | Path | Run,
    *,
    target: str | None = None,
    repeat: int | None = None,
    device: str = "auto",
    batch_size: int = BATCH,
    gradient: bool = False,
    weights: Path | None = None,
    lower_is_better: bool = False,
    image_weights: Path | ImageEncoderFunction | None = None,
    text_weights: Path | None = None,
    trusted: Collection[str] = (),
) -> Reward:
    """Return a reward of images: `reward(images=…, prompts=…)` gives a tensor (N,).

    Args:
        source: A run, the folder of a run or of an exported model, or a scorer of `tier score`, such as
            "imagereward". A folder with the name of a scorer is written "./imagereward".
        target: Name of the score that heads predict; required if they have several.
        repeat: The only repeat whose head is used; None gives the mean over the heads of all repeats.
        device: "auto", or a torch device such as "cuda:1".
        batch_size: Number of images or texts that go through a network at once.
        gradient: Whether rewards have a gradient by the pixels. Images must be float tensors then; their
            resize does not round, so that rewards differ a little from those without a gradient.
        weights: Weights of a scorer: a file or a folder; None searches as `tier score` does.
        lower_is_better: Whether the sign of a scorer of another package is changed, so that higher is better.
        image_weights: Weights of the image encoder of heads; None searches as `load` does.
        text_weights: Weights of the text encoder of heads; None searches as `load` does.
        trusted: Names of types and scorers of other packages that a run may import (see `load`).

    Raises:
        ModelError: There are no readable heads, or none of this target or repeat.
        PluginError: A scorer of another package is not trusted, or cannot be imported.
        RewardError: The source does not exist, several targets are left, or no gradient exists.
        WeightsError: Weights are missing.
        SignatureError: An encoder or a scorer differs from that of the run.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise RewardError(f"batch_size={batch_size!r} is no number of images: pass a whole number from 1")
    folder = run_folder(source)
    name = str(source)
    if is_scorer_name(name) or (folder.is_dir() and is_zero_shot(folder)):
        _require_no_heads(
            name, target=target, repeat=repeat, image_weights=image_weights, text_weights=text_weights
        )
        scorer = _scorer(name, folder, weights, lower_is_better, trusted)
        if gradient:
            return Reward(
                DifferentiableScorerRewards(_differentiable_scorer(scorer), device, batch_size), gradient
            )
        scorers = LiveScorers([scorer], device, batch_size)
        if isinstance(scorer, CalledScorer) and (notes := scorers.notes()):
            raise RewardError(f"{notes[0]} (in Python, lower_is_better=True): in a reward, higher is better")
        return Reward(ScorerRewards(scorers, scorer.reads_prompts), gradient)
    if not folder.is_dir():
        raise RewardError(
            f"there is neither a folder nor a scorer {str(folder)!r}: pass the folder of a run or of an "
            f"exported model, or a scorer, such as {', '.join(SCORERS)}"
        )
    if weights is not None:
        raise RewardError(
            f"weights={str(weights)!r} are those of a scorer, and {folder} has heads: pass image_weights=… "
            "or text_weights=… instead"
        )
    model = read_model(folder, trusted).averaged(target, repeat)
    if len(model.targets) > 1:
        raise RewardError(
            f"{folder} has heads for several targets: pass target=…, one of {', '.join(model.targets)}"
        )
    sources = encoder_sources(model, image_weights, text_weights, trusted=trusted)
    if gradient:
        _require_no_scores(sources)
        return Reward(DifferentiableHeadRewards(sources, device, batch_size), gradient)
    return Reward(HeadRewards(Metric(sources, device, batch_size)), gradient)


class HeadRewards:
    """Rewards by heads with one target: the mean over their repeats."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self.device = metric.device

    def __call__(
        self,
        images: Sequence[ImageInput],
        prompts: Prompts,
        image_prompts: Sequence[ImageInput | None],
    ) -> Tensor:
        """Return the rewards (N,)."""
        return torch.from_numpy(np.asarray(self._metric.score(images, prompts, image_prompts)))


class ScorerRewards:
    """Rewards by a scorer, which reads no image prompts."""

    def __init__(self, scorers: LiveScorers, reads_prompts: bool) -> None:
        self._scorers = scorers
        self._reads_prompts = reads_prompts
        self.device = scorers.device

    def __call__(
        self,
        images: Sequence[ImageInput],
        prompts: Prompts,
        image_prompts: Sequence[ImageInput | None],  # noqa: ARG002
    ) -> Tensor:
        """Return the rewards (N,)."""
        texts = prompt_list(prompts, len(images)) if self._reads_prompts else [""] * len(images)
        scores = self._scorers.scores(images, texts)
        assert scores is not None
        return torch.from_numpy(scores[:, 0])


def _scorer(
    name: str,
    folder: Path,
    weights: Path | None,
    lower_is_better: bool,
    trusted: Collection[str],
) -> AnyScorer:
    """Find the scorer with a name, or the scorer of a run of `tier score`, which has the sign of the run."""
    if is_scorer_name(name):
        return find_scorer(name, weights, search_folders(None), lower_is_better=lower_is_better)
    folders = [*search_folders(None), *beside_training(folder)]
    return scorer_of(scorer_signature(folder), weights, folders, trusted)


def _differentiable_scorer(scorer: AnyScorer) -> Scorer:
    """Return the scorer; one of another package is refused."""
    if isinstance(scorer, CalledScorer):
        raise RewardError(
            f"{scorer.signature.encoder} is a scorer of another package, without a gradient here: leave out "
            "gradient=True, or call the package itself"
        )
    return scorer


def _require_no_scores(sources: Sequence[EncoderSource]) -> None:
    """Refuse a gradient by heads that read the scores of scorers."""
    scorers = {name for source in sources for name in source.scorers}
    if scorers:
        raise RewardError(
            f"the heads read scores of {', '.join(sorted(scorers))}, which have no gradient here: leave out "
            "gradient=True, or use heads that were fitted without --score-features"
        )


def _require_no_heads(source: str, **options: Any) -> None:
    """Refuse options of heads for a scorer."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise RewardError(
            f"{source} is a scorer, which has no {' and no '.join(given)}: leave {' and '.join(given)} out"
        )


def _require_no_gradient(images: Sequence[Any]) -> None:
    if not torch.is_grad_enabled():
        return
    if any(isinstance(image, Tensor) and image.requires_grad for image in images):
        raise RewardError(
            "the images require a gradient, and this reward has none: make it with tier4k.reward(…, "
            "gradient=True), or detach the images"
        )
