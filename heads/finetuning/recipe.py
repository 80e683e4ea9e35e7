"""Turns the options of a command into the hyperparameters of end-to-end training, starting from a recipe."""

import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, get_args

from tier4k.heads.data.fusion import encoder_kinds
from tier4k.heads.data.interactions import NO_INTERACTION
from tier4k.heads.finetuning.choices import FinetunedPart
from tier4k.heads.finetuning.errors import FinetuningError
from tier4k.heads.finetuning.hyperparameters import LOW_RANK, FinetuningHyperparameters
from tier4k.heads.protocol.options import FROZEN_ENCODERS, FitOptions, ProtocolError, TrainingOptions
from tier4k.heads.regressors.choices import RecipeName
from tier4k.heads.regressors.mlp.recipes import recipe_options
from tier4k.heads.regressors.options import cli_name, parse_option, require_within

# TIER-4K's hyperparameters. Penalty, batch size, epochs and learning rate are those of the published head.
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

# Learning rate of adapters. The update has few parameters, and starts at zero.
ADAPTER_RATE = 3e-4

DEFAULT_RANK = 8
LARGEST_RANK = 512

OPTION_TYPES = {field.name: field.type for field in fields(FinetuningHyperparameters) if field.name != "part"}


def separate_head_options(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Separate options of the head from options of the training; options of both count as the training's."""
    head_options: dict[str, Any] = {}
    training_options: dict[str, Any] = {}
    for name, value in given.items():
        options = head_options if name in ("hidden", "interaction") else training_options
        options[name] = value
    return head_options, training_options


def finetuning_recipe(
    part: str,
    recipe: RecipeName,
    image_architecture: str,
    changed: Mapping[str, Any],
) -> FinetuningHyperparameters:
    """Return the hyperparameters of a recipe, with the given changes.

    Args:
        part: The encoders to train, as in `FinetuningHyperparameters`.
        recipe: "published" for the published recipe, any other value for the default recipe.
        image_architecture: timm's name of the image encoder, which the published learning rate depends on.
        changed: Hyperparameters that differ from the recipe; values may be texts.

    Raises:
        FinetuningError: No such part or hyperparameter exists.
        HeadError: A hyperparameter does not take the value.
    """
    part = full_part(part)
    _require_options(changed)
    published = _published_options(image_architecture)
    given = {name: parse_option(name, value, OPTION_TYPES[name]) for name, value in changed.items()}
    if recipe == "published":
        start = published | PUBLISHED
        # TIER-4K has one learning rate for everything.
        start["head_learning_rate"] = given.get("learning_rate", start["learning_rate"])
    else:
        start = {"learning_rate": round(DEFAULT_OVER_PUBLISHED * published["learning_rate"], 12)}
        if part.startswith(LOW_RANK):
            start["learning_rate"] = ADAPTER_RATE
    hyperparameters = FinetuningHyperparameters(part, **start | given)
    require_within(asdict(hyperparameters), FinetuningHyperparameters.limits)
    return hyperparameters


def resolve_finetuning(options: FitOptions, image_architecture: str) -> TrainingOptions:
    """Resolve the options of end-to-end training.

    Args:
        options: Options of the fit; with `finetune` "none" the encoders stay frozen.
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
            f"--head {options.estimator} cannot be trained together with encoders, which --finetune does: "
            "use --head mlp, or leave out --finetune"
        )
    if options.stages:
        raise ProtocolError(
            "--stages selects slices of stored features, which --finetune does not read: leave out --stages"
        )
    if options.interaction != NO_INTERACTION:
        raise ProtocolError(
            f"--set interaction={options.interaction} compares stored embeddings, which --finetune does not "
            "read: leave out one of the two"
        )
    _require_trained_streams(options)
    part, recipe = options.finetune, options.recipe
    defaults = asdict(finetuning_recipe(part, recipe, image_architecture, {}))
    values = asdict(finetuning_recipe(part, recipe, image_architecture, options.training))
    del defaults["part"]  # it has no default: without a part, the run would be one on stored features
    at_default = tuple(name for name, value in defaults.items() if values[name] == value)
    return TrainingOptions(values, at_default)


def _require_trained_streams(options: FitOptions) -> None:
    """Refuse to train an encoder that no stream uses."""
    kinds = encoder_kinds(options.method, options.streams)
    if options.finetune in ("image", "text") and options.finetune not in kinds:
        raise ProtocolError(
            f"--finetune {options.finetune} trains the {options.finetune} encoder, and --streams "
            f"{'+'.join(options.streams)} does not use it: pass other --streams, or another --finetune"
        )


def full_part(part: str) -> str:
    """Return the part that --finetune names, with the rank of its adapters where it has adapters.

    Raises:
        FinetuningError: There is no such part.
    """
    if part == "lora":
        return f"{LOW_RANK}{DEFAULT_RANK}"
    parts = get_args(FinetunedPart)
    if part in parts or re.fullmatch(r"last:[1-9]\d{0,3}", part):
        return part
    if re.fullmatch(r"lora:[1-9]\d{0,2}", part) and int(part.removeprefix(LOW_RANK)) <= LARGEST_RANK:
        return part
    raise FinetuningError(
        f"--finetune {part!r} is not known: use {', '.join(parts)}, last:N such as last:2, or lora:R such as "
        f"lora:8, with a rank R from 1 to {LARGEST_RANK}"
    )


def _require_options(given: Mapping[str, Any]) -> None:
    unknown = sorted(set(given) - set(OPTION_TYPES))
    if not unknown:
        return
    known = ", ".join(map(cli_name, OPTION_TYPES))
    raise FinetuningError(
        f"end-to-end training has no option {', '.join(map(cli_name, unknown))}: use options among {known}"
    )


def _published_options(image_architecture: str) -> dict[str, Any]:
    """Return the published options of the head that are hyperparameters of end-to-end training too."""
    options = recipe_options("published", image_architecture)
    return {name: value for name, value in options.items() if name in OPTION_TYPES}
