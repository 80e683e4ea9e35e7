"""The heads that runs can use, by name."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from tier4k.heads.regressors.base import FitTask, Head
from tier4k.heads.regressors.choices import HeadName, RecipeName
from tier4k.heads.regressors.ensemble import EnsembleHead
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.mlp.recipes import recipe_options
from tier4k.heads.regressors.options import HeadError, as_given, cli_name, require_within, typed
from tier4k.heads.regressors.specs import SINGLE, HeadSpec

HEADS: dict[str, HeadSpec] = {**SINGLE, "ensemble": HeadSpec(EnsembleHead)}


def head_options(name: str) -> dict[str, Any]:
    """The options that a user may give to a head, with their types."""
    return HEADS[name].options()


def has_epochs(name: str) -> bool:
    """Whether a head is trained in epochs, so that one of them can be selected."""
    return name in HEADS and "max_epochs" in head_options(name)


def resolve_options(
    name: HeadName,
    recipe: RecipeName,
    image_architecture: str,
    changed: Mapping[str, Any],
    text_width: Callable[[], int] | None = None,
) -> dict[str, Any]:
    """Every option of a head but its seed, which each repeat has for itself.

    Args:
        name: A name of `HEADS`.
        recipe: Where the options start from; only the MLP has more than one.
        image_architecture: timm's name of the image encoder, which the published recipe depends on.
        changed: Options that differ from the recipe's; values may be texts.
        text_width: Tells how many columns of the fused vector, from the first, are the text's; asked where a head parts them.

    Raises:
        HeadError: The head has no such option or recipe, or the option does not take the value.
    """
    kind, known = HEADS[name], head_options(name)
    if unknown := sorted(set(changed) - set(known)):
        raise HeadError(
            f"the {name} head has no option {', '.join(map(cli_name, unknown))}: it has {', '.join(map(cli_name, known))}"
        )
    if kind.estimator is not MLPHead and recipe != "cached":
        raise HeadError(
            f"--recipe {recipe} describes the training of the mlp head: use --head mlp, or leave it out"
        )
    start = recipe_options(recipe, image_architecture) if kind.estimator is MLPHead else {}
    given = {option: typed(option, value, known[option]) for option, value in changed.items()}
    options = {
        option: value
        for option, value in kind.make(start | given).get_params().items()
        if option != "random_state"
    }
    require_within(options, kind.estimator.limits)
    parts_text = kind.parts_text or any(SINGLE[member].parts_text for member in options.get("members", ()))
    return options | ({"text_width": text_width()} if parts_text and text_width else {})


def changed_options(
    name: str, recipe: RecipeName, image_architecture: str, options: Mapping[str, Any]
) -> list[str]:
    """The options of a head that differ from its recipe's, as `--set` takes them; none of what is no head of `HEADS`.

    Args:
        name: Name of the head.
        recipe, image_architecture: As for `resolve_options`.
        options: Every option of the head, as JSON has them.
    """
    if name not in HEADS:
        return []
    start = resolve_options(cast(HeadName, name), recipe, image_architecture, {})
    texts = {
        option: (as_given(options[option]), as_given(start[option]))
        for option in head_options(name)
        if option in options
    }
    return [f"{cli_name(option)}={given}" for option, (given, default) in texts.items() if given != default]


def options_at_default(
    name: HeadName, recipe: RecipeName, image_architecture: str, options: Mapping[str, Any]
) -> tuple[str, ...]:
    """The names of the options of a head that are at their recipe's value; arguments as for `changed_options`."""
    start = resolve_options(name, recipe, image_architecture, {})
    return tuple(option for option, value in start.items() if options[option] == value)


def make_head(name: HeadName, options: Mapping[str, Any], seed: int) -> Head:
    """A head to be fitted; the seed goes to heads that draw random numbers."""
    return HEADS[name].make(options, seed)


def fit_heads(
    name: HeadName,
    heads: Sequence[Head],
    X: np.ndarray,
    tasks: Sequence[FitTask],
    finished: Callable[[int], None],
) -> None:
    """Fit several heads of one kind on rows of one matrix of fused vectors X (N, d), sharing what they have in common.

    Args:
        name: A name of `HEADS`.
        heads: Unfitted heads of that kind.
        X: Fused vectors.
        tasks: What each head learns.
        finished: Called with the number of each head, from 0, when it is fitted.
    """
    HEADS[name].estimator.fit_many(heads, X, tasks, finished)


def restore_head(
    name: HeadName, weights: Mapping[str, np.ndarray], options: Mapping[str, Any], seed: int
) -> Head:
    """The head that `make_head` made and that was fitted to these weights."""
    return HEADS[name].restore(weights, options, seed)
