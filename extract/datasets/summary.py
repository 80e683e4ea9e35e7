"""Counts and ranges of a data set, in a few lines for a person."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from tier4k.extract.datasets.check import CheckedDataset
from tier4k.extract.datasets.join import distinct_names
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.datasets.ratings import SPREAD_OF, reliability
from tier4k.extract.datasets.source import TableReport
from tier4k.extract.datasets.spellings import spellings_text
from tier4k.extract.datasets.table_choice import column_field
from tier4k.extract.encoders.token_report import TokenReport, report_tokens
from tier4k.extract.images.places import size
from tier4k.extract.screen.table import Table, text_column

if TYPE_CHECKING:
    from tier4k.extract.encoders.text_tokenizer import TextTokenizer

SHOWN_DUPLICATES = 3


@dataclass(frozen=True)
class ScoreRange:
    """Smallest, mean and largest score of one target."""

    low: float
    mean: float
    high: float


@dataclass(frozen=True)
class DataSummary:
    """Counts and ranges of the usable rows of a data set.

    Attributes:
        name: Name of the data set.
        rows: Number of usable rows.
        skipped: Number of rows with problems.
        datasets: Rows of each data set, where there are several.
        reading: {data set: how its table was read}; the key is "" where there is one table.
        image_to_image: Number of rows with an image prompt.
        images: Number of distinct images, by content.
        image_prompts: Number of distinct image prompts, by content.
        prompts: Number of distinct text prompts.
        has_prompts: Whether the rows have text prompts.
        independent: Whether images are taken as independent of each other.
        groups: Number of groups of prompts, which a prompt split does not divide.
        generators: Rows of each generator.
        merged_generators: {canonical spelling of a generator: its other spellings in the table}.
        targets: Range of the scores of each target; where there are several data sets, whose scales
            may differ, the keys here and below are "TARGET of SET", one for each set.
        reasons: Why each target is one.
        missing_scores: Number of rows without a score for each target that some rows lack.
        reliability: Share of the variance of each target that is not rating error, for the targets with
            standard deviations of their ratings; NaN where the number of ratings is unknown.
        turned, transparent: Number of images that are turned upright, and that are composited onto white.
        megabytes: Size of the distinct images and image prompts, 10^6 bytes.
        duplicates: Groups of names whose images have the same content.
        tokens: What the text encoder's tokenizer loses of the prompts; None where it was not found.
    """

    name: str
    rows: int
    skipped: int
    datasets: dict[str, int]
    reading: dict[str, TableReport]
    image_to_image: int
    images: int
    image_prompts: int
    prompts: int
    has_prompts: bool
    independent: bool
    groups: int
    generators: dict[str, int]
    merged_generators: dict[str, tuple[str, ...]]
    targets: dict[str, ScoreRange]
    reasons: dict[str, str]
    missing_scores: dict[str, int]
    reliability: dict[str, float]
    turned: int
    transparent: int
    megabytes: float
    duplicates: list[list[str]]
    tokens: TokenReport | None


def summarize(checked: CheckedDataset, tokenizer: "TextTokenizer | None") -> DataSummary:
    """Summarise the usable rows of a checked data set.

    Args:
        checked: The checked data set.
        tokenizer: The text encoder's tokenizer; None if it was not found.
    """
    manifest = checked.manifest
    table = manifest.table
    image_prompts = table.loc[table["image_prompt_key"] != "", "image_prompt_key"]
    return DataSummary(
        name=manifest.name,
        rows=len(table),
        skipped=checked.skipped,
        datasets=table["dataset"].value_counts(sort=False).to_dict() if len(manifest.datasets) > 1 else {},
        reading=_reading(checked),
        image_to_image=len(image_prompts),
        images=table["image_key"].nunique(),
        image_prompts=image_prompts.nunique(),
        prompts=table["prompt_key"].nunique(),
        has_prompts=manifest.has_prompts,
        independent=manifest.images_are_independent,
        groups=table["group"].nunique(),
        generators=table["generator"].value_counts().to_dict(),
        merged_generators=checked.merged_generators,
        targets=_score_ranges(manifest),
        reasons=_reasons(checked),
        missing_scores=_missing_scores(manifest),
        reliability=_reliability(checked),
        turned=checked.turned,
        transparent=checked.transparent,
        megabytes=_megabytes(manifest),
        duplicates=_duplicates(table),
        tokens=_tokens(manifest, tokenizer),
    )


def _tokens(manifest: Manifest, tokenizer: "TextTokenizer | None") -> TokenReport | None:
    if tokenizer is None or not manifest.has_prompts:
        return None
    return report_tokens(tokenizer, manifest.prompts().tolist())


def _reading(checked: CheckedDataset) -> dict[str, TableReport]:
    sources = checked.sources
    if len(sources) == 1:
        return {"": sources[0].report}
    return {name: source.report for name, source in zip(distinct_names(sources), sources, strict=True)}


def _parts(manifest: Manifest) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the rows of each data set with the end of its targets' names: scales of sets are not mixed."""
    if len(manifest.datasets) < 2:
        yield "", manifest.table
        return
    for name, rows in manifest.table.groupby("dataset", sort=False):
        yield f" of {name}", rows


def _score_ranges(manifest: Manifest) -> dict[str, ScoreRange]:
    if not len(manifest):
        return {}
    ranges = {}
    for target in manifest.targets:
        for end, rows in _parts(manifest):
            scores = rows[target]
            ranges[target + end] = ScoreRange(scores.min(), scores.mean(), scores.max())
    return ranges


def _missing_scores(manifest: Manifest) -> dict[str, int]:
    missing = {}
    for target in manifest.targets:
        for end, rows in _parts(manifest):
            if count := int(rows[target].isna().sum()):
                missing[target + end] = count
    return missing


def _reasons(checked: CheckedDataset) -> dict[str, str]:
    """Return why each target is one, in the first table with rows of the data set."""
    several = len(checked.manifest.datasets) > 1
    reasons: dict[str, str] = {}
    for source, name in zip(checked.sources, distinct_names(checked.sources), strict=True):
        ends = [""]
        if several:
            ends = [f" of {own}" for own in source.frame["dataset"].replace("", name).unique()]
        for target, reason in source.report.targets.items():
            for end in ends:
                reasons.setdefault(target + end, reason)
    return reasons


def _reliability(checked: CheckedDataset) -> dict[str, float]:
    manifest = checked.manifest
    found = {}
    for target in manifest.targets:
        if not any(SPREAD_OF + target in source.frame for source in checked.sources):
            continue
        errors = pd.Series(manifest.score_errors(target), manifest.table.index)
        for end, rows in _parts(manifest):
            scores = rows[target].to_numpy(float)
            found[target + end] = reliability(scores, errors[rows.index].to_numpy(float))
    return found


def _megabytes(manifest: Manifest) -> float:
    return sum(map(size, manifest.images())) / 1e6


def _duplicates(table: pd.DataFrame) -> list[list[str]]:
    names_of_content = table.groupby("image_key")["name"].agg(list)
    return [names for names in names_of_content if len(names) > 1]


def summary_table(summary: DataSummary) -> Table:
    """The summary as a table with one line for each finding."""
    columns = (text_column("finding", wraps=True), text_column("value", wraps=True))
    numbers = _numbers(summary)
    nothing = dict.fromkeys(("count", "low", "mean", "high"))
    rows = []
    for name, value in _lines(summary):
        rows.append({"finding": name, "value": value, **nothing, **numbers.get(name, {})})
    return Table(columns, tuple(rows), summary.name, show_headings=False)


def _numbers(summary: DataSummary) -> dict[str, dict[str, float]]:
    """Return the raw numbers of findings: counts, and ranges of scores."""
    numbers: dict[str, dict[str, float]] = {
        "rows": {"count": summary.rows},
        "images": {"count": summary.images},
        "image prompts": {"count": summary.image_prompts},
        "text prompts": {"count": summary.prompts},
        "equal images": {"count": len(summary.duplicates)},
    }
    for name, scores in summary.targets.items():
        numbers[f"target {name}"] = {"low": scores.low, "mean": scores.mean, "high": scores.high}
    return numbers


def _lines(summary: DataSummary) -> Iterator[tuple[str, str]]:
    text_to_image = summary.rows - summary.image_to_image
    yield "rows", _rows_text(summary)
    if summary.datasets:
        yield "data sets", ", ".join(f"{name} {count:,}" for name, count in summary.datasets.items())
    for name, report in summary.reading.items():
        yield from _reading_lines(report, f" of {name}" if name else "")
    yield "benchmarks", f"I2I {summary.image_to_image:,}, T2I {text_to_image:,}"
    yield "images", f"{summary.images:,} distinct"
    if summary.turned:
        yield "turned upright", f"{summary.turned:,} images, as their EXIF orientation says"
    if summary.transparent:
        yield "composited onto white", f"{summary.transparent:,} images with transparency"
    yield "image prompts", f"{summary.image_prompts:,} distinct"
    yield "text prompts", _prompts_text(summary)
    yield "generators", ", ".join(f"{name} {count:,}" for name, count in summary.generators.items())
    if summary.merged_generators:
        yield "merged generators", spellings_text(summary.merged_generators)
    for name, scores in summary.targets.items():
        text = _scores_text(scores, summary.missing_scores.get(name, 0))
        yield f"target {name}", f"{text} ({summary.reasons.get(name, 'no column')})"
    for name, value in summary.reliability.items():
        yield f"reliability of {name}", _reliability_text(value)
    yield "on disk", f"{summary.megabytes:,.1f} MB"
    yield "equal images", _duplicates_text(summary.duplicates)
    if not summary.has_prompts:
        return
    if summary.tokens is None:
        yield "tokens of prompts", "not counted: the text encoder's tokenizer was not found"
    else:
        for name, finding in summary.tokens.findings.items():
            yield name, finding or "none"


def _reading_lines(report: TableReport, end: str) -> Iterator[tuple[str, str]]:
    """Yield which columns were read as what, and what was not read."""
    columns = []
    for name, column in report.columns.items():
        recognised = " (recognised)" if name in report.recognised else ""
        columns.append(f"{column_field(name)} = {column}{recognised}")
    if columns:
        yield f"columns{end}", ", ".join(columns)
    if report.without_meaning:
        yield f"no meaning{end}", f"{', '.join(report.without_meaning)}: pass --columns if they have one"
    for part in report.left_out:
        yield f"not read{end}", part
    for column, reason in report.unused.items():
        yield f"no target{end}: {column}", reason


def _prompts_text(summary: DataSummary) -> str:
    if not summary.has_prompts:
        independent = ", and images are taken as independent" if summary.independent else ""
        return f"none: only streams of images exist{independent}; {summary.groups:,} groups of rows"
    return f"{summary.prompts:,} distinct, in {summary.groups:,} groups"


def _scores_text(scores: ScoreRange, missing: int) -> str:
    if math.isnan(scores.mean):
        return "no scores"
    without = f"; {missing:,} rows without a score" if missing else ""
    return f"{scores.low:.3f} … {scores.high:.3f}, mean {scores.mean:.3f}{without}"


def _reliability_text(value: float) -> str:
    if math.isnan(value):
        return "unknown: pass the number of ratings with --raters"
    return f"{value:.3f} (share of the variance of the scores that is not rating error)"


def _rows_text(summary: DataSummary) -> str:
    if not summary.skipped:
        return f"{summary.rows:,}"
    return f"{summary.rows:,} usable, {summary.skipped:,} with problems"


def _duplicates_text(duplicates: list[list[str]]) -> str:
    if not duplicates:
        return "none"
    shown = "; ".join(" = ".join(names) for names in duplicates[:SHOWN_DUPLICATES])
    return f"{len(duplicates)} groups: {shown}"
