"""The heads that a run can use, by name, and the options of heads.

`tier4k.heads.regressors.single_heads` describes how to add a head, `tier4k.heads.regressors.own_heads` what
heads users can bring. A name that is not in `HEADS` is that of such a head, and is imported when it is used.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from tier4k.cache.text import nearest
from tier4k.extract.plugins.identity import Plugin
from tier4k.heads.data.streams import Streams
from tier4k.heads.regressors.base import Head
from tier4k.heads.regressors.choices import RecipeName
from tier4k.heads.regressors.ensemble import EnsembleHead
from tier4k.heads.regressors.estimator_head import foreign_errors
from tier4k.heads.regressors.head_spec import HeadSpec
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
from tier4k.heads.regressors.own_heads import EstimatorSpec, own_head
from tier4k.heads.regressors.single_heads import SINGLE_HEADS
from tier4k.heads.regressors.tasks import FitTask

HEADS: dict[str, HeadSpec] = {**SINGLE_HEADS, "ensemble": HeadSpec(EnsembleHead)}


def head_spec(name: str) -> HeadSpec | EstimatorSpec:
    """Return how a head is made. A head of a user is imported.

    Raises:
        HeadError: There is no such head.
        PluginError: The head of a user cannot be imported.
    """
    return HEADS[name] if name in HEADS else own_head(name).spec


def head_plugins(name: str) -> tuple[Plugin, ...]:
    """Return what a run records of a user's head; nothing of other heads."""
    return () if name in HEADS else (own_head(name).plugin,)


def head_options(name: str) -> dict[str, Any]:
    """Return the options of a head that a user can set, with their types."""
    return head_spec(name).options()


def option_names(name: str) -> list[str]:
    """Return the names of these options on the command line."""
    spec = head_spec(name)
    options = spec.options()
    if isinstance(spec, EstimatorSpec):  # an estimator keeps the names of its own options
        return [cli_name(option) if option in spec.own_types() else option for option in options]
    return list(map(cli_name, options))


def has_epochs(name: str) -> bool:
    """Whether a head is one of ours and is trained in epochs, so that an epoch can be selected."""
    return name in HEADS and "max_epochs" in head_options(name)


def resolve_options(
    name: str,
    recipe: RecipeName,
    image_architecture: str,
    changed: Mapping[str, Any],
) -> dict[str, Any]:
    """Return every option of a head except the seed, which is that of the repeat.

    Args:
        name: Name of the head.
        recipe: Recipe with the initial options; only the MLP has more than one recipe.
        image_architecture: timm's name of the image encoder, which the published recipe depends on.
        changed: Options that differ from the recipe; values may be texts.

    Raises:
        HeadError: The head has no such option or recipe, or the value is not valid for the option.
    """
    spec = head_spec(name)
    _require_recipe_exists(spec, recipe)
    if isinstance(spec, EstimatorSpec):
        return spec.resolve(changed)
    _require_options_exist(name, changed)
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
    defaults = resolve_options(name, recipe, image_architecture, {})
    changed = []
    for option in head_options(name):
        if option not in options:
            continue
        text = option_text(options[option])
        if text != option_text(defaults[option]):
            changed.append(f"{cli_name(option)}={text}")
    return changed


def options_at_default(
    name: str,
    recipe: RecipeName,
    image_architecture: str,
    options: Mapping[str, Any],
) -> tuple[str, ...]:
    """Return the names of the options that have the value of the recipe.

    Args:
        name: Name of the head.
        recipe: Recipe to compare with.
        image_architecture: timm's name of the image encoder, which the published recipe depends on.
        options: Every option of the head.
    """
    spec = head_spec(name)
    if isinstance(spec, EstimatorSpec):
        return spec.at_default(options)
    defaults = resolve_options(name, recipe, image_architecture, {})
    return tuple(option for option, default in defaults.items() if options[option] == default)


def has_networks(name: str, options: Mapping[str, Any]) -> bool:
    """Return whether a head, or a member of it, is a network, which can be fitted on a GPU.

    Args:
        name: Name of the head.
        options: Every option of the head.
    """
    return any(head_spec(member).estimator.is_network for member in _members(name, options))


def validation_share(name: str, options: Mapping[str, Any]) -> float:
    """Return the share of the training rows that a head wants to be held out as a validation part.

    A user's estimator may have an option of that name, for rows that it cuts out of those it is given.

    Args:
        name: Name of the head.
        options: Every option of the head.
    """
    if isinstance(head_spec(name), EstimatorSpec):
        return 0.0
    return options.get("validation_fraction", 0.0)


def _members(name: str, options: Mapping[str, Any]) -> Sequence[str]:
    """Return the names of the heads that a head consists of."""
    return options["members"] if head_spec(name).estimator is EnsembleHead else [name]


def require_inputs(
    name: str,
    options: Mapping[str, Any],
    kinds: Sequence[str],
) -> None:
    """Refuse inputs that a head cannot separate into text and something else.

    Args:
        name: Name of the head.
        options: Every option of the head.
        kinds: Kinds of inputs: "text", "image" or "score".

    Raises:
        HeadError: The head, or a member of it, needs other inputs.
    """
    interacts = options.get("interaction", "none") != "none"  # adds columns that are no text
    for member in _members(name, options):
        separates = "fusion" in head_spec(member).fixed
        if separates and not ("text" in kinds and (interacts or len(set(kinds)) > 1)):
            raise HeadError(
                f"the {member} head fuses text with other inputs, and the streams are those of "
                f"{' and '.join(kinds)} alone: use other streams or another head"
            )


def make_head(
    name: str,
    options: Mapping[str, Any],
    seed: int,
) -> Head:
    """Make an unfitted head; only heads that draw random numbers use the seed."""
    return head_spec(name).make(options, seed)


def fit_heads(
    name: str,
    heads: Sequence[Head],
    X: np.ndarray,
    streams: Streams,
    tasks: Sequence[FitTask],
    finished: Callable[[int], None],
    device: str = "cpu",
) -> None:
    """Fit several heads of one name on rows of one matrix of fused vectors X (N, d), sharing common work.

    Args:
        name: Name of the heads.
        heads: Unfitted heads of that name.
        X: Fused vectors (N, d).
        streams: The streams of the columns of X.
        tasks: Rows and scores of each head.
        finished: Called with the number of each head, from 0, when the head is fitted.
        device: Device on which networks are fitted, by torch's name; other heads are fitted on the CPU.
    """
    fit_many = head_spec(name).estimator.fit_many
    if name in HEADS:
        fit_many(heads, X, tasks, finished, streams, device)
        return
    # An adapted estimator names the repeat itself; a user's class fits all of its heads at once.
    which = tasks[0].name if len(tasks) == 1 else f"one of {len(tasks)} targets and repeats"
    with foreign_errors(name, f"be fitted for {which}"):
        fit_many(heads, X, tasks, finished, streams, device)


def restore_head(
    name: str,
    weights: Mapping[str, np.ndarray],
    options: Mapping[str, Any],
    seed: int,
) -> Head:
    """Restore a fitted head of ours from its weights, options and seed."""
    return HEADS[name].restore(weights, options, seed)


def _require_options_exist(name: str, changed: Mapping[str, Any]) -> None:
    known = head_options(name)
    unknown = sorted(set(changed) - set(known))
    if unknown:
        misspelt = [f"{cli_name(option)}{nearest(option, map(cli_name, known))}" for option in unknown]
        raise HeadError(f"the {name} head has no option {', '.join(misspelt)}: it has {_cli_names(known)}")


def _cli_names(options: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(map(cli_name, options))


def _require_recipe_exists(spec: HeadSpec | EstimatorSpec, recipe: RecipeName) -> None:
    if spec.estimator is not MLPHead and recipe != "cached":
        networks = [name for name, known in HEADS.items() if known.estimator is MLPHead]
        raise HeadError(
            f"--recipe {recipe} is a recipe of the heads {', '.join(networks)}: use one of them, or leave "
            "out --recipe"
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
