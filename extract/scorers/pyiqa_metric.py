"""A metric of the package pyiqa, which the user has installed."""

import torch
from torch import Tensor, nn

from tier4k.cache.text import nearest
from tier4k.extract.encoders.names import EncoderError

# Metrics that pyiqa lists as no-reference, although they need more than a single image.
NOT_OF_SINGLE_IMAGES = {
    "clipscore": "it reads prompts: pass --scorer clipscore, which tier4k computes",
    "fid": "it compares sets of images",
    "fid_dinov2": "it compares sets of images",
    "sfid": "it compares sets of images",
    "inception_score": "it scores a set of images",
}


class PyiqaMetric(nn.Module):
    """A no-reference metric of pyiqa with the interface of a scorer of another package.

    Args:
        name: Name of the metric in pyiqa.

    Attributes:
        notes: What the user should know about the scores.

    Raises:
        EncoderError: There is no such metric, it does not score single images, or pyiqa cannot make it.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        import pyiqa

        known = [
            metric for metric in pyiqa.list_models(metric_mode="NR") if metric not in NOT_OF_SINGLE_IMAGES
        ]
        if name in NOT_OF_SINGLE_IMAGES:
            raise EncoderError(f"pyiqa:{name} does not score single images: {NOT_OF_SINGLE_IMAGES[name]}")
        if name not in known:
            raise EncoderError(
                f"pyiqa has no no-reference metric {name!r}{nearest(name, known)}: use one of "
                f"{', '.join(known)}"
            )
        try:
            self.metric = pyiqa.create_metric(name, device=torch.device("cpu"))
        except Exception as error:  # for example, a failed download or a missing package
            raise EncoderError(
                f"pyiqa cannot make {name}: {type(error).__name__}: {error}. Its weights must be where pyiqa "
                "looks for them, or the machine must be connected to the internet"
            ) from error
        self.notes = (f"pyiqa:{name}: in this metric, lower is better",) if self.metric.lower_better else ()

    def forward(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Return the scores (B,) of images (B, 3, H, W); each image goes through the metric alone."""
        del prompts
        scores = [self.metric(images[number : number + 1]) for number in range(len(images))]
        return torch.cat([torch.as_tensor(score).reshape(1) for score in scores])
