"""The network before end-to-end training, and the batches that it is trained on."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from tier4k.extract.encoders.cpu import with_onednn, with_plain_attention
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.heads.data.fusion import used_streams
from tier4k.heads.data.splits import Split
from tier4k.heads.data.streams import Part, Streams
from tier4k.heads.finetuning.adapters import add_adapters
from tier4k.heads.finetuning.batches import Batches
from tier4k.heads.finetuning.errors import FinetuningError
from tier4k.heads.finetuning.features import fused_rows
from tier4k.heads.finetuning.hyperparameters import FinetuningHyperparameters
from tier4k.heads.finetuning.inputs import TrainingInputs
from tier4k.heads.finetuning.network import TierNetwork
from tier4k.heads.finetuning.precision import AUTOCAST
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.mlp.stack import HeadNetwork

PLAIN_ATTENTION_SIZE = 256  # pixels; the memory of plain attention grows with the fourth power of the side

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class InitialNetwork:
    """Builds the networks that training starts from, one for each target and repeat.

    Attributes:
        inputs: Images, prompts and features of the rows.
        hyperparameters: Hyperparameters of the training.
        head: Options of the head: the width, and for a warm head how to fit it on the encoders' features.
    """

    inputs: TrainingInputs
    hyperparameters: FinetuningHyperparameters
    head: dict[str, Any]

    def build(self, scores: np.ndarray, split: Split) -> tuple[TierNetwork, Batches]:
        """Return the network before training on scores (N,) of a split, and its batches.

        Raises:
            FinetuningError: An option divides the batches, although batch normalisation is in training mode;
                or an encoder has no attention layers for adapters.
        """
        images = self._image_network()
        texts = self._text_network()
        uses_batch_statistics = self.hyperparameters.training_mode and _has_batch_norm(images)
        if uses_batch_statistics:
            self._require_whole_batches()
        if self.hyperparameters.rank:
            for encoder in (images, texts):
                if isinstance(encoder, ImageNetwork | TextNetwork):
                    add_adapters(encoder.backbone, self.hyperparameters.rank, split.seed)
        batches = self._batches(images, texts, split, shared=not uses_batch_statistics)
        if self.hyperparameters.warm_head:
            head = self._warm_head(scores, split)
        else:
            head = self._random_head(images, texts, batches, split.seed)
        network = TierNetwork(
            images,
            texts,
            head,
            self.inputs.method,
            self.inputs.streams,
            self.hyperparameters.precision,
        )
        return network, batches

    def _image_network(self) -> ImageNetwork | nn.Identity:
        encoder = self.inputs.encoders.image
        if encoder is None or not self.hyperparameters.trains("image"):
            return nn.Identity()
        device = self.inputs.accelerator.device
        images = with_onednn(self.inputs.image_network()).to(device)
        size = encoder.preprocessing.size or math.inf
        is_half_on_cpu = self.hyperparameters.precision in AUTOCAST and device.type == "cpu"
        if is_half_on_cpu and size <= PLAIN_ATTENTION_SIZE:
            return with_plain_attention(images)
        return images

    def _text_network(self) -> TextNetwork | nn.Identity:
        if self.inputs.encoders.text is None or not self.hyperparameters.trains("text"):
            return nn.Identity()
        return with_onednn(self.inputs.text_network()).to(self.inputs.accelerator.device)

    def _batches(
        self,
        images: ImageNetwork | nn.Identity,
        texts: TextNetwork | nn.Identity,
        split: Split,
        shared: bool,
    ) -> Batches:
        return Batches(
            rows=self.inputs.rows,
            images=self.inputs.decoded if isinstance(images, ImageNetwork) else self.inputs.image_features,
            texts=texts if isinstance(texts, TextNetwork) else self.inputs.text_features,
            method=self.inputs.method,
            streams=self.inputs.streams,
            augment=self.hyperparameters.augment,
            shared=shared,
            seed=split.seed,
        )

    def _random_head(
        self,
        images: nn.Module,
        texts: nn.Module,
        batches: Batches,
        seed: int,
    ) -> HeadNetwork:
        first_row = fused_rows(images, texts, batches, np.arange(1), self.inputs.accelerator)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return HeadNetwork(first_row.shape[1], self.head["hidden"])

    def _warm_head(self, scores: np.ndarray, split: Split) -> HeadNetwork:
        """Fit the head on features of the untrained encoders, with the options of `--finetune none`."""
        fused = self._fused_before_training(len(scores))
        streams = self._fused_streams()
        held_out = None
        if len(split.validation):
            held_out = fused[split.validation], scores[split.validation]
        fitted = MLPHead(**self.head, random_state=split.seed)
        fitted.fit(fused[split.train], scores[split.train], held_out, streams=streams)
        hidden, width = fitted.weights_["fc1.weight"].shape
        network = HeadNetwork(width, hidden)
        network.load_state_dict({name: torch.from_numpy(values) for name, values in fitted.weights_.items()})
        return network

    def _fused_streams(self) -> Streams:
        """Return the streams of the fused vectors."""
        parts = []
        for stream in used_streams(self.inputs.method, self.inputs.streams):
            features = self.inputs.text_features if stream == "text" else self.inputs.image_features
            assert features is not None
            parts.append(Part(stream, "", features.shape[1]))
        return Streams(tuple(parts))

    def _fused_before_training(self, rows: int) -> np.ndarray:
        batches = Batches(
            rows=self.inputs.rows,
            images=self.inputs.image_features,
            texts=self.inputs.text_features,
            method=self.inputs.method,
            streams=self.inputs.streams,
            augment=False,
            shared=True,
            seed=0,
        )
        return fused_rows(nn.Identity(), nn.Identity(), batches, np.arange(rows), self.inputs.accelerator)

    def _require_whole_batches(self) -> None:
        """Refuse options with which batch normalisation would not see each whole batch exactly once."""
        hyperparameters = self.hyperparameters
        divides_batches = {
            "micro_batch": 0 < hyperparameters.micro_batch < hyperparameters.batch_size,
            "recompute": hyperparameters.recompute,
            "several processes": self.inputs.accelerator.num_processes > 1,
        }
        wrong_options = [name for name, divides in divides_batches.items() if divides]
        if wrong_options:
            raise FinetuningError(
                "batch normalisation in training mode computes statistics of whole batches, but "
                f"{' and '.join(wrong_options)} would divide the batches: leave out "
                f"{' and '.join(wrong_options)}, or pass --set training_mode=false"
            )


def _has_batch_norm(network: nn.Module) -> bool:
    return any(isinstance(module, BATCH_NORMS) for module in network.modules())
