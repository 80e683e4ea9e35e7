"""Naming runs: the settings that tell them apart."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tier4k.heads.reporting.run_name import OF_ALL_HEADS, USUAL, RunName
from tier4k.heads.reporting.run_settings import (
    ALL_STREAMS,
    JOINED,
    NONE_MEANS,
    WHOLE_IMAGE,
    RunSettings,
)
from tier4k.heads.results.config import SEVERAL

MOST_SHOWN_VALUES = 3  # of an option that is a list


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
