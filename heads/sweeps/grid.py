"""The cells of a sweep: the runs of the paper's table, or every combination of a grid's values."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, NamedTuple

from tier4k.extract.datasets.choices import Benchmark
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.datasets.streams import ALL, names_text, parse_streams
from tier4k.extract.encoders.image_choice import ImageChoice
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
from tier4k.heads.regressors.options import OPTION_OF
from tier4k.heads.sweeps.blocks import Block, SweepError
from tier4k.heads.sweeps.grid_values import NAMES_OF, TYPES_OF, value_lists

# The five lines of TIER-4K's run.sh, each for MOS_q, MOS_a and MOS_c: the table of its paper.
PAPER: tuple[tuple[Method, Benchmark], ...] = (
    ("fr", "I2I"),
    ("nr", "I2I"),
    ("nr", "T2I"),
    ("nr", "all"),
    ("pr", "all"),
)

# Options that `FitOptions` and `ImageChoice` have under the same names.
FIT_NAMES = {"method", "benchmark", "recipe", "repeats", "folds", "seed", "seeds"}

IMAGE_NAMES = {"preprocessing", "image_size", "feature", "precision", "store_dtype"}

WITHOUT_HEADS = FitOptions(models="none")


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
        encoders: The encoders of images and texts.
        options: Options of the fit.
        scorers: Zero-shot scorers whose scores are features; their stores are found when the sweep begins.
        values: The value of each option of the grid; empty for a cell that others are made from.
    """

    encoders: EncoderChoice
    options: FitOptions
    scorers: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

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


def block_cells(
    blocks: Sequence[Block],
    manifest: Manifest,
    base: Cell,
) -> Cells:
    """Return the cells of all blocks of a grid, as `grid_cells` does for each.

    Raises:
        SweepError: A block has an unknown option or value; of several blocks, the message has its number.
    """
    cells: list[Cell] = []
    left_out: Counter[str] = Counter()
    for number in range(len(blocks)):
        require_valid_block(blocks, number, base.options.estimator)
        found = grid_cells(blocks[number], manifest, base)
        cells += found.cells
        left_out.update(found.left_out)
    return Cells(cells, left_out)


def require_valid_block(
    blocks: Sequence[Block],
    number: int,
    head: str,
) -> None:
    """Refuse a block with an unknown option or value.

    Args:
        blocks: The blocks of a grid.
        number: Number of the block, from 0.
        head: Name of the head where the block names none.

    Raises:
        SweepError: As for `value_lists`; of several blocks, the message has the number of the block.
    """
    try:
        value_lists(blocks[number], head)
    except SweepError as error:
        if len(blocks) == 1:
            raise
        raise SweepError(f"block {number + 1} of the grid: {error}") from error


def grid_cells(
    grid: Block,
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


def left_out_lines(left_out: Mapping[str, int]) -> list[str]:
    """Return sentences about combinations that no run can have."""
    lines = []
    for reason, count in left_out.items():
        combinations = "combination is" if count == 1 else "combinations are"
        lines.append(f"{count} {combinations} left out, because {reason}")
    return lines


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
        chosen,
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
            f"{', '.join(options)} in the grid makes image encoders equal that the command line "
            "distinguishes: name the encoders in the grid, such as image_encoder = 'clip@448+clip'"
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
