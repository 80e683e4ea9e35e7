"""From the options of a command to the hyperparameters of end-to-end training, by way of a recipe."""

import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, get_args

from tier4k.heads.finetuning.choices import FinetunedPart
from tier4k.heads.finetuning.errors import FinetuningError
from tier4k.heads.finetuning.hyperparameters import FinetuningHyperparameters
from tier4k.heads.protocol.options import FROZEN_ENCODERS, FitOptions, ProtocolError, TrainingOptions
from tier4k.heads.regressors.choices import RecipeName
from tier4k.heads.regressors.mlp.recipes import recipe_options
from tier4k.heads.regressors.options import cli_name, parse_option, require_within

# TIER-4K's. Penalty, batch size, epochs and learning rate are the published head's too.
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

# The default learning rate of encoders is this many times the published one, which is a tenth for the large
# vision transformer.
DEFAULT_OVER_PUBLISHED = 3

OPTION_TYPES = {field.name: field.type for field in fields(FinetuningHyperparameters) if field.name != "part"}


def separate_head_options(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Separate options of the head from those of the training; options of both are the training's."""
    of_head: dict[str, Any] = {}
    of_training: dict[str, Any] = {}
    for name, value in given.items():
        options = of_head if name == "hidden" else of_training
        options[name] = value
    return of_head, of_training


def finetuning_recipe(
    part: str,
    recipe: RecipeName,
    image_architecture: str,
    changed: Mapping[str, Any],
) -> FinetuningHyperparameters:
    """Return the hyperparameters of a recipe with some of them changed.

    Args:
        part: As in `FinetuningHyperparameters`.
        recipe: "published", or else the default one.
        image_architecture: timm's name of the image encoder, which the published learning rate depends on.
        changed: Hyperparameters that differ; values may be texts.

    Raises:
        FinetuningError: No such part or hyperparameter exists.
        HeadError: A hyperparameter does not take the value.
    """
    _require_part(part)
    _require_options(changed)
    published = _published(image_architecture)
    given = {name: parse_option(name, value, OPTION_TYPES[name]) for name, value in changed.items()}
    if recipe == "published":
        start = published | PUBLISHED
        # TIER-4K has one learning rate for everything.
        start["head_learning_rate"] = given.get("learning_rate", start["learning_rate"])
    else:
        start = {"learning_rate": round(DEFAULT_OVER_PUBLISHED * published["learning_rate"], 12)}
    hyperparameters = FinetuningHyperparameters(part, **start | given)
    require_within(asdict(hyperparameters), FinetuningHyperparameters.limits)
    return hyperparameters


def resolve_finetuning(options: FitOptions, image_architecture: str) -> TrainingOptions:
    """Resolve the options of end-to-end training.

    Args:
        options: What to fit; with `finetune` "none" nothing is trained end to end.
        image_architecture: timm's name of the image encoder.

    Raises:
        FitError: The options do not fit each other.
        FinetuningError: No such part or hyperparameter exists.
        HeadError: A hyperparameter does not take the value.
    """
    if options.finetune == "none":
        return FROZEN_ENCODERS
    if options.estimator != "mlp":
        raise ProtocolError(
            "--finetune trains TIER's two layers with the encoders, "
            f"not --head {options.estimator}: use --head mlp"
        )
    if options.stages:
        raise ProtocolError(
            "--stages picks slices of stored features, and --finetune reads none: leave it out"
        )
    part, recipe = options.finetune, options.recipe
    defaults = asdict(finetuning_recipe(part, recipe, image_architecture, {}))
    values = asdict(finetuning_recipe(part, recipe, image_architecture, options.training))
    del defaults["part"]  # has no default: without it the run would be one on stored features
    at_default = tuple(name for name, value in defaults.items() if values[name] == value)
    return TrainingOptions(values, at_default)


def _require_part(part: str) -> None:
    parts = get_args(FinetunedPart)
    if part not in parts and not re.fullmatch(r"last:[1-9]\d{0,3}", part):
        raise FinetuningError(
            f"--finetune {part!r} is not known: choose {', '.join(parts)}, or last:N such as last:2"
        )


def _require_options(given: Mapping[str, Any]) -> None:
    unknown = sorted(set(given) - set(OPTION_TYPES))
    if not unknown:
        return
    known = ", ".join(map(cli_name, OPTION_TYPES))
    raise FinetuningError(
        f"end-to-end training has no option {', '.join(map(cli_name, unknown))}: it has {known}"
    )


def _published(image_architecture: str) -> dict[str, Any]:
    """The published options of the head that are hyperparameters of end-to-end training too."""
    options = recipe_options("published", image_architecture)
    return {name: value for name, value in options.items() if name in OPTION_TYPES}
