"""The heads that a run can use, by name, and the options of heads.

`tier4k.heads.regressors.single_heads` describes how to add a head.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec
import numpy as np

from tier4k.heads.data.streams import Streams
from tier4k.heads.regressors.base import Head
from tier4k.heads.regressors.choices import HeadName, RecipeName
from tier4k.heads.regressors.ensemble import EnsembleHead
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.mlp.recipes import recipe_options
from tier4k.heads.regressors.options import (
    HeadError,
    canonical,
    cli_name,
    option_text,
    parse_option,
    require_within,
)
from tier4k.heads.regressors.single_heads import SINGLE_HEADS, HeadSpec
from tier4k.heads.regressors.tasks import FitTask

HEADS: dict[str, HeadSpec] = {**SINGLE_HEADS, "ensemble": HeadSpec(EnsembleHead)}


def head_options(name: str) -> dict[str, Any]:
    """Return the options of a head that a user can set, with their types."""
    return HEADS[name].options()


def has_epochs(name: str) -> bool:
    """Whether a head is trained in epochs, so that an epoch can be selected."""
    return name in HEADS and "max_epochs" in head_options(name)


def resolve_options(
    name: HeadName,
    recipe: RecipeName,
    image_architecture: str,
    changed: Mapping[str, Any],
) -> dict[str, Any]:
    """Return every option of a head except the seed, which is that of the repeat.

    Args:
        name: Key of the head in `HEADS`.
        recipe: Recipe with the initial options; only the MLP has more than one recipe.
        image_architecture: timm's name of the image encoder, which the published recipe depends on.
        changed: Options that differ from the recipe; values may be texts.

    Raises:
        HeadError: The head has no such option or recipe, or the value is not valid for the option.
    """
    spec = HEADS[name]
    _require_options_exist(name, changed)
    _require_recipe_exists(spec, recipe)
    given = {
        option: parse_option(option, value, head_options(name)[option]) for option, value in changed.items()
    }
    options = spec.make(_recipe_start(spec, recipe, image_architecture) | given).get_params()
    options.pop("random_state", None)
    require_within(options, spec.estimator.limits)
    return canonical(options, spec.estimator.limits)


def changed_options(
    name: str,
    recipe: RecipeName,
    image_architecture: str,
    options: Mapping[str, Any],
) -> list[str]:
    """Return the options of a head that differ from its recipe, in the form of `--set`.

    Args:
        name: Name of the head; a name that is not in `HEADS` has no options.
        recipe: Recipe to compare with.
        image_architecture: timm's name of the image encoder, which the published recipe depends on.
        options: Every option of the head, as in JSON.
    """
    if name not in HEADS:
        return []
    defaults = resolve_options(cast(HeadName, name), recipe, image_architecture, {})
    changed = []
    for option in head_options(name):
        if option not in options:
            continue
        text = option_text(options[option])
        if text != option_text(defaults[option]):
            changed.append(f"{cli_name(option)}={text}")
    return changed


def options_at_default(
    name: HeadName,
    recipe: RecipeName,
    image_architecture: str,
    options: Mapping[str, Any],
) -> tuple[str, ...]:
    """Return the names of the options that have the value of the recipe.

    Args:
        name: Key of the head in `HEADS`.
        recipe: Recipe to compare with.
        image_architecture: timm's name of the image encoder, which the published recipe depends on.
        options: Every option of the head.
    """
    defaults = resolve_options(name, recipe, image_architecture, {})
    return tuple(option for option, default in defaults.items() if options[option] == default)


def require_inputs(
    name: HeadName,
    options: Mapping[str, Any],
    kinds: Sequence[str],
) -> None:
    """Refuse inputs that a head cannot separate into text and something else.

    Args:
        name: Key of the head in `HEADS`.
        options: Every option of the head.
        kinds: Kinds of inputs: "text", "image" or "score".

    Raises:
        HeadError: The head, or a member of it, needs other inputs.
    """
    interacts = options.get("interaction", "none") != "none"  # adds columns that are no text
    for member in options.get("members", [name]):
        separates = "fusion" in HEADS[member].fixed
        if separates and not ("text" in kinds and (interacts or len(set(kinds)) > 1)):
            raise HeadError(
                f"the {member} head fuses text with other inputs, and the streams are those of "
                f"{' and '.join(kinds)} alone: use other streams or another head"
            )


def make_head(
    name: HeadName,
    options: Mapping[str, Any],
    seed: int,
) -> Head:
    """Make an unfitted head; only heads that draw random numbers use the seed."""
    return HEADS[name].make(options, seed)


def fit_heads(
    name: HeadName,
    heads: Sequence[Head],
    X: np.ndarray,
    streams: Streams,
    tasks: Sequence[FitTask],
    finished: Callable[[int], None],
) -> None:
    """Fit several heads of one name on rows of one matrix of fused vectors X (N, d), sharing common work.

    Args:
        name: Key of the heads in `HEADS`.
        heads: Unfitted heads of that name.
        X: Fused vectors (N, d).
        streams: The streams of the columns of X.
        tasks: Rows and scores of each head.
        finished: Called with the number of each head, from 0, when the head is fitted.
    """
    HEADS[name].estimator.fit_many(heads, X, tasks, finished, streams)


def restore_head(
    name: HeadName,
    weights: Mapping[str, np.ndarray],
    options: Mapping[str, Any],
    seed: int,
) -> Head:
    """Restore a fitted head from its weights, options and seed."""
    return HEADS[name].restore(weights, options, seed)


def _require_options_exist(name: str, changed: Mapping[str, Any]) -> None:
    known = head_options(name)
    unknown = sorted(set(changed) - set(known))
    if unknown:
        raise HeadError(f"the {name} head has no option {_cli_names(unknown)}: it has {_cli_names(known)}")


def _cli_names(options: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(map(cli_name, options))


def _require_recipe_exists(spec: HeadSpec, recipe: RecipeName) -> None:
    if spec.estimator is not MLPHead and recipe != "cached":
        raise HeadError(
            f"--recipe {recipe} is a recipe of the mlp head: use --head mlp, or leave out --recipe"
        )


def _recipe_start(
    spec: HeadSpec,
    recipe: RecipeName,
    image_architecture: str,
) -> dict[str, Any]:
    if spec.estimator is not MLPHead:
        return {}
    return recipe_options(recipe, image_architecture)


def require_head_options(
    estimator: str,
    options: Mapping[str, Any],
    field: str,
) -> None:
    """Refuse values that are not valid for the options of a head.

    Args:
        estimator: Name of the head; other names, such as those of scorers or of heads of another run, are not
            checked.
        options: Options of the head, as in JSON.
        field: Field of the file, such as "$.head", for the message.

    Raises:
        ValueError: A value has the wrong type or is out of its limits.
    """
    if estimator not in HEADS:
        return
    for name, type_ in head_options(estimator).items():
        if name in options:
            _require_type(options[name], type_, f"{field}.{name}")
    limits = HEADS[estimator].estimator.limits
    known = {name: limit for name, limit in limits.items() if name in options}
    try:
        require_within(options, known)
    except HeadError as error:
        raise ValueError(f"`{field}`: {error}") from error


def _require_type(
    value: Any,
    type_: Any,
    field: str,
) -> None:
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        raise ValueError(f"{error} - at `{field}`") from error
