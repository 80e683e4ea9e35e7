"""A metric object: it loads a run or an exported model once and scores images in memory."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from huggingface_hub import ModelHubMixin

from tier4k.extract.encoders.function import ImageEncoderFunction
from tier4k.extract.pipeline.loaded_encoders import BATCH
from tier4k.heads.encoders.sources import EncoderSource, encoder_sources
from tier4k.heads.inference.given_rows import (
    ImagePrompts,
    Images,
    Prompts,
    image_list,
    image_prompts_of,
    is_several,
    prompts_of,
)
from tier4k.heads.inference.live_heads import LiveHeads
from tier4k.heads.inference.scores import ScoreSummary
from tier4k.heads.results.model import HeadKey, ModelError
from tier4k.heads.results.read_model import read_model
from tier4k.heads.results.run import Run, run_folder


class Metric(
    ModelHubMixin,
    library_name="tier4k",
    tags=["image-quality-assessment"],
    repo_url="https://arxiv.org/abs/2404.18409",
):
    """Scores images as people do: higher is better, in the units of the scores in the training data.

    Make a metric with `load`, or with `Metric.from_pretrained` from an exported model in a folder or on the
    hub. Threads may share it.

    Args:
        sources: Heads with their encoders.
        device: "auto", or a torch device.
        batch_size: Number of images or texts that go through a network at once.

    Attributes:
        targets: Names of the scores.
        method: "nr", "fr" (needs image prompts, unless the heads lack their stream) or "pr" (uses image
            prompts if they exist).
        reads_prompts: Whether text prompts are needed; they are not used otherwise.
        device: The torch device of the encoders.
        lower_better: False; other metric libraries use this name.
    """

    lower_better = False

    def __init__(
        self,
        sources: Sequence[EncoderSource],
        device: str = "auto",
        batch_size: int = BATCH,
    ) -> None:
        self.sources = tuple(sources)
        self.targets = _targets(sources)
        self.method = sources[0].model.method
        self.reads_prompts = sources[0].model.reads_prompts
        self._heads = [LiveHeads(source, device, batch_size=batch_size) for source in sources]
        self.device = self._heads[0].device

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
                upright by their EXIF orientation, and composited onto white where they have an alpha channel.
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
        return scores if is_several(image) else float(scores[0])

    __call__ = score

    def table(
        self,
        image: Images,
        prompt: Prompts = None,
        image_prompt: ImagePrompts = None,
    ) -> pd.DataFrame:
        """Return every score with its prediction interval and the spread over the heads (see `ScoreSummary`).

        The images, prompts and image prompts have the forms that `score` accepts; the errors are the same.
        """
        predicted = self._predict(image, prompt, image_prompt, None)
        half_widths: dict[HeadKey, float] = {}
        for source in self.sources:
            half_widths.update(source.model.half_widths)
        names = [_name(item, number) for number, item in enumerate(image_list(image))]
        summary = ScoreSummary(tuple(predicted), half_widths)
        return summary.table(names, summary.scores(predicted))

    def _require_target(self, target: str | None) -> str:
        if target is None and len(self.targets) == 1:
            return self.targets[0]
        if target not in self.targets:
            problem = "the run has several targets" if target is None else f"there is no target {target!r}"
            raise ModelError(f"{problem}: pass target=…, one of {', '.join(self.targets)}")
        return target

    def _predict(
        self,
        image: Images,
        prompt: Prompts,
        image_prompt: ImagePrompts,
        target: str | None,
    ) -> dict[HeadKey, np.ndarray]:
        images = image_list(image)
        model = self.sources[0].model
        prompts = prompts_of(model, prompt, len(images))
        image_prompts = image_prompts_of(model, image_prompt, len(images))
        predicted: dict[HeadKey, np.ndarray] = {}
        for heads in self._heads:
            if target in (None, *heads.model.targets):
                predicted |= heads.predict(images, prompts, image_prompts, target)
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
    run: str | Path | Run,
    target: str | None = None,
    repeat: int | None = None,
    device: str = "auto",
    image_weights: Path | ImageEncoderFunction | None = None,
    text_weights: Path | None = None,
    trusted: Collection[str] = (),
) -> Metric:
    """Load a run or an exported model; no code in it is executed.

    Args:
        run: The run, or the folder of a run or an exported model.
        target: The only target to load, which `score` then returns by default; None loads all targets.
        repeat: The only repeat to load; None loads all repeats, and scores are the mean over them.
        device: "auto", or a torch device such as "cuda:1".
        image_weights: File with the weights of the image encoder, or an image encoder in code or its import
            path; None takes the weights in the model, or searches in the folders of `tier extract`.
        text_weights: Folder of the text encoder; None searches in the same way.
        trusted: Names of types of other packages that heads of users may contain, such as
            "my_package.heads.Forest", and of scorers whose scores are features, such as
            "my_package.scorers:Sharpness": their code is executed. Those of installed entry points
            "tier4k.scorers" need not be named.

    Raises:
        EncoderError: Scores that are features were made elsewhere, and cannot be computed.
        PluginError: A scorer whose scores are features is not trusted, or cannot be imported.
        ModelError: There are no readable heads, none of this target or repeat, heads of several scales, or
            heads with types that are not trusted.
        WeightsError: The weights of an encoder are missing.
        SignatureError: An encoder differs from the encoder that the heads were fitted on.
    """
    model = read_model(run_folder(run), trusted).averaged(target, repeat)
    return Metric(encoder_sources(model, image_weights, text_weights, trusted=trusted), device)


def _targets(sources: Sequence[EncoderSource]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for source in sources:
        names.update(dict.fromkeys(source.model.targets))
    return tuple(names)


def _name(image: object, number: int) -> str:
    return str(image) if isinstance(image, str | Path) else str(number)
