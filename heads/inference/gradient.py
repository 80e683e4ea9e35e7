"""Rewards that are differentiable functions of the pixels of images."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tier4k.extract.encoders.levels import Levels
from tier4k.extract.pipeline.device import choose_device
from tier4k.extract.pipeline.differentiable import DifferentiableNetwork, float_images
from tier4k.extract.pipeline.encoded_texts import EncodedTexts
from tier4k.extract.pipeline.given_images import ImageInput
from tier4k.extract.pipeline.loaded_encoders import KEPT_TEXT_BYTES, LiveEncoders
from tier4k.extract.scorers.scorer import Scorer
from tier4k.heads.data.fusion import image_parts, used_streams
from tier4k.heads.data.interactions import needed_embeddings
from tier4k.heads.data.stages import levels_of
from tier4k.heads.encoders.sources import EncoderSource
from tier4k.heads.inference.given_rows import Prompts, image_prompts_of, prompt_list, prompts_of
from tier4k.heads.inference.head_modules import HeadModule, unit_tensors
from tier4k.heads.results.model import Model, ModelError


class DifferentiableHeadRewards:
    """Rewards by heads with one target, with a gradient: the mean over the repeats of the heads.

    Args:
        sources: Heads with their encoders.
        device: "auto", or a torch device such as "cuda:1".
        batch_size: Number of images that go through a network at once.

    Attributes:
        device: The torch device.
        networks: The networks of the image encoders.

    Raises:
        HeadError: A head is none of tier4k.
        ModelError: Encoders make random crops.
        WeightsError: The weights of an encoder are missing or do not fit.
    """

    def __init__(
        self,
        sources: Sequence[EncoderSource],
        device: str,
        batch_size: int,
    ) -> None:
        self.device = choose_device(device)
        self._model = sources[0].model
        self._heads = [_Heads(source, self.device, batch_size) for source in sources]
        self.networks = [network for heads in self._heads for network in heads.networks.values()]

    def __call__(
        self,
        images: Sequence[ImageInput],
        prompts: Prompts,
        image_prompts: Sequence[ImageInput | None],
    ) -> Tensor:
        """Return the rewards (N,), with a graph where images or image prompts need a gradient."""
        texts = prompts_of(self._model, prompts, len(images))
        guides = image_prompts_of(self._model, image_prompts, len(images))
        has_guide = torch.tensor([guide is not None for guide in guides], device=self.device)
        pixels = float_images([*images, *(guide for guide in guides if guide is not None)], self.device)
        return torch.cat([heads(pixels, texts, has_guide) for heads in self._heads]).mean(dim=0)


class _Heads:
    """The heads of one source, with networks of their own."""

    def __init__(
        self,
        source: EncoderSource,
        device: torch.device,
        batch_size: int,
    ) -> None:
        self._model, self._towers = source.model, source.towers
        self._device = device
        self.networks: dict[str, DifferentiableNetwork] = {}
        self._levels: dict[str, Tensor] = {}
        for name, encoder in source.images.items():
            if encoder.crops.count:
                raise ModelError(
                    f"the heads were fitted on random crops of {name}, which have no gradient: extract "
                    "without --crops, and fit again"
                )
            self.networks[name] = DifferentiableNetwork(encoder, device, batch_size)
            stages = levels_of(self._model.stages, name, len(source.images))
            if stages:
                columns = Levels.parse(encoder.signature.feature).columns(stages)
                self._levels[name] = torch.as_tensor(np.asarray(columns), device=device)
        self._texts = LiveEncoders({}, source.texts, str(device), batch_size=batch_size)
        dtype = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        self._modules = [HeadModule(head, dtype).to(device) for head in self._model.heads.values()]
        self._dtype = dtype

    def __call__(
        self,
        pixels: Sequence[Tensor],
        prompts: Sequence[str],
        has_guide: Tensor,
    ) -> Tensor:
        """Return the scores (H, N) of H heads.

        Args:
            pixels: N images, then the image prompts of the rows that have one.
            prompts: N prompts.
            has_guide: (N,) whether each row has an image prompt.
        """
        images: dict[str, Tensor] = {}
        guides: dict[str, Tensor] = {}
        for name, network in self.networks.items():
            features = network.outputs(pixels, partial(_features, network.network))
            if name in self._levels:
                features = features[:, self._levels[name]]
            images[name] = features[: len(prompts)]
            # The image replaces a missing image prompt.
            places = torch.arange(len(prompts), device=self._device)
            places[has_guide] = torch.arange(len(prompts), len(pixels), device=self._device)
            guides[name] = features[places]
        fused = _fused(self._model, self._text_features(prompts), images, guides)
        fused += self._embeddings(prompts, images, guides)
        columns = torch.cat([part.to(self._dtype) for part in fused], dim=1)
        self._model.require_width(columns.shape[1])
        return torch.cat([module(columns) for module in self._modules], dim=1).T

    def _text_features(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        if not self._model.reads_prompts:
            return {}
        arrays = self._texts.texts(prompts)
        return {name: torch.from_numpy(features).to(self._device) for name, features in arrays.items()}

    def _embeddings(
        self,
        prompts: Sequence[str],
        images: Mapping[str, Tensor],
        guides: Mapping[str, Tensor],
    ) -> list[Tensor]:
        """Return the last columns of fused vectors, from which heads compute their interactions."""
        if self._towers is None:
            return []
        columns = slice(*self._towers.columns)
        image, guide = images[self._towers.image][:, columns], guides[self._towers.image][:, columns]
        text = self._towers.text or ""
        parts: list[Tensor] = []
        for name in needed_embeddings(self._model.interaction):
            if name == "text":
                parts.append(self._text_features(prompts)[text])
            elif name == "templates":
                templates = torch.from_numpy(self._texts.texts(self._model.templates)[text]).to(image)
                parts.append(unit_tensors(image) @ unit_tensors(templates).T)
            else:
                parts.append(image if name == "image" else guide)
        return parts


def _features(
    network: Any,
    numbers: list[int],  # noqa: ARG001
    crops: Tensor,
) -> Tensor:
    """Return the features (B, D) of preprocessed images."""
    return network(crops)


def _fused(
    model: Model,
    texts: Mapping[str, Tensor],
    images: Mapping[str, Tensor],
    guides: Mapping[str, Tensor],
) -> list[Tensor]:
    """Return the parts of fused vectors in the order of the columns, as `fuse` does."""
    of_stream: dict[str, list[Tensor]] = {"text": list(texts.values()), "image": [], "image-prompt": []}
    for name, image in images.items():
        first, *rest = image_parts(model.method, image, guides[name])
        of_stream["image"].append(first)
        of_stream["image-prompt"] += rest
    return [part for stream in used_streams(model.method, model.streams) for part in of_stream[stream]]


class DifferentiableScorerRewards:
    """Rewards by a published scorer, with a gradient; it reads no image prompts.

    Args:
        scorer: The scorer with its weights.
        device: "auto", or a torch device such as "cuda:1".
        batch_size: Number of images that go through the network at once.

    Attributes:
        device: The torch device.
        networks: The network.

    Raises:
        WeightsError: The weights do not fit.
    """

    def __init__(
        self,
        scorer: Scorer,
        device: str,
        batch_size: int,
    ) -> None:
        self.device = choose_device(device)
        self.networks = [DifferentiableNetwork(scorer, self.device, batch_size)]
        self._texts = EncodedTexts(self._encode_texts, KEPT_TEXT_BYTES)

    @torch.no_grad()
    def _encode_texts(self, texts: Sequence[str]) -> Tensor:
        return self.networks[0].network.encode_texts(texts)

    def __call__(
        self,
        images: Sequence[ImageInput],
        prompts: Prompts,
        image_prompts: Sequence[ImageInput | None],  # noqa: ARG002
    ) -> Tensor:
        """Return the rewards (N,), with a graph where images need a gradient."""
        texts = self._texts(prompt_list(prompts, len(images))).to(self.device)
        network = self.networks[0].network

        def score(numbers: list[int], crops: Tensor) -> Tensor:
            """Return the scores of preprocessed images."""
            return network.score(network.encode_images(crops), texts[numbers])

        return self.networks[0].outputs(float_images(images, self.device), score)
