"""The options of end-to-end training, and the recipes that they start from."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, get_args

from tier4k.cache.errors import TierError
from tier4k.heads.finetuning.choices import FinetunedPart
from tier4k.heads.protocol.options import FROZEN_ENCODERS, FitError, FitOptions, TrainingOptions
from tier4k.heads.regressors.choices import RecipeName
from tier4k.heads.regressors.mlp.recipe import OPTIMIZERS, SCHEDULES
from tier4k.heads.regressors.mlp.recipes import recipe_options
from tier4k.heads.regressors.options import Limits, Range, cli_name, require_within, typed


class FinetuneError(TierError):
    """End-to-end training that cannot be done so."""


@dataclass(frozen=True)
class FinetuneRecipe:
    """How encoders and head are trained together.

    Attributes:
        part: What is trained beside the head: "image", "text", "all", or "last:N", the last N stages or blocks of both encoders.
        learning_rate: Peak learning rate of the encoders.
        head_learning_rate: Peak learning rate of the head.
        weight_decay: Decoupled decay ("adamw") or L2 penalty ("adam").
        optimizer: "adamw" or "adam".
        schedule: "cosine" to zero over `max_epochs`, or "constant".
        warmup: Share of all steps in which learning rates rise from zero.
        layer_decay: Each stage or block has this times the learning rate of the next one.
        batch_size: Rows per step, over all processes.
        max_epochs: Passes over the training rows.
        patience: Epochs without a better validation loss after which training stops.
        gradient_clip: Largest norm of a step's gradient; 0 does not clip.
        average: Decay per step of the moving average of the weights that is evaluated and kept; 0 keeps the weights themselves.
        training_mode: Whether encoders run as torch trains them, with batch statistics in batch normalisation and with dropout.
        augment: Whether pictures are cropped and flipped at random.
        warm_head: Whether the head starts from a fit on the features of the encoders as they are; else from random weights.
        channels_last: Whether convolutions have the channels innermost, which is faster and rounds otherwise.
        precision: Arithmetic of the encoders in training, "fp32" or "bf16"; weights, evaluation and what is kept are fp32.
        micro_batch: Rows that go through the network at once, for small memories; 0 is all rows of a step.
        recompute: Whether activations are computed again in the backward pass instead of kept, for small memories.
        validation_fraction: Share of the training prompts or rows that the split holds out to choose the epoch; with 0 training runs to the
            end and its last weights are the result.
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
        "precision": ("fp32", "bf16"),
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
        return self.part in ("all", stream) or self.part.startswith("last:")

    @property
    def layers(self) -> int | None:
        """How many of an encoder's last layers are trained; None for all."""
        return int(self.part.removeprefix("last:")) if self.part.startswith("last:") else None


# TIER-4K's. The penalty, batch size, epochs and learning rate are its head's too.
PUBLISHED: dict[str, Any] = {
    "schedule": "constant",
    "warmup": 0.0,
    "layer_decay": 1.0,
    "gradient_clip": 0.0,
    "average": 0.0,
    "training_mode": True,
    "augment": True,
    "warm_head": False,
    "channels_last": False,
}

# The default learning rate of encoders is this many times the published one, which is a tenth for the large vision transformer.
OVER_PUBLISHED = 3

RECIPE_OPTIONS = {field.name: field.type for field in fields(FinetuneRecipe) if field.name != "part"}


def split_options(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the head, which is TIER's, and those of the training: what both know is the training's."""
    of_head = {name: value for name, value in given.items() if name == "hidden"}
    return of_head, {name: value for name, value in given.items() if name not in of_head}


def finetune_recipe(
    part: str, recipe: RecipeName, image_architecture: str, changed: Mapping[str, Any]
) -> FinetuneRecipe:
    """The recipe of a run.

    Args:
        part: As in `FinetuneRecipe`.
        recipe: "published", or else the default one.
        image_architecture: timm's name of the image encoder, which the published learning rate depends on.
        changed: Options that differ; values may be texts.

    Raises:
        FinetuneError: There is no such part or option.
        HeadError: An option does not take the value.
    """
    if part not in get_args(FinetunedPart) and not re.fullmatch(r"last:[1-9]\d{0,3}", part):
        raise FinetuneError(
            f"--finetune {part!r} is not known: choose {', '.join(get_args(FinetunedPart))}, or last:N such as last:2"
        )
    if unknown := sorted(set(changed) - set(RECIPE_OPTIONS)):
        known = ", ".join(map(cli_name, RECIPE_OPTIONS))
        raise FinetuneError(
            f"end-to-end training has no option {', '.join(map(cli_name, unknown))}: it has {known}"
        )
    published = {
        name: value
        for name, value in recipe_options("published", image_architecture).items()
        if name in RECIPE_OPTIONS
    }
    start: dict[str, Any] = {"learning_rate": round(OVER_PUBLISHED * published["learning_rate"], 12)}
    given = {name: typed(name, value, RECIPE_OPTIONS[name]) for name, value in changed.items()}
    if recipe == "published":
        start = published | PUBLISHED
        # TIER-4K has one learning rate for everything.
        start["head_learning_rate"] = given.get("learning_rate", start["learning_rate"])
    resolved = FinetuneRecipe(part, **start | given)
    require_within(asdict(resolved), FinetuneRecipe.limits)
    return resolved


def resolve_training(options: FitOptions, image_architecture: str) -> TrainingOptions:
    """Resolve the options of end-to-end training.

    Args:
        options: What to fit; with `finetune` "none" there is no training.
        image_architecture: timm's name of the image encoder.

    Raises:
        FitError: The options do not fit each other.
        FinetuneError: An option of the training has no such value.
    """
    if options.finetune == "none":
        return FROZEN_ENCODERS
    if options.estimator != "mlp":
        raise FitError(
            f"--finetune trains TIER's two layers with the encoders, not --head {options.estimator}: use --head mlp"
        )
    if options.stages:
        raise FitError("--stages picks slices of stored features, and --finetune reads none: leave it out")
    defaults = asdict(finetune_recipe(options.finetune, options.recipe, image_architecture, {}))
    values = asdict(finetune_recipe(options.finetune, options.recipe, image_architecture, options.training))
    del defaults["part"]  # has no default: without it the run would be one on stored features
    at_default = tuple(name for name, value in defaults.items() if values[name] == value)
    return TrainingOptions(values, at_default)
