"""The recipes that `--recipe` names: options of `MLPHead` as published, and for stored features."""

from typing import Any

from tier4k.heads.regressors.choices import RecipeName

PUBLISHED_RECIPE: dict[str, Any] = {
    "learning_rate": 1e-4,
    "weight_decay": 1e-5,
    "optimizer": "adam",
    "schedule": "constant",
    "batch_size": 8,
    "max_epochs": 100,
    "standardize": False,
    "validation_fraction": 0.0,
}

RECIPES: dict[RecipeName, dict[str, Any]] = {
    "cached": {},
    "published": PUBLISHED_RECIPE,
}

PUBLISHED_RATE_OF_LARGE_VIT = 1e-5
"""Learning rate with which TIER-4K trains its large vision transformer: a tenth of the usual rate."""


def recipe_options(recipe: RecipeName, image_architecture: str) -> dict[str, Any]:
    """Return the options of `MLPHead` that a recipe sets.

    Args:
        recipe: "cached" (the defaults of `MLPHead`) or "published".
        image_architecture: timm's name of the image encoder, which the published learning rate depends on.
    """
    options = dict(RECIPES[recipe])
    if recipe == "published" and image_architecture.startswith("vit_large"):
        options["learning_rate"] = PUBLISHED_RATE_OF_LARGE_VIT
    return options
