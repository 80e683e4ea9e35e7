"""Names of the runs in a report: the settings of each, and a short label that distinguishes it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tier4k.heads.reporting.run_settings import (
    ALL_STREAMS,
    JOINED,
    NONE_MEANS,
    WHOLE_IMAGE,
    RunSettings,
)
from tier4k.heads.results.config import SEVERAL

# Settings in which two runs may differ, with their titles, in the order of the page.
FACTORS = {
    "method": "method",
    "streams": "streams",
    "image_encoder": "image encoder",
    "text_encoder": "text encoder",
    "feature": "feature",
    "stages": "stages",
    "preprocessing": "image preprocessing",
    "crops": "crops",
    "precision": "precision",
    "scores": "zero-shot scores as features",
    "interaction": "interaction of image and text",
    "image_transform": "transform of the image features",
    "target_transform": "transform of the scores",
    "head": "head",
    "start": "initial weights of the head",
    "training": "training of the encoders",
    "other": "run",
}

# Options that all heads have: two runs differ in one of them alone, whatever their head.
OF_ALL_HEADS = ("interaction", "image_transform", "target_transform")

# Settings of images and of text. A run has none of them where no stream has images, or text.
OF_IMAGES = ("image_encoder", "feature", "stages", "preprocessing", "crops")

OF_TEXT = ("text_encoder",)

# Values that most runs have: labels leave them out.
USUAL = {
    "streams": "all streams",
    "stages": "all stages",
    "crops": "centre crop",
    "precision": "fp32",
    "start": "new weights",
    "scores": "no scores",
    "interaction": "no interaction",
    "image_transform": "image features as they are",
    "target_transform": "scores as they are",
    "training": "frozen encoders",
}

Context = tuple[str, str, str]  # data set, benchmark, split

ORDER = ("benchmark", *FACTORS, "split")

ALWAYS_IN_LABELS = ("method", "head", "training")

MOST_SHOWN_VALUES = 3  # of an option that is a list


@dataclass(frozen=True)
class RunName:
    """Settings of a run as a reader sees them.

    Attributes:
        data: Name of the data set, with the beginning of its digest where two data sets share a name.
        benchmark: Rows that took part.
        split: The split rule with the number of repeats; seeds and the first seed where these are unusual.
        method, image_encoder, streams, text_encoder, feature, stages, preprocessing, crops, precision,
            scores, interaction, image_transform, target_transform, head, start, training: The settings in
            `FACTORS`; "" where a run has none, a value of `USUAL` where it has the usual one.
        other: Identity of the run where no other setting distinguishes it from another run, else "".
    """

    data: str
    benchmark: str
    split: str
    method: str
    image_encoder: str
    streams: str = USUAL["streams"]
    text_encoder: str = ""
    feature: str = ""
    stages: str = USUAL["stages"]
    preprocessing: str = ""
    crops: str = USUAL["crops"]
    precision: str = USUAL["precision"]
    scores: str = USUAL["scores"]
    interaction: str = USUAL["interaction"]
    image_transform: str = USUAL["image_transform"]
    target_transform: str = USUAL["target_transform"]
    head: str = "none"
    start: str = USUAL["start"]
    training: str = USUAL["training"]
    other: str = ""

    @property
    def context(self) -> Context:
        """Runs are comparable where this is equal."""
        return self.data, self.benchmark, self.split

    @property
    def features(self) -> str:
        """The image features: all settings but the encoder."""
        parts = ("feature", "stages", "preprocessing", "crops", "precision", "scores")
        return join_parts(self, parts, separator=", ")

    @property
    def fitted(self) -> str:
        """The head, and the training of the encoders."""
        return join_parts(self, ("head", *OF_ALL_HEADS, "start", "training", "other"), separator=", ")


def join_parts(
    name: RunName,
    parts: Sequence[str],
    separator: str = " · ",
) -> str:
    """The values of some parts of a run's name, without missing and usual ones."""
    values = []
    for part in parts:
        value = getattr(name, part)
        if value and value != USUAL.get(part):
            values.append(value)
    return separator.join(values)


def differing_parts(names: Sequence[RunName], parts: Sequence[str]) -> list[str]:
    """The parts in which any two names differ that both have the part."""
    different = []
    for part in parts:
        values = {getattr(name, part) for name in names} - {""}
        if len(values) > 1:
            different.append(part)
    return different


def merged_name(names: Sequence[RunName]) -> RunName:
    """The first of several names, with the parts that it lacks from the others."""
    parts = {}
    for part in FACTORS:
        values = [getattr(name, part) for name in names]
        parts[part] = next(filter(None, values), "")
    return replace(names[0], **parts)


def run_names(settings: Sequence[RunSettings], identities: Sequence[str]) -> list[RunName]:
    """Names of runs, all different.

    Args:
        settings: The settings of each run.
        identities: An identity of each run, for those whose settings are all equal.
    """
    data_names = _data_names(settings)
    head_options = _varying_options(settings, lambda run: run.head_options)
    finetuning = _varying_options(settings, lambda run: run.finetuning)
    names = []
    for run, data in zip(settings, data_names, strict=True):
        group = _option_group(run)
        names.append(_run_name(run, data, head_options[group], finetuning[group]))
    return _with_identities(names, identities)


def short_labels(names: Sequence[RunName]) -> list[str]:
    """Label of each run: method, head, training, and settings in which runs on its data set differ."""
    by_data: dict[str, list[RunName]] = {}
    for name in names:
        by_data.setdefault(name.data, []).append(name)
    shown = {}
    for data, some in by_data.items():
        parts = {*ALWAYS_IN_LABELS, *differing_parts(some, ORDER)}
        shown[data] = [part for part in ORDER if part in parts]
    return [join_parts(name, shown[name.data]) for name in names]


def _data_names(settings: Sequence[RunSettings]) -> list[str]:
    """Name of each run's data set, with its digest where two data sets share name and benchmark."""
    digests: dict[tuple[str, str], set[str]] = {}
    for run in settings:
        digests.setdefault((run.data, run.benchmark), set()).add(run.data_digest)
    names = []
    for run in settings:
        ambiguous = len(digests[run.data, run.benchmark]) > 1
        names.append(f"{run.data} ({run.data_digest[:6]})" if ambiguous else run.data)
    return names


def _run_name(
    run: RunSettings,
    data: str,
    head_options: Sequence[str],
    finetuning_options: Sequence[str],
) -> RunName:
    name = RunName(
        data=data,
        benchmark=run.benchmark,
        split=_split(run),
        method=run.method.upper(),
        image_encoder=run.image_encoder,
    )
    if run.is_zero_shot:
        return name
    return replace(
        name,
        streams=_streams(run),
        text_encoder=run.text_encoder,
        feature=run.feature,
        stages=(" ".join(run.stages) or USUAL["stages"]) if run.image_encoder else "",
        preprocessing=run.preprocessing,
        crops=_crops(run),
        precision=run.precision,
        scores=f"scores of {' and '.join(run.scorers)}" if run.scorers else USUAL["scores"],
        interaction=_option_of_all_heads(run, "interaction"),
        image_transform=_option_of_all_heads(run, "image_transform"),
        target_transform=_option_of_all_heads(run, "target_transform"),
        head=_head(run, head_options),
        start=f"from {run.start}" if run.start else USUAL["start"],
        training=_training(run, finetuning_options),
    )


def _with_identities(names: Sequence[RunName], identities: Sequence[str]) -> list[RunName]:
    unique = []
    for name, identity in zip(names, identities, strict=True):
        is_ambiguous = names.count(name) > 1
        unique.append(replace(name, other=f"run {identity}") if is_ambiguous else name)
    return unique


def _split(run: RunSettings) -> str:
    several = f" × {run.seeds} seeds" if run.seeds > 1 else ""
    first = f", seed {run.seed}" if run.seed else ""
    repeats = "1 repeat" if run.repeats == 1 else f"{run.repeats} repeats"
    return f"{run.split}, {repeats}{several}{first}"


def _streams(run: RunSettings) -> str:
    if run.used_streams == ALL_STREAMS:
        return USUAL["streams"]
    return "several streams" if run.used_streams == SEVERAL else f"only {run.used_streams}"


def _crops(run: RunSettings) -> str:
    if run.crops == WHOLE_IMAGE:
        return USUAL["crops"]
    crops = [of_encoder.split(",", 1)[0] for of_encoder in run.crops.split(JOINED)]
    return JOINED.join(crops)


def _head(run: RunSettings, shown: Sequence[str]) -> str:
    recipe = ", published recipe" if run.recipe == "published" else ""
    return f"{run.head}{recipe}{_options(run.head_options, shown)}"


def _option_of_all_heads(run: RunSettings, name: str) -> str:
    value = run.head_options.get(name, "none")  # a search has none of its own
    return USUAL[name] if value == "none" else f"{name.replace('_', ' ')} {value}"


def _training(run: RunSettings, shown: Sequence[str]) -> str:
    if not run.finetuning:
        return USUAL["training"]
    return f"finetuned {run.finetuning['part']}{_options(run.finetuning, shown)}"


def _option_group(run: RunSettings) -> tuple[str, ...]:
    """Runs in one group are compared option by option; others differ in data, head, recipe or finetuning."""
    return run.data, run.head, run.recipe, run.finetuning.get("part", "")


def _varying_options(
    settings: Sequence[RunSettings], options_of: Callable[[RunSettings], Mapping[str, Any]]
) -> dict[tuple[str, ...], list[str]]:
    """For each `_option_group`, names of the options in which its runs differ."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for run in settings:
        groups.setdefault(_option_group(run), []).append(options_of(run))
    found = {}
    for group, options in groups.items():
        found[group] = _differing_options(options)
    return found


def _differing_options(options: Sequence[Mapping[str, Any]]) -> list[str]:
    names: dict[str, None] = {}
    for one in options:
        names.update(dict.fromkeys(one))
    different = []
    for name in names:
        if name in OF_ALL_HEADS:
            continue
        values = [one.get(name) for one in options]
        if values.count(values[0]) < len(values):
            different.append(name)
    return different


def _options(values: Mapping[str, Any], shown: Sequence[str]) -> str:
    texts = [f"{name} {_short(name, values.get(name))}" for name in shown]
    return f" ({', '.join(texts)})" if texts else ""


def _short(name: str, value: object) -> str:
    if isinstance(value, list) and len(value) > MOST_SHOWN_VALUES:
        return f"{len(value)} values"
    return NONE_MEANS.get(name, "none") if value is None else str(value)
