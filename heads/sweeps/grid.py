"""The cells of a sweep: the runs of the paper's table, or every combination of a grid's values."""

import math
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, get_args

from tier4k.cache.errors import TierError
from tier4k.cache.text import read_text
from tier4k.extract.datasets.choices import Benchmark
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.datasets.streams import ALL, names_text, parse_streams
from tier4k.extract.encoders.choices import FeatureName, Precision, StoreDtype
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.images.choices import ImageSize, PreprocessingName
from tier4k.extract.stores.find import parse_scorer_names
from tier4k.heads.data.choices import Method
from tier4k.heads.data.encoder_choice import EncoderChoice, ImageEncoders
from tier4k.heads.data.fusion import (
    STREAMS_OF,
    FusionError,
    default_benchmark,
    encoder_kinds,
    method_streams,
    require_valid_benchmark,
)
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.regressors.choices import RecipeName
from tier4k.heads.regressors.names import OURS, head_names, is_head
from tier4k.heads.regressors.options import OPTION_OF
from tier4k.heads.regressors.registry import option_names

# The five lines of TIER-4K's run.sh, each for MOS_q, MOS_a and MOS_c: the table of its paper.
PAPER: tuple[tuple[Method, Benchmark], ...] = (
    ("fr", "I2I"),
    ("nr", "I2I"),
    ("nr", "T2I"),
    ("nr", "all"),
    ("pr", "all"),
)

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

LEAST = {"seed": 0, "seeds": 1, "repeats": 1, "folds": 2, "image_size": 32}

SIZE_NAMES = get_args(get_args(ImageSize)[1])

TYPE_NAMES = {int: "a whole number", str: "a text"}

# Options that `FitOptions` and `ImageChoice` have under the same names.
FIT_NAMES = {"method", "benchmark", "recipe", "repeats", "folds", "seed", "seeds"}

IMAGE_NAMES = {"preprocessing", "image_size", "feature", "precision", "store_dtype"}

HEAD_OPTIONS = {option for name in OURS for option in option_names(name)}

EXAMPLE = 'method = ["nr", "fr"]\nbenchmark = "I2I"\nhead = ["mlp", "ridge"]\nrepeats = 10'


Grid = Mapping[str, Any] | str | Path
"""A value or a list of values for each option of `fit-head`; or a TOML file with them."""

WITHOUT_HEADS = FitOptions(models="none")


class SweepError(TierError):
    """Raised when a grid cannot be swept or searched."""


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
        encoders: The encoders of images and texts.
        options: Options of the fit.
        scorers: Zero-shot scorers whose scores are features; their stores are found when the sweep begins.
    """

    encoders: EncoderChoice
    options: FitOptions
    scorers: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        image_encoder: ImageEncoders | None,
        text_encoder: str | Sequence[str] | None,
        encoder: str | ImageChoice | None,
        options: FitOptions,
    ) -> "Cell":
        """Return the cell of options and encoders, which are named as for `EncoderChoice.of`."""
        return cls(EncoderChoice.of(image_encoder, text_encoder, encoder), options)


class Cells(NamedTuple):
    """The runs of a sweep.

    Attributes:
        cells: The runs.
        left_out: Number of combinations that no run can have, by the reason.
    """

    cells: list[Cell]
    left_out: Mapping[str, int]


def paper_cells(
    manifest: Manifest,
    base: Cell,
    streams: str = "all",
) -> Cells:
    """Return the 15 runs of the paper's table: its five lines for each target.

    Lines of the table for which the data set has no rows are left out, and so are lines whose method does not
    have the streams.

    Args:
        manifest: The data set.
        base: Options that all cells share.
        streams: The streams that heads use, such as "image+text", or "all".
    """
    cells: list[Cell] = []
    left_out: Counter[str] = Counter()
    for method, benchmark in _paper_lines(manifest):
        line = {"method": method, "benchmark": benchmark, "streams": streams, "target": "all"}
        found = grid_cells(line, manifest, base)
        cells += found.cells
        left_out.update(found.left_out)
    return Cells(cells, left_out)


def _paper_lines(manifest: Manifest) -> list[tuple[Method, Benchmark]]:
    benchmarks = {"all", *manifest.table["benchmark"]}
    if "I2I" not in benchmarks:
        # Without image prompts PR equals NR, and T2I equals all rows.
        return [("nr", "all")]
    return [(method, benchmark) for method, benchmark in PAPER if benchmark in benchmarks]


def grid_cells(
    grid: Mapping[str, Any],
    manifest: Manifest,
    base: Cell,
) -> Cells:
    """Return one cell for every combination of a grid's values.

    Combinations are left out if FR meets rows without an image prompt, or if the method or the data set does
    not have the streams.

    Args:
        grid: A value or a list of values for each option of `fit-head`; names have underscores. The target
            "all" stands for every target, and each target is fitted in a separate run. Values of options that
            may be repeated are joined in one text: encoders by "+", `stages` by spaces.
        manifest: The data set.
        base: Options that the grid does not name.

    Raises:
        DataError: The streams of the grid are not valid.
        SweepError: The grid has another unknown option or value.
    """
    values = value_lists(grid, base.options.estimator)
    values["target"] = _targets(values.pop("target", ["all"]), manifest)
    cells = []
    left_out: Counter[str] = Counter()
    for combination in product(*values.values()):
        chosen = dict(zip(values, combination, strict=True))
        reason = _why_impossible(chosen, manifest, base.options)
        if reason:
            left_out[reason] += 1
        else:
            cells.append(_cell(chosen, base))
    return Cells(cells, left_out)


def _why_impossible(
    chosen: Mapping[str, Any],
    manifest: Manifest,
    base: FitOptions,
) -> str:
    """Return why no run can have a combination of values; "" if one can."""
    method = chosen.get("method", base.method)
    if not manifest.has_prompts and names_text(chosen.get("streams", ALL)):
        return "the data set has no text prompts"
    try:
        require_valid_benchmark(method, _benchmark(chosen, base))
    except FusionError:
        return "full reference (fr) needs an image prompt in every row"
    try:
        method_streams(chosen.get("streams", "all"), method)
    except FusionError:
        missing = [name for name in parse_streams(chosen["streams"]) if name not in STREAMS_OF[method]]
        return f"{method} has no stream {', '.join(missing)}"
    return ""


def read_grid(path: Path) -> dict[str, Any]:
    """Read a grid from a TOML file.

    Raises:
        SweepError: The file cannot be read.
    """
    try:
        return tomllib.loads(read_text(path))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SweepError(
            f"{path} cannot be read as a grid ({error}): pass a TOML file such as\n{EXAMPLE}"
        ) from error


def as_grid(grid: Grid) -> dict[str, Any]:
    """Return a grid that a user gives as a mapping or as a TOML file; tuples become lists of values.

    Raises:
        SweepError: The file cannot be read, or the grid is neither.
    """
    if isinstance(grid, str | Path):
        return read_grid(Path(grid))
    if not isinstance(grid, Mapping):
        raise SweepError(
            f"the grid is a {type(grid).__name__} and no dict: call the function once for each grid, with "
            "the same out folder"
        )
    return {name: list(value) if isinstance(value, tuple) else value for name, value in grid.items()}


def left_out_lines(left_out: Mapping[str, int]) -> list[str]:
    """Return sentences about combinations that no run can have."""
    lines = []
    for reason, count in left_out.items():
        combinations = "combination is" if count == 1 else "combinations are"
        lines.append(f"{count} {combinations} left out, because {reason}")
    return lines


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
            raise SweepError(f"a grid has no option {name!r}: use one of {', '.join(sorted(known))}")
        _require_valid(name, given)
    _require_options_of_each(heads, values)
    return values


def _require_options_of_each(heads: Sequence[str], names: Iterable[str]) -> None:
    """Refuse an option that some heads of the grid have and others lack."""
    options = {head: option_names(head) for head in heads}
    for name in names:
        having = [head for head in heads if name in options[head]]
        lacking = [head for head in heads if name not in options[head]]
        if having and lacking and name not in NAMES_OF and name not in TYPES_OF:
            raise SweepError(
                f"the grid sets {name}, which the {having[0]} head has and the {lacking[0]} head lacks: use "
                "one grid for each head, with the same --out folder (out= in Python)"
            )


def options_of_heads(heads: Sequence[str]) -> set[str]:
    """Return the options of our heads and of some heads of users, as a grid names them.

    An option of a user's head that has the name of another option of `fit-head` cannot be in a grid.
    """
    own = {option for name in heads if name not in OURS for option in option_names(name)}
    return HEAD_OPTIONS | (own - {*NAMES_OF, *TYPES_OF})


def _targets(given: Sequence[str], manifest: Manifest) -> list[str]:
    """Return the distinct targets, with "all" replaced by the targets of the data set."""
    targets: dict[str, None] = {}
    for target in given:
        names = manifest.targets if target == "all" else [target]
        targets.update(dict.fromkeys(names))
    return list(targets)


def _cell(chosen: Mapping[str, Any], base: Cell) -> Cell:
    """Return the cell of one combination of values."""
    return Cell(
        EncoderChoice(
            _image_choices(chosen, base.encoders.images), _text_encoders(chosen, base.encoders.texts)
        ),
        _fit_options(chosen, base.options),
        parse_scorer_names(chosen.get("score_features", "")),
    )


def _image_choices(chosen: Mapping[str, Any], base: Sequence[ImageChoice]) -> tuple[ImageChoice, ...]:
    """Return the image encoders of a combination; the size in a name such as "clip@448" stays."""
    options = {name: value for name, value in chosen.items() if name in IMAGE_NAMES}
    names = _encoder_names(chosen, "image_encoder")
    if names:
        choices = [replace(base[0], **options | {"encoder": name}) for name in names]
        return tuple(dict.fromkeys(choices))
    choices = [replace(choice, **options) for choice in base]
    if len(set(choices)) < len(base):
        raise SweepError(
            f"{', '.join(options)} in the grid makes image encoders equal that the command line tells apart: "
            "name the encoders in the grid, such as image_encoder = 'clip@448+clip'"
        )
    return tuple(choices)


def _text_encoders(chosen: Mapping[str, Any], base: tuple[str, ...]) -> tuple[str, ...]:
    return _encoder_names(chosen, "text_encoder") or base


def _encoder_names(chosen: Mapping[str, Any], option: str) -> tuple[str, ...]:
    """Return the encoders of images or of texts that a combination names; "a+b" names two."""
    names = [chosen["encoder"]] if "encoder" in chosen else []
    if option in chosen:
        names += chosen[option].split("+")
    return tuple(dict.fromkeys(name.strip() for name in names))


def _fit_options(chosen: Mapping[str, Any], base: FitOptions) -> FitOptions:
    options = {name: value for name, value in chosen.items() if name in FIT_NAMES}
    method = chosen.get("method", base.method)
    options["targets"] = (chosen["target"],)
    options["estimator"] = chosen.get("head", base.estimator)
    options["benchmark"] = _benchmark(chosen, base)
    options["streams"] = method_streams(chosen["streams"], method) if "streams" in chosen else base.streams
    if "split" in chosen:
        options["split"] = chosen["split"]
    if "stages" in chosen:
        options["stages"] = tuple(str(chosen["stages"]).split())
    if "image" not in encoder_kinds(method, options["streams"]):
        options["stages"] = ()  # stages are those of images
    head = dict(base.head)
    for name, value in chosen.items():
        if name not in NAMES_OF and name not in TYPES_OF:
            head[OPTION_OF.get(name, name)] = value
    return replace(base, **options, head=head)


def _benchmark(chosen: Mapping[str, Any], base: FitOptions) -> Benchmark:
    """Return the rows of a combination; without a benchmark, the widest that the method allows."""
    return chosen.get("benchmark") or default_benchmark(chosen.get("method", base.method))


def _require_valid(name: str, values: Sequence[Any]) -> None:
    if not values:
        raise SweepError(f"{name} has no value in the grid: set it to a value or to a list of values")
    for value in values:
        _require_name(name, value)
        _require_type(name, value)
        if name == "head" and not is_head(value):
            raise SweepError(f"head in the grid is {value!r}, which is unknown: use {head_names()}")
        if name == "streams":
            parse_streams(value)
        _require_least(name, value)


def _require_name(name: str, value: Any) -> None:
    if name in NAMES_OF and value not in NAMES_OF[name]:
        raise SweepError(
            f"{name} in the grid is {value!r}, which is unknown: use {', '.join(NAMES_OF[name])}"
        )


def _require_type(name: str, value: Any) -> None:
    if name not in TYPES_OF:
        return
    types = TYPES_OF[name]
    if isinstance(value, bool) or not isinstance(value, types):
        type_names = " or ".join(TYPE_NAMES[type_] for type_ in types)
        raise SweepError(f"{name} in the grid is {value!r}, which has the wrong type: use {type_names}")
    if name == "image_size" and isinstance(value, str) and value not in SIZE_NAMES:
        raise SweepError(f"image_size in the grid is {value!r}: use a number of pixels, or 'full'")


def _require_least(name: str, value: Any) -> None:
    if name not in LEAST or isinstance(value, str):
        return
    if not LEAST[name] <= value < math.inf:
        raise SweepError(f"{name} in the grid is {value!r}, which is out of range: use {LEAST[name]} or more")
