"""What is in a data set, in a few lines for a person."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.table import Table

from tier4k.extract.datasets.check import Report
from tier4k.extract.encoders.find import find_text_encoder
from tier4k.extract.encoders.weights import WeightsError, search_folders


@dataclass(frozen=True)
class DataSummary:
    """Counts and ranges of the usable rows of a data set.

    Attributes:
        name: Name of the data set.
        rows, skipped: Rows that can be used and that cannot.
        image_to_image: Rows with an image prompt.
        pictures, image_prompts, prompts, groups: Distinct ones, by content; groups are prompts that must not be parted by a split.
        generators: Rows of each generator.
        targets: Smallest, mean and largest score of each target.
        megabytes: Size of the distinct pictures and image prompts, 10^6 bytes.
        duplicates: Groups of names whose pictures have the same content.
        long_prompts: Prompts that the text encoder truncates, None where its tokenizer was not found.
    """

    name: str
    rows: int
    skipped: int
    image_to_image: int
    pictures: int
    image_prompts: int
    prompts: int
    groups: int
    generators: dict[str, int]
    targets: dict[str, tuple[float, float, float]]
    megabytes: float
    duplicates: list[list[str]]
    long_prompts: int | None


def summarize(report: Report, text_encoder: str) -> DataSummary:
    """Summarise the usable rows of a checked data set.

    Args:
        report: The checked data set.
        text_encoder: Name of the text encoder whose tokenizer counts.
    """
    manifest, table = report.manifest, report.manifest.table
    image_prompts = table.loc[table["image_prompt_key"] != "", "image_prompt_key"]
    same = table.groupby("image_key")["name"].agg(list)
    return DataSummary(
        name=manifest.name,
        rows=len(table),
        skipped=len(report.skipped_lines),
        image_to_image=len(image_prompts),
        pictures=table["image_key"].nunique(),
        image_prompts=image_prompts.nunique(),
        prompts=table["prompt_key"].nunique(),
        groups=table["group"].nunique(),
        generators=table["generator"].value_counts().to_dict(),
        targets={
            name: (table[name].min(), table[name].mean(), table[name].max()) for name in manifest.targets
        }
        if len(table)
        else {},
        megabytes=sum(Path(path).stat().st_size for path in manifest.pictures()) / 1e6,
        duplicates=[names for names in same if len(names) > 1],
        long_prompts=_long_prompts(manifest.prompts(), text_encoder, manifest.data),
    )


def summary_table(summary: DataSummary) -> Table:
    """The summary as a two-column table."""
    table = Table(title=summary.name, show_header=False, title_justify="left")
    for label, value in _lines(summary):
        table.add_row(label, value)
    return table


def _lines(summary: DataSummary) -> Iterator[tuple[str, str]]:
    yield (
        "rows",
        f"{summary.rows:,}" + (f" usable, {summary.skipped:,} with problems" if summary.skipped else ""),
    )
    yield "benchmarks", f"I2I {summary.image_to_image:,}, T2I {summary.rows - summary.image_to_image:,}"
    yield "pictures", f"{summary.pictures:,} distinct"
    yield "image prompts", f"{summary.image_prompts:,} distinct"
    yield "text prompts", f"{summary.prompts:,} distinct, in {summary.groups:,} groups"
    yield "generators", ", ".join(f"{name} {count:,}" for name, count in summary.generators.items())
    for name, (low, mean, high) in summary.targets.items():
        yield f"target {name}", f"{low:.3f} … {high:.3f}, mean {mean:.3f}"
    yield "on disk", f"{summary.megabytes:,.1f} MB"
    shown = "; ".join(" = ".join(names) for names in summary.duplicates[:3])
    yield "equal pictures", f"{len(summary.duplicates)} groups: {shown}" if summary.duplicates else "none"
    if summary.long_prompts is None:
        yield "prompts over 512 tokens", "not counted: the text encoder's tokenizer was not found"
    else:
        yield (
            "prompts over 512 tokens",
            f"{summary.long_prompts} (truncated when encoded)" if summary.long_prompts else "none",
        )


def _long_prompts(prompts: pd.Series, text_encoder: str, data: Path) -> int | None:
    try:
        encoder = find_text_encoder(text_encoder, folders=search_folders(data))
    except WeightsError:
        return None
    if prompts.empty:
        return 0
    from tier4k.extract.encoders.text_network import load_tokenizer

    lengths = [
        len(ids)
        for ids in load_tokenizer(encoder)(prompts.tolist(), truncation=False, verbose=False)["input_ids"]
    ]
    return sum(length > encoder.max_tokens for length in lengths)
