"""Options of the published recipe and of the recipe for stored features."""

from dataclasses import fields
from typing import Any

from tier4k.heads.regressors.choices import RecipeName
from tier4k.heads.regressors.mlp.recipe import Recipe

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

RECIPES: dict[RecipeName, dict[str, Any]] = {"cached": {}, "published": PUBLISHED_RECIPE}

RECIPE_OPTIONS = [option.name for option in fields(Recipe) if option.name != "seed"]


def recipe_options(recipe: RecipeName, image_architecture: str) -> dict[str, Any]:
    """Options of `MLPHead` for a recipe; TIER-4K trains its vision transformer at a tenth of the learning rate.

    Args:
        recipe: "cached" (the defaults of `MLPHead`) or "published".
        image_architecture: timm's name of the image encoder.
    """
    options = dict(RECIPES[recipe])
    if recipe == "published" and image_architecture.startswith("vit_large"):
        options["learning_rate"] = 1e-5
    return options
