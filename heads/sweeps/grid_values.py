"""The options that a grid may have, and their valid values."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from tier4k.cache.text import nearest, shortened
from tier4k.extract.datasets.choices import Benchmark
from tier4k.extract.datasets.streams import parse_streams
from tier4k.extract.encoders.choices import FeatureName, Precision, StoreDtype
from tier4k.extract.encoders.image_choice import FULL_SIZE, LARGEST_SIDE, SMALLEST_SIDE
from tier4k.extract.images.choices import PreprocessingName
from tier4k.heads.data.choices import FOLDS, REPEATS, SEED, SEEDS, Method
from tier4k.heads.regressors.choices import RecipeName
from tier4k.heads.regressors.names import OURS, head_names, is_head
from tier4k.heads.regressors.options import OPTION_OF, HeadError, parse_option
from tier4k.heads.regressors.registry import head_options, option_names
from tier4k.heads.sweeps.blocks import SweepError

# Options of `fit-head` that a grid may have, with underscores: first the options whose value is a known name.
NAMES_OF: dict[str, tuple[str, ...]] = {
    "method": get_args(Method),
    "benchmark": get_args(Benchmark),
    "recipe": get_args(RecipeName),
    "preprocessing": get_args(PreprocessingName),
    "feature": get_args(FeatureName),
    "precision": get_args(Precision),
    "store_dtype": get_args(StoreDtype),
}

TYPES_OF: dict[str, tuple[type, ...]] = {
    "head": (str,),
    "score_features": (str,),
    "target": (str,),
    "streams": (str,),
    "stages": (int, str),
    "encoder": (str,),
    "image_encoder": (str,),
    "text_encoder": (str,),
    "image_size": (int, str),
    "split": (str,),
    "repeats": (int,),
    "folds": (int,),
    "seed": (int,),
    "seeds": (int,),
}

# The least and the largest value of each number; the options of heads have limits of their own.
RANGES: dict[str, tuple[int, int]] = {
    "seed": SEED,
    "seeds": SEEDS,
    "repeats": REPEATS,
    "folds": FOLDS,
    "image_size": (SMALLEST_SIDE, LARGEST_SIDE),
}

TYPE_NAMES = {int: "a whole number", str: "a text"}

HEAD_OPTIONS = {option for name in OURS for option in option_names(name)}


def value_lists(grid: Mapping[str, Any], head: str) -> dict[str, list[Any]]:
    """Return the values of each option as a list.

    Args:
        grid: As for `grid_cells`.
        head: Name of the head where the grid names none.

    Raises:
        DataError: The streams of the grid are not valid.
        HeadError: A head of a user cannot be used.
        SweepError: The grid has another unknown option or value.
    """
    values = {name: given if isinstance(given, list) else [given] for name, given in grid.items()}
    heads = values.get("head", [head])
    _require_valid("head", heads)
    known = {*NAMES_OF, *TYPES_OF, *options_of_heads(heads)}
    for name, given in values.items():
        if name not in known:
            raise SweepError(
                f"a grid has no option {name!r}{nearest(name, known)}: use one of {', '.join(sorted(known))}"
            )
        _require_valid(name, given)
    _require_options_of_each(heads, values)
    _require_values_of_options(heads, values)
    return values


def _require_values_of_options(heads: Sequence[str], values: Mapping[str, Sequence[Any]]) -> None:
    """Refuse values that options of our heads cannot have, before anything is fitted."""
    for head in heads:
        types = head_options(head) if head in OURS else {}
        for name, given in values.items():
            option = OPTION_OF.get(name, name)
            for value in given if option in types else ():
                try:
                    parse_option(option, value, types[option])
                except HeadError as error:
                    raise SweepError(f"in the grid, {error}") from error


def _require_options_of_each(heads: Sequence[str], names: Iterable[str]) -> None:
    """Refuse an option that some heads of the grid have and others lack."""
    options = {head: option_names(head) for head in heads}
    for name in names:
        having = [head for head in heads if name in options[head]]
        lacking = [head for head in heads if name not in options[head]]
        if having and lacking and name not in NAMES_OF and name not in TYPES_OF:
            raise SweepError(
                f"the grid sets {name}, which the {having[0]} head has and the {lacking[0]} head lacks: "
                "write a block for each head, which begins with [[grid]] (in Python, a dict for each head)"
            )


def options_of_heads(heads: Sequence[str]) -> set[str]:
    """Return the options of our heads and of some heads of users, as a grid names them.

    An option of a user's head that has the name of another option of `fit-head` cannot be in a grid.
    """
    own = {option for name in heads if name not in OURS for option in option_names(name)}
    return HEAD_OPTIONS | (own - {*NAMES_OF, *TYPES_OF})


def _require_valid(name: str, values: Sequence[Any]) -> None:
    if not values:
        raise SweepError(f"{name} has no value in the grid: set it to a value or to a list of values")
    for value in values:
        if isinstance(value, list | dict):
            raise SweepError(f"{name} in the grid is {_quoted(value)}: write a list as a text, such as '1,2'")
        _require_name(name, value)
        _require_type(name, value)
        if name == "head" and not is_head(value):
            raise SweepError(f"head in the grid is {_quoted(value)}, which is unknown: use {head_names()}")
        if name == "streams":
            parse_streams(value)
        _require_within_range(name, value)


def _require_name(name: str, value: Any) -> None:
    if name in NAMES_OF and value not in NAMES_OF[name]:
        raise SweepError(
            f"{name} in the grid is {_quoted(value)}, which is unknown: use {', '.join(NAMES_OF[name])}"
        )


def _require_type(name: str, value: Any) -> None:
    if name not in TYPES_OF:
        return
    types = TYPES_OF[name]
    if isinstance(value, bool) or not isinstance(value, types):
        type_names = " or ".join(TYPE_NAMES[type_] for type_ in types)
        in_range = "{} from {:,} to {:,}".format(TYPE_NAMES[int], *RANGES[name]) if name in RANGES else ""
        raise SweepError(
            f"{name} in the grid is {_quoted(value)}, which has the wrong type: use {in_range or type_names}"
        )
    if name == "image_size" and isinstance(value, str) and value != FULL_SIZE:
        raise SweepError(
            f"image_size in the grid is {_quoted(value)}: use a number of pixels, or {FULL_SIZE!r}"
        )


def _require_within_range(name: str, value: Any) -> None:
    if name not in RANGES or isinstance(value, str):
        return
    least, most = RANGES[name]
    if not least <= value <= most:
        raise SweepError(
            f"{name} in the grid is {_quoted(value)}, which is out of range: use a whole number "
            f"from {least:,} to {most:,}"
        )


def _quoted(value: object) -> str:
    """Return a value as it stands in a message; a long one is cut."""
    return shortened(repr(value), 60)
