"""A metric object: a run or an exported model, loaded once, that scores pictures in memory."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from huggingface_hub import ModelHubMixin

from tier4k.extract.encoders.levels import Levels
from tier4k.extract.pipeline.live import LiveEncoders, Picture
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.fusion import FusionError
from tier4k.heads.encoders.sources import Source, sources
from tier4k.heads.results.model import HeadKey, Model, ModelError, read_model, score_table

Pictures = Picture | Sequence[Picture]

Prompts = str | Sequence[str]

Guides = Picture | Sequence[Picture | None] | None


class Metric(
    ModelHubMixin,
    library_name="tier4k",
    tags=["image-quality-assessment"],
    repo_url="https://arxiv.org/abs/2404.18409",
):
    """Scores pictures as people would: higher is better, in the units of the scores that the heads were fitted on.

    Make one with `load`, or with `Metric.from_pretrained` of an exported model, which may lie on the Hugging Face hub.

    Args:
        sources: Heads with their encoders.
        device: "auto", or a torch device.

    Attributes:
        targets: Names of the scores that it gives.
        method: "nr", "fr" (needs image prompts) or "pr" (uses them where there are some).
        lower_better: False; the name is that of other metric libraries.
    """

    lower_better = False

    def __init__(self, sources: Sequence[Source], device: str = "auto") -> None:
        self.sources = tuple(sources)
        self.targets = tuple(dict.fromkeys(target for source in sources for target in source.model.targets))
        self.method = sources[0].model.method
        self._live = [LiveEncoders(source.image, source.text, device) for source in sources]

    def score(
        self, image: Pictures, prompt: Prompts, image_prompt: Guides = None, target: str | None = None
    ) -> float | np.ndarray:
        """The score of a picture, or (N,) scores of several.

        Args:
            image: A path, a PIL picture, an array (H, W, 3) or a tensor (3, H, W), uint8 or floating from 0 to 1; or a list, an array
                (N, H, W, 3) or a tensor (N, 3, H, W) of several.
            prompt: Its text prompt; one for all, or as many as pictures.
            image_prompt: Its image prompt, in the same forms; None, also in a list, where there is none.
            target: Which score; needed where there are several.

        Raises:
            ModelError: The target is missing or unknown, or the lists are not of one length.
            FusionError: Full reference, and an image prompt is missing.
            PictureError: Something is no picture.
        """
        chosen = self._target(target)
        predicted = self._predict(image, prompt, image_prompt, chosen)
        scores = np.mean(list(predicted.values()), axis=0)
        return scores if _is_several(image) else float(scores[0])

    __call__ = score

    def table(self, image: Pictures, prompt: Prompts, image_prompt: Guides = None) -> pd.DataFrame:
        """Every score with its conformal interval and the spread over the heads (see `score_table`); arguments and errors as `score`."""
        predicted = self._predict(image, prompt, image_prompt, None)
        widths = {
            place: width for source in self.sources for place, width in source.model.half_widths.items()
        }
        given = image if _is_several(image) else [image]
        names = [str(one) if isinstance(one, str | Path) else str(number) for number, one in enumerate(given)]  # type: ignore[arg-type]
        return score_table(names, predicted, widths)

    def _target(self, target: str | None) -> str:
        if target is None and len(self.targets) == 1:
            return self.targets[0]
        if target not in self.targets:
            raise ModelError(
                f"there is no target {target!r}: choose one of {', '.join(self.targets)} with target=…"
            )
        return target

    def _predict(
        self, image: Pictures, prompt: Prompts, image_prompt: Guides, target: str | None
    ) -> dict[HeadKey, np.ndarray]:
        pictures: list[Any] = list(image) if _is_several(image) else [image]  # type: ignore[arg-type]
        if not pictures:
            raise ModelError("there are no pictures to score: the list is empty")
        prompts = _as_many(
            prompt, len(pictures), "prompts", isinstance(prompt, str) or not isinstance(prompt, Iterable)
        )
        guides = _as_many(image_prompt, len(pictures), "image prompts", not _is_several(image_prompt))
        if wrong := [text for text in prompts if not isinstance(text, str) or not text.strip()]:
            raise ModelError(f"{wrong[0]!r} is no text prompt: a picture is scored for what it was to show")
        if self.method == "fr" and any(guide is None for guide in guides):
            raise FusionError(
                "these heads are full reference (fr): give an image_prompt for every picture, or use a run of method pr or nr"
            )
        if self.method == "nr":
            guides = [None] * len(pictures)
        predicted: dict[HeadKey, np.ndarray] = {}
        for source, live in zip(self.sources, self._live, strict=True):
            if target in (None, *source.model.targets):
                predicted |= source.model.only(target).predict(
                    _features(source.model, live, pictures, [text.strip() for text in prompts], guides)
                )
        return predicted

    def _save_pretrained(self, save_directory: Path) -> None:
        from tier4k.heads.inference.export import export_into

        export_into(self.sources, save_directory)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        **options: Any,
    ) -> "Metric":
        if Path(model_id).is_dir():
            return load(model_id, **options)
        from huggingface_hub import snapshot_download

        place = {
            "revision": revision,
            "cache_dir": cache_dir,
            "local_files_only": local_files_only,
            "token": token,
        }
        return load(snapshot_download(model_id, force_download=force_download, **place), **options)  # type: ignore[arg-type]


def load(
    path: str | Path,
    target: str | None = None,
    repeat: int | None = None,
    device: str = "auto",
    image_weights: Path | None = None,
    text_weights: Path | None = None,
) -> Metric:
    """Load a run or an exported model; nothing in it is executed.

    Args:
        path: Its folder.
        target: One score alone, so that `score` needs not be told which.
        repeat: The head of one repeat alone; None for the mean over all.
        device: "auto", or a torch device such as "cuda:1".
        image_weights, text_weights: Where the encoders' weights are, if not with the model nor where `tier extract` finds them.

    Raises:
        ModelError: There are no readable heads, or not of this target or repeat.
        WeightsError, SignatureError: The encoders are missing, or not those that the heads were fitted on.
    """
    return Metric(sources(read_model(Path(path)).only(target, repeat), image_weights, text_weights), device)


def _is_several(value: object) -> bool:
    return isinstance(value, list | tuple) or (
        isinstance(value, np.ndarray | torch.Tensor) and value.ndim == 4
    )


def _as_many(value: Any, count: int, what: str, is_one: bool) -> list[Any]:
    values = [value] * count if is_one else list(value)
    if len(values) != count:
        raise ModelError(f"{len(values)} {what} for {count} pictures: give one for all, or as many")
    return values


def _features(
    model: Model,
    live: LiveEncoders,
    pictures: Sequence[Picture],
    prompts: Sequence[str],
    guides: Sequence[Picture | None],
) -> FeatureSet:
    """Features of pictures in memory; pictures and image prompts that are the same object are encoded once."""
    guided = [guide for guide in guides if guide is not None]
    distinct = {id(one): one for one in (*pictures, *guided)}
    number = {key: row for row, key in enumerate(distinct)}
    encoded = live.pictures(list(distinct.values()))
    if model.stages:
        encoded = encoded[..., Levels.parse(model.signatures["image"].feature).columns(model.stages)]
    image = encoded[[number[id(one)] for one in pictures]]
    image_prompt = np.zeros_like(image)
    has_image_prompt = np.array([guide is not None for guide in guides])
    image_prompt[has_image_prompt] = encoded[[number[id(one)] for one in guided]]
    names = np.array([str(row) for row in range(len(pictures))])
    return FeatureSet(
        text=live.texts(prompts),
        image=image,
        image_prompt=image_prompt,
        has_image_prompt=has_image_prompt,
        targets=np.empty((len(pictures), 0)),
        target_names=(),
        name=names,
        group=names,
        generator=names,
        position=np.arange(len(pictures)),
        picture=names,
    )
