"""A scorer of another package as a network of the pipeline."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.user_functions import failures_named
from tier4k.extract.scorers.called import CalledScorer, make_callable


class CalledNetwork(nn.Module):
    """Scores pairs of an image and a prompt with the scorer of another package.

    Args:
        scorer: The scorer, which is imported and made.

    Attributes:
        notes: What the user should know about the scores.
    """

    width = 1  # a pair has one score
    side = 0  # images keep their size

    def __init__(self, scorer: CalledScorer) -> None:
        super().__init__()
        self._scorer = scorer
        self._call: Any = make_callable(scorer)
        self._sign = -1.0 if scorer.lower_is_better else 1.0
        self.notes: tuple[str, ...] = ()
        if not scorer.lower_is_better:
            self.notes = tuple(f"{note}: pass --lower-is-better" for note in getattr(self._call, "notes", ()))

    def frozen(self, precision: Precision) -> Self:
        """Prepare for scoring only; the scorer itself decides its arithmetic."""
        del precision
        return self.eval().requires_grad_(False)

    def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        """Return the scores (B,) float32 of images (B, 3, H, W) uint8 and their prompts.

        Raises:
            EncoderError: The scorer fails, or does not return B finite scores.
        """
        images = pixels.float() / 255
        with failures_named(f"the scorer {self._scorer.path}", tuple(images.shape)):
            returned = self._call(images, list(prompts))
        try:
            scores = torch.as_tensor(returned, device=pixels.device)
        except (TypeError, ValueError, RuntimeError):  # no numbers
            scores = None
        if scores is None or scores.is_complex():
            raise EncoderError(
                f"{self._scorer.path} returned a {type(returned).__name__} that is no list of numbers: a "
                "scorer returns one score for each image"
            )
        scores = scores.float().reshape(-1)
        if len(scores) != len(pixels):
            raise EncoderError(
                f"{self._scorer.path} returned {len(scores)} values for {len(pixels)} images: a scorer "
                "returns one score for each image"
            )
        if wrong := int((~scores.isfinite()).sum()):
            raise EncoderError(
                f"{self._scorer.path} returned NaN or infinity for {wrong} of {len(pixels)} images: a scorer "
                "returns finite numbers of float32"
            )
        return self._sign * scores
