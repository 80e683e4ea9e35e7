"""TIER end to end: the encoders of stage 1 and the head in one network."""

import torch
from torch import Tensor, nn

from tier4k.extract.datasets.choices import Stream
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.heads.data.choices import Method
from tier4k.heads.data.fusion import fused_parts
from tier4k.heads.finetuning.batches import Batch
from tier4k.heads.finetuning.precision import AUTOCAST
from tier4k.heads.regressors.mlp.estimator import WEIGHT_NAMES, MLPHead
from tier4k.heads.regressors.mlp.stack import HeadNetwork


class TierNetwork(nn.Module):
    """Maps batches to scores (B,).

    Args:
        images: Encoder of images; `nn.Identity` where a batch contains features of a frozen encoder, or no
            images.
        texts: Encoder of prompts; `nn.Identity` where a batch contains features of a frozen encoder, or no
            prompts.
        head: TIER's two layers.
        method: The fusion of image and text features.
        streams: The streams of the method that the head uses; an empty tuple for all.
        precision: Arithmetic of the encoders, as in `FinetuningHyperparameters`; fusion and head always use
            float32.
    """

    def __init__(
        self,
        images: ImageNetwork | nn.Identity,
        texts: TextNetwork | nn.Identity,
        head: HeadNetwork,
        method: Method,
        streams: tuple[Stream, ...] = (),
        precision: str = "fp32",
    ) -> None:
        super().__init__()
        self.images = images
        self.texts = texts
        self.head = head
        self.method = method
        self.streams = streams
        self.autocast = AUTOCAST.get(precision)

    def forward(self, batch: Batch) -> Tensor:
        """Return the scores (B,) of a batch."""
        with torch.autocast(batch.image.device.type, self.autocast, enabled=self.autocast is not None):
            image_features = torch.cat([self.images(part) for part in batch.images]) if batch.images else None
            text_features = None if batch.tokens is None else self.texts(batch.tokens)
        image = _rows(batch.image, image_features)
        image_prompt = _rows(batch.image_prompt, image_features)
        text = _rows(batch.text, text_features)
        fused = torch.cat(fused_parts(self.method, self.streams, text, image, image_prompt), dim=1)
        return self.head(fused)


def estimator_of(head: HeadNetwork) -> MLPHead:
    """Return an estimator with a copy of the head's weights."""
    tensors = head.state_dict()
    weights = {name: tensors[name].detach().float().cpu().numpy() for name in WEIGHT_NAMES}
    return MLPHead.from_weights(weights)


def _rows(numbers: Tensor, features: Tensor | None) -> Tensor | None:
    """Return the features (B, D) of the rows with these numbers."""
    if features is None:
        return None
    # An embedding sums its gradients in the same order every time.
    return nn.functional.embedding(numbers, features.float())
