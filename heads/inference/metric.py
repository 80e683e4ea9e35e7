"""A metric object: it loads a run or an exported model once and scores images in memory."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from huggingface_hub import ModelHubMixin

from tier4k.extract.pipeline.loaded_encoders import ImageInput
from tier4k.heads.data.fusion import FusionError
from tier4k.heads.encoders.sources import EncoderSource, encoder_sources
from tier4k.heads.inference.live_heads import LiveHeads
from tier4k.heads.results.model import HeadKey, ModelError, read_model, score_table

Images = ImageInput | Sequence[ImageInput]

Prompts = str | Sequence[str] | None

ImagePrompts = ImageInput | Sequence[ImageInput | None] | None


class Metric(
    ModelHubMixin,
    library_name="tier4k",
    tags=["image-quality-assessment"],
    repo_url="https://arxiv.org/abs/2404.18409",
):
    """Scores images as people do: higher is better, in the units of the scores in the training data.

    Make a metric with `load`, or with `Metric.from_pretrained` from an exported model in a folder or on the
    hub.

    Args:
        sources: Heads with their encoders.
        device: "auto", or a torch device.

    Attributes:
        targets: Names of the scores.
        method: "nr", "fr" (needs image prompts, unless the heads lack their stream) or "pr" (uses image
            prompts if they exist).
        reads_prompts: Whether text prompts are needed; they are not used otherwise.
        lower_better: False; other metric libraries use this name.
    """

    lower_better = False

    def __init__(self, sources: Sequence[EncoderSource], device: str = "auto") -> None:
        self.sources = tuple(sources)
        self.targets = _targets(sources)
        self.method = sources[0].model.method
        self.reads_prompts = sources[0].model.reads_prompts
        self._heads = [LiveHeads(source, device) for source in sources]

    def score(
        self,
        image: Images,
        prompt: Prompts = None,
        image_prompt: ImagePrompts = None,
        target: str | None = None,
    ) -> float | np.ndarray:
        """Return the score of an image, or the scores (N,) of several images.

        Args:
            image: A path, a PIL image, an array (H, W, 3) or a tensor (3, H, W), uint8 or float from 0 to 1;
                or several images as a list, an array (N, H, W, 3) or a tensor (N, 3, H, W). All are turned
                upright by their EXIF orientation, and composed over white where they have an alpha channel.
            prompt: Text prompt of the image; for several images one prompt for all, or one for each. Heads
                without a text stream accept a prompt, and do not use it.
            image_prompt: Image prompt of the image, in the forms of `image`; None (also in a list) means no
                image prompt.
            target: Name of the score; required if the metric has several targets.

        Raises:
            ModelError: The target is missing or unknown, or the lists differ in length.
            FusionError: The method is full reference and an image prompt is missing.
            ImageError: An input is not an image.
        """
        name = self._require_target(target)
        predicted = self._predict(image, prompt, image_prompt, name)
        scores = np.mean(list(predicted.values()), axis=0)
        return scores if _is_several(image) else float(scores[0])

    __call__ = score

    def table(
        self,
        image: Images,
        prompt: Prompts = None,
        image_prompt: ImagePrompts = None,
    ) -> pd.DataFrame:
        """Return every score with its prediction interval and the spread over the heads (see `score_table`).

        The images, prompts and image prompts have the forms that `score` accepts; the errors are the same.
        """
        predicted = self._predict(image, prompt, image_prompt, None)
        half_widths: dict[HeadKey, float] = {}
        for source in self.sources:
            half_widths.update(source.model.half_widths)
        names = [_name(item, number) for number, item in enumerate(_as_list(image))]
        return score_table(names, predicted, half_widths)

    def _require_target(self, target: str | None) -> str:
        if target is None and len(self.targets) == 1:
            return self.targets[0]
        if target not in self.targets:
            raise ModelError(
                f"there is no target {target!r}: pass target=…, one of {', '.join(self.targets)}"
            )
        return target

    def _predict(
        self,
        image: Images,
        prompt: Prompts,
        image_prompt: ImagePrompts,
        target: str | None,
    ) -> dict[HeadKey, np.ndarray]:
        images = _as_list(image)
        if not images:
            raise ModelError("the list of images is empty: pass at least one image")
        prompts = self._prompts(prompt, len(images))
        image_prompts = self._image_prompts(image_prompt, len(images))
        predicted: dict[HeadKey, np.ndarray] = {}
        for heads in self._heads:
            if target in (None, *heads.model.targets):
                predicted |= heads.predict(images, prompts, image_prompts, target)
        return predicted

    def _prompts(self, prompt: Prompts, count: int) -> list[str]:
        """Return one text prompt for each of `count` images; empty texts if prompts are not used."""
        return _text_prompts(prompt, count) if self.reads_prompts else [""] * count

    def _image_prompts(self, image_prompt: ImagePrompts, count: int) -> list[Any]:
        """Return one image prompt for each of `count` images; None means that it is missing or not used."""
        image_prompts = _repeat_for_images(
            image_prompt, count, "image prompts", not _is_several(image_prompt)
        )
        model = self.sources[0].model
        if not model.reads_image_prompts:
            return [None] * count
        if model.requires_image_prompts and any(item is None for item in image_prompts):
            raise FusionError(
                "the heads are full reference (fr) and need image prompts: pass an image_prompt for "
                "every image, or load a run of method pr or nr"
            )
        return image_prompts

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

        folder = snapshot_download(
            model_id,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )
        return load(folder, **options)


def load(
    path: str | Path,
    target: str | None = None,
    repeat: int | None = None,
    device: str = "auto",
    image_weights: Path | None = None,
    text_weights: Path | None = None,
) -> Metric:
    """Load a run or an exported model; no code in it is executed.

    Args:
        path: Folder of the run or model.
        target: The only target to load, which `score` then returns by default; None loads all targets.
        repeat: The only repeat to load; None loads all repeats, and scores are the mean over them.
        device: "auto", or a torch device such as "cuda:1".
        image_weights: File with the weights of the image encoder; None takes the weights in the model, or
            searches in the folders of `tier extract`.
        text_weights: Folder of the text encoder; None searches in the same way.

    Raises:
        ModelError: There are no readable heads, none of this target or repeat, or heads of several scales.
        WeightsError: The weights of an encoder are missing.
        SignatureError: An encoder differs from the encoder that the heads were fitted on.
    """
    model = read_model(Path(path)).averaged(target, repeat)
    return Metric(encoder_sources(model, image_weights, text_weights), device)


def _targets(sources: Sequence[EncoderSource]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for source in sources:
        names.update(dict.fromkeys(source.model.targets))
    return tuple(names)


def _is_several(value: object) -> bool:
    if isinstance(value, np.ndarray | torch.Tensor):
        return value.ndim == 4
    return isinstance(value, list | tuple)


def _as_list(image: Any) -> list[Any]:
    return list(image) if _is_several(image) else [image]


def _name(image: object, number: int) -> str:
    return str(image) if isinstance(image, str | Path) else str(number)


def _repeat_for_images(
    value: Any,
    count: int,
    noun: str,
    is_single: bool,
) -> list[Any]:
    values = [value] * count if is_single else list(value)
    if len(values) != count:
        raise ModelError(
            f"there are {len(values)} {noun} for {count} images: pass one for all images, or one for each "
            "image"
        )
    return values


def _text_prompts(prompt: Prompts, count: int) -> list[str]:
    is_single = isinstance(prompt, str) or not isinstance(prompt, Iterable)
    prompts = _repeat_for_images(prompt, count, "prompts", is_single)
    for text in prompts:
        if not isinstance(text, str) or not text.strip():
            raise ModelError(
                f"{text!r} is not a text prompt: pass the prompt that the image was generated from"
            )
    return [text.strip() for text in prompts]
