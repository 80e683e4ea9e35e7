"""Many runs at once: the cells of a grid, each fitted once, those that are there already left alone."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

from tier4k.cache.errors import TierError
from tier4k.extract.datasets.choices import Benchmark
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.choice import ImageChoice
from tier4k.extract.encoders.choices import FeatureName, Precision
from tier4k.extract.encoders.levels import parse_level_names
from tier4k.extract.images.choices import ImageSize, PreprocessingName
from tier4k.extract.stores.find import parse_scorer_names
from tier4k.heads.data.choices import Method
from tier4k.heads.data.fusion import FusionError, default_benchmark, require_possible
from tier4k.heads.data.split_files import parse_split
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.regressors.choices import HeadName, RecipeName
from tier4k.heads.regressors.options import OPTION_OF, cli_name
from tier4k.heads.regressors.registry import head_options

# The five lines of TIER-4K's run.sh, each for MOS_q, MOS_a and MOS_c: the table of its paper.
PAPER: tuple[tuple[Method, Benchmark], ...] = (
    ("fr", "I2I"),
    ("nr", "I2I"),
    ("nr", "T2I"),
    ("nr", "all"),
    ("pr", "all"),
)

WORDS: dict[str, tuple[str, ...]] = {
    "method": get_args(Method),
    "benchmark": get_args(Benchmark),
    "head": get_args(HeadName),
    "recipe": get_args(RecipeName),
    "preprocessing": get_args(PreprocessingName),
    "feature": get_args(FeatureName),
    "precision": get_args(Precision),
}

FIT_NAMES = {"method", "benchmark", "split", "recipe", "repeats", "folds", "seed", "seeds"}

IMAGE_NAMES = {"preprocessing", "image_size", "feature", "precision"}

KINDS: dict[str, type | tuple[type, ...]] = {
    "score_features": str,
    "target": str, "stages": (int, str), "image_encoder": str, "text_encoder": str, "image_size": (int, str), "split": str,
    "repeats": int, "folds": int, "seed": int, "seeds": int,
}  # fmt: skip

LEAST = {"seed": 0, "seeds": 1, "repeats": 1, "folds": 2, "image_size": 32}

HEAD_WORDS = {cli_name(option) for name in get_args(HeadName) for option in head_options(name)}


class SweepError(TierError):
    """A grid that cannot be swept."""


@dataclass(frozen=True)
class Cell:
    """One run of a sweep; the stores of its scorers are found when the sweep begins."""

    image: ImageChoice
    text_encoder: str
    options: FitOptions
    scorers: tuple[str, ...] = ()


def paper_cells(manifest: Manifest, base: Cell) -> list[Cell]:
    """The 15 runs of the paper's table: its five lines for each target, or those of them that the data set has rows for.

    Args:
        manifest: The data set.
        base: What all cells have in common.
    """
    there = {"all", *manifest.table["benchmark"]}
    lines = [(method, benchmark) for method, benchmark in PAPER if benchmark in there]
    # Without image prompts PR is NR, and T2I is all there is.
    lines = lines if "I2I" in there else [("nr", "all")]
    return [
        replace(base, options=replace(base.options, method=method, benchmark=benchmark, targets=(target,)))
        for (method, benchmark), target in product(lines, manifest.targets)
    ]


def grid_cells(grid: Mapping[str, Any], manifest: Manifest, base: Cell) -> tuple[list[Cell], int]:
    """Every combination of a grid's values, and how many were left out because FR needs image prompts in all rows.

    Args:
        grid: For each option of `fit-head`, in its words with underscores, a value or a list of values. "all" targets are taken one by one.
        manifest: The data set.
        base: What the grid does not name.

    Raises:
        SweepError: An option or a value that does not exist.
    """
    values = {name: value if isinstance(value, list) else [value] for name, value in grid.items()}
    for name, some in values.items():
        _require_known(name, some)
    targets = values.pop("target", ["all"])
    values["target"] = list(
        dict.fromkeys(
            one for target in targets for one in (manifest.targets if target == "all" else [target])
        )
    )
    cells, impossible = [], 0
    for chosen in product(*values.values()):
        cell = _cell(dict(zip(values, chosen, strict=True)), base)
        try:
            require_possible(cell.options.method, cell.options.benchmark)
        except FusionError:
            impossible += 1
        else:
            cells.append(cell)
    return cells, impossible


def read_grid(path: Path) -> dict[str, Any]:
    """A grid from a TOML file.

    Raises:
        SweepError: It cannot be read.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SweepError(
            f"{path} cannot be read as a grid ({error}): give a TOML file such as\n{EXAMPLE}"
        ) from error


EXAMPLE = 'method = ["nr", "fr"]\nbenchmark = "I2I"\nhead = ["mlp", "ridge"]\nrepeats = 10'


def _cell(chosen: dict[str, Any], base: Cell) -> Cell:
    image = {name: chosen[name] for name in IMAGE_NAMES & set(chosen)}
    if "image_encoder" in chosen:
        image["encoder"] = chosen["image_encoder"]
    fit = {name: chosen[name] for name in FIT_NAMES & set(chosen)}
    if "split" in chosen:
        fit["split"] = parse_split(chosen["split"])
    fit["targets"] = (chosen["target"],)
    if "stages" in chosen:
        fit["stages"] = parse_level_names(str(chosen["stages"]))
    fit["estimator"] = chosen.get("head", base.options.estimator)
    if "benchmark" not in chosen:
        fit["benchmark"] = default_benchmark(fit.get("method", base.options.method))
    given = {OPTION_OF.get(name, name): chosen[name] for name in HEAD_WORDS & set(chosen)}
    fit["head"] = base.options.head | given
    scorers, texts = (
        parse_scorer_names(chosen.get("score_features", "")),
        chosen.get("text_encoder", base.text_encoder),
    )
    return Cell(replace(base.image, **image), texts, replace(base.options, **fit), scorers)


def _require_known(name: str, values: Sequence[Any]) -> None:
    known = {*WORDS, *KINDS, *HEAD_WORDS}
    if name not in known:
        raise SweepError(f"a grid has no option {name!r}: choose among {', '.join(sorted(known))}")
    if not values:
        raise SweepError(f"{name} has no value: give one, or a list of them")
    for value in values:
        if name in WORDS and value not in WORDS[name]:
            raise SweepError(f"{name} is {value!r}: choose among {', '.join(WORDS[name])}")
        if name in KINDS and (isinstance(value, bool) or not isinstance(value, KINDS[name])):
            raise SweepError(
                f"{name} is {value!r}, which is not of the right kind: {_kind(KINDS[name])} is wanted"
            )
        if name in LEAST and not isinstance(value, str) and not LEAST[name] <= value < math.inf:
            raise SweepError(f"{name} is {value!r}: {LEAST[name]} is the least")
        if name == "image_size" and isinstance(value, str) and value not in get_args(get_args(ImageSize)[1]):
            raise SweepError(f"image_size is {value!r}: give a number of pixels, or 'full'")


def _kind(kinds: type | tuple[type, ...]) -> str:
    names = {int: "a whole number", float: "a number", str: "a text"}
    return " or ".join(names[kind] for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
