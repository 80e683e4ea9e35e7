"""Many runs at once: the cells of a grid, each fitted once, those that are there already left alone."""

import math
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

from cache.errors import TierError
from cache.store import FeatureStore
from extract.choices import Benchmark, FeatureName, ImageSize, Precision, PreparationName
from extract.encoders import ImageChoice
from extract.levels import level_words
from extract.manifest import Manifest
from extract.stored import find_score_stores, find_stores, scorer_words
from heads.choices import HeadName, Method, RecipeName
from heads.features import FusionError, default_benchmark, require_possible
from heads.fit import FitOptions, Plan, Run, fit_plans, plan_run
from heads.options import OPTION_OF, word
from heads.registry import head_options
from heads.splits import split_asked
from heads.sweep_processes import fit_in_processes

# The five lines of TIER-4K's run.sh, each for MOS_q, MOS_a and MOS_c: the table of its paper.
PAPER: tuple[tuple[Method, Benchmark], ...] = (("fr", "I2I"), ("nr", "I2I"), ("nr", "T2I"), ("nr", "AIGIQA4K"), ("pr", "AIGIQA4K"))
WORDS: dict[str, tuple[str, ...]] = {
    "method": get_args(Method),
    "benchmark": get_args(Benchmark),
    "head": get_args(HeadName),
    "recipe": get_args(RecipeName),
    "prepare": get_args(PreparationName),
    "feature": get_args(FeatureName),
    "precision": get_args(Precision),
}
FIT_NAMES = {"method", "benchmark", "split", "recipe", "repeats", "folds", "seed", "seeds"}
IMAGE_NAMES = {"prepare", "image_size", "feature", "precision"}
KINDS: dict[str, type | tuple[type, ...]] = {
    "score_features": str,
    "target": str, "stages": (int, str), "image_encoder": str, "text_encoder": str, "image_size": (int, str), "split": str,
    "repeats": int, "folds": int, "seed": int, "seeds": int,
}  # fmt: skip
LEAST = {"seed": 0, "seeds": 1, "repeats": 1, "folds": 2, "image_size": 32}
HEAD_WORDS = {word(option) for name in get_args(HeadName) for option in head_options(name)}


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
    there = {"AIGIQA4K", *manifest.table["benchmark"]}
    lines = [(method, benchmark) for method, benchmark in PAPER if benchmark in there]
    # Without image prompts PR is NR, and T2I is all there is.
    lines = lines if "I2I" in there else [("nr", "AIGIQA4K")]
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
    values["target"] = list(dict.fromkeys(one for target in targets for one in (manifest.targets if target == "all" else [target])))
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
        raise SweepError(f"{path} cannot be read as a grid ({error}): give a TOML file such as\n{EXAMPLE}") from error


EXAMPLE = 'method = ["nr", "fr"]\nbenchmark = "I2I"\nhead = ["mlp", "ridge"]\nrepeats = 10'


def run_sweep(
    manifest: Manifest,
    features: Path,
    cells: Sequence[Cell],
    out: Path,
    command: Sequence[str] = (),
    jobs: int = 1,
    finished: Callable[[int, int], None] = lambda *_: None,
) -> Iterator[Run]:
    """Fit every cell that is not on disk yet, and yield the runs; what one process fits is yielded as soon as it is there.

    Every store is looked for and every cell's options are resolved before the first fit, so that nothing wrong ends a sweep in the middle.

    Args:
        manifest: The data set.
        features: Folder of stores.
        cells: What to fit.
        out: Folder of runs.
        command: Command line, recorded.
        jobs: Processes that fit at once; the runs are the same for any number.
        finished: Called with (heads fitted, heads to be fitted in all).

    Raises:
        StoreError: Features of a cell are not there.
        TierError: The options of a cell do not fit each other or the data.
    """
    units = _alike(plan_cells(manifest, features, cells))
    total = sum(plan.fits for unit in units for plan in _missing(unit, out))
    if jobs > 1:
        # Processes are for what is to be fitted; what is there is only read.
        needed = [unit for unit in units if _missing(unit, out)]
        fitted = fit_in_processes(needed, out, command, jobs, lambda done: finished(done, total)) if needed else []
        of_unit = {unit[0].alike: runs for unit, runs in zip(needed, fitted, strict=True)}
        for unit in units:
            yield from of_unit.get(unit[0].alike) or fit_plans(unit, out, command)
        return
    before = 0
    for unit in units:
        here = sum(plan.fits for plan in _missing(unit, out))
        yield from fit_plans(unit, out, command, _from(before, total, finished))
        before += here


def plan_cells(manifest: Manifest, features: Path, cells: Sequence[Cell]) -> list[Plan]:
    """A plan of every cell; the arguments and errors are those of `run_sweep`."""
    stores: dict[tuple[ImageChoice, str], tuple[FeatureStore, FeatureStore]] = {}
    cells = [replace(cell, options=replace(cell.options, zero_shot=find_score_stores(features, cell.scorers))) for cell in cells]
    for cell in cells:
        if (cell.image, cell.text_encoder) not in stores:
            stores[cell.image, cell.text_encoder] = find_stores(features, cell.image, cell.text_encoder)
    return [plan_run(manifest, *stores[cell.image, cell.text_encoder], cell.options) for cell in cells]


def _from(before: int, total: int, finished: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """Counts on after what earlier units fitted."""
    return lambda done, _: finished(before + done, total)


def _missing(unit: Sequence[Plan], out: Path) -> list[Plan]:
    """Plans, each once, whose runs are not on disk."""
    return [plan for run, plan in {plan.config.id: plan for plan in unit}.items() if not (out / run).exists()]


def _alike(plans: Sequence[Plan]) -> list[list[Plan]]:
    """Plans that can be fitted at once, in the order of the first of each."""
    groups: dict[str, list[Plan]] = {}
    for plan in plans:
        groups.setdefault(plan.alike, []).append(plan)
    return list(groups.values())


def _cell(chosen: dict[str, Any], base: Cell) -> Cell:
    image = {name: chosen[name] for name in IMAGE_NAMES & set(chosen)}
    if "image_encoder" in chosen:
        image["encoder"] = chosen["image_encoder"]
    fit = {name: chosen[name] for name in FIT_NAMES & set(chosen)}
    if "split" in chosen:
        fit["split"] = split_asked(chosen["split"])
    fit["targets"] = (chosen["target"],)
    if "stages" in chosen:
        fit["stages"] = level_words(str(chosen["stages"]))
    fit["estimator"] = chosen.get("head", base.options.estimator)
    if "benchmark" not in chosen:
        fit["benchmark"] = default_benchmark(fit.get("method", base.options.method))
    given = {OPTION_OF.get(name, name): chosen[name] for name in HEAD_WORDS & set(chosen)}
    fit["head"] = base.options.head | given
    scorers, texts = scorer_words(chosen.get("score_features", "")), chosen.get("text_encoder", base.text_encoder)
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
            raise SweepError(f"{name} is {value!r}, which is not of the right kind: {_kind(KINDS[name])} is wanted")
        if name in LEAST and not isinstance(value, str) and not LEAST[name] <= value < math.inf:
            raise SweepError(f"{name} is {value!r}: {LEAST[name]} is the least")
        if name == "image_size" and isinstance(value, str) and value not in get_args(get_args(ImageSize)[1]):
            raise SweepError(f"image_size is {value!r}: give a number of pixels, or 'full'")


def _kind(kinds: type | tuple[type, ...]) -> str:
    names = {int: "a whole number", float: "a number", str: "a text"}
    return " or ".join(names[kind] for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
