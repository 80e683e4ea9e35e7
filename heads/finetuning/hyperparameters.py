"""The hyperparameters of end-to-end training."""

import math
from dataclasses import dataclass
from typing import ClassVar

from tier4k.heads.regressors.mlp.hyperparameters import OPTIMIZERS, SCHEDULES
from tier4k.heads.regressors.options import Limits, Range

LAST_LAYERS = "last:"
"""The prefix of `part` before a number of layers."""

LOW_RANK = "lora:"
"""The prefix of `part` before the rank of adapters."""


@dataclass(frozen=True)
class FinetuningHyperparameters:
    """Settings of the training of encoders and head together.

    Attributes:
        part: The part trained beside the head: "image", "text", "all"; "last:N", the last N stages or blocks
            of both encoders; or "lora:R", adapters of rank R in the attention layers of both.
        learning_rate: Peak learning rate of the encoders.
        head_learning_rate: Peak learning rate of the head.
        weight_decay: Decoupled decay ("adamw") or L2 penalty ("adam").
        optimizer: "adamw" or "adam".
        schedule: "cosine" to zero over `max_epochs`, or "constant".
        warmup: Share of all steps in which learning rates rise from zero.
        layer_decay: Ratio of the learning rate of a stage or block to the learning rate of the next.
        batch_size: Rows per step, over all processes.
        max_epochs: Passes over the training rows.
        patience: Epochs without a better validation loss after which training stops.
        gradient_clip: Largest norm of a step's gradient; with 0 gradients are not clipped.
        average: Decay per step of the moving average of the weights, which is evaluated and kept; with 0 the
            weights themselves are.
        training_mode: Whether encoders run in torch's training mode, with batch statistics in batch
            normalisation and with dropout.
        augment: Whether images are cropped and flipped at random.
        warm_head: Whether the head starts from a fit on the features of the untrained encoders; else from
            random weights.
        channels_last: Whether convolutions have the channels innermost, which is faster, with other rounding.
        precision: Arithmetic of the encoders in training, "fp32", "bf16", "fp16" or, on NVIDIA GPUs only,
            "tf32"; weights, evaluation and the kept networks are fp32.
        micro_batch: Rows that go through the network at once, for small memories; 0 is all rows of a step.
        recompute: Whether activations are computed again in the backward pass instead of kept, for small
            memories.
        validation_fraction: Share of the training prompts or rows that the split holds out to choose the
            epoch; with 0 training runs to the end and keeps its last weights.
    """

    limits: ClassVar[Limits] = {
        "learning_rate": Range(0),
        "head_learning_rate": Range(0),
        "weight_decay": Range(0),
        "optimizer": tuple(OPTIMIZERS),
        "schedule": tuple(SCHEDULES),
        "warmup": Range(0, 1),
        "layer_decay": Range(0, 1),
        "batch_size": Range(1),
        "max_epochs": Range(1),
        "patience": Range(1),
        "gradient_clip": Range(0),
        "average": Range(0, 1),
        "precision": ("fp32", "bf16", "fp16", "tf32"),
        "micro_batch": Range(0),
        "validation_fraction": Range(0, 0.9),
    }

    part: str
    learning_rate: float
    head_learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    optimizer: str = "adamw"
    schedule: str = "cosine"
    warmup: float = 0.0
    layer_decay: float = 1.0
    batch_size: int = 8
    max_epochs: int = 4
    patience: int = 4
    gradient_clip: float = 1.0
    average: float = 0.0
    training_mode: bool = False
    augment: bool = True
    warm_head: bool = True
    channels_last: bool = True
    precision: str = "fp32"
    micro_batch: int = 0
    recompute: bool = False
    validation_fraction: float = 0.15

    def trains(self, stream: str) -> bool:
        """Whether the encoder of "image" or "text" is trained, or a part of it."""
        return self.part in ("all", stream) or self.part.startswith((LAST_LAYERS, LOW_RANK))

    @property
    def layers(self) -> int | None:
        """The number of an encoder's last layers that are trained; None for all."""
        if not self.part.startswith(LAST_LAYERS):
            return None
        return int(self.part.removeprefix(LAST_LAYERS))

    @property
    def rank(self) -> int | None:
        """The rank of the adapters; None where the weights themselves are trained."""
        if not self.part.startswith(LOW_RANK):
            return None
        return int(self.part.removeprefix(LOW_RANK))


def learning_rate_factor(
    hyperparameters: FinetuningHyperparameters,
    step: int,
    steps: int,
) -> float:
    """Return the factor of the learning rates in a step: a linear rise, then the schedule.

    Args:
        hyperparameters: Hyperparameters with the schedule and the share of the rise.
        step: Number of the step, from 0.
        steps: Number of all steps.
    """
    rising = math.ceil(hyperparameters.warmup * steps)
    if step < rising:
        return (step + 1) / rising
    progress = (step - rising) / (steps - rising)
    return SCHEDULES[hyperparameters.schedule](progress)
