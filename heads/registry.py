"""The heads that runs can use, by name."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cache.errors import TierError
from heads.choices import HeadName, RecipeName
from heads.estimator import Head
from heads.mlp import MLPHead, fit_stack, recipe_options
from heads.ridge import RidgeHead, fit_ridges
from heads.stacked import Task

HEADS: dict[HeadName, type[Head]] = {"mlp": MLPHead, "ridge": RidgeHead}


class HeadError(TierError):
    """Options that a head does not have."""


def resolve_options(name: HeadName, recipe: RecipeName, image_architecture: str, changed: dict[str, Any]) -> dict[str, Any]:
    """Every option of a head but its seed, which each repeat has for itself.

    Args:
        name: A name of `HEADS`.
        recipe: Where the options start from; only the MLP has more than one.
        image_architecture: timm's name of the image encoder, which the published recipe depends on.
        changed: Options that differ from the recipe's.

    Raises:
        HeadError: The head has no such option or recipe.
    """
    known = set(HEADS[name]().get_params())
    if unknown := sorted(set(changed) - known):
        raise HeadError(f"the {name} head has no options {', '.join(unknown)}: leave them out, or use --head mlp")
    if name != "mlp" and recipe != "cached":
        raise HeadError(f"--recipe {recipe} describes the training of the mlp head: use --head mlp, or leave it out")
    start = recipe_options(recipe, image_architecture) if name == "mlp" else {}
    return {option: value for option, value in HEADS[name](**start | changed).get_params().items() if option != "random_state"}


def make_head(name: HeadName, options: dict[str, Any], seed: int) -> Head:
    """A head to be fitted; the seed goes to heads that draw random numbers."""
    return HEADS[name](**_seeded(name, options, seed))


def fit_heads(name: HeadName, heads: Sequence[Head], X: np.ndarray, tasks: Sequence[Task], finished: Callable[[int], None]) -> None:
    """Fit several heads of one kind on rows of one matrix of fused vectors X (N, d), sharing what they have in common.

    Args:
        name: A name of `HEADS`.
        heads: Unfitted heads of that kind.
        X: Fused vectors.
        tasks: What each head learns.
        finished: Called with the number of each head, from 0, when it is fitted.
    """
    if name == "mlp":
        fit_stack([head for head in heads if isinstance(head, MLPHead)], X, tasks, finished=finished)
    else:
        fit_ridges([head for head in heads if isinstance(head, RidgeHead)], X, tasks, finished)


def restore_head(name: HeadName, weights: Mapping[str, np.ndarray], options: dict[str, Any], seed: int) -> Head:
    """The head that `make_head` made and that was fitted to these weights."""
    return HEADS[name].from_weights(weights, **_seeded(name, options, seed))


def _seeded(name: HeadName, options: dict[str, Any], seed: int) -> dict[str, Any]:
    return options | ({"random_state": seed} if "random_state" in HEADS[name]().get_params() else {})
