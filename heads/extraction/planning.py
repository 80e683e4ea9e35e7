"""Open and plan data sets of any form, and report how they were read."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pyarrow.compute as pc

from tier4k.extract.datasets.check import REMEDY
from tier4k.extract.datasets.choices import OnError
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.hashes.cache import HASHES, KeyCache
from tier4k.extract.datasets.hashes.hasher import ImageHasher
from tier4k.extract.datasets.problems import SHOWN_PROBLEMS, describe_problems
from tier4k.extract.datasets.rows.open import open_rows
from tier4k.extract.datasets.rows.source import RowSource
from tier4k.extract.datasets.source import DataSource
from tier4k.extract.datasets.table_choice import RECOGNISED, TableChoice
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.inputs.plan import Plan, plan_inputs
from tier4k.extract.inputs.record import DatasetRecord, is_record
from tier4k.heads.extraction.data import list_skipped, report_reading
from tier4k.heads.extraction.reporter import Reporter


def open_data(
    data: Sequence[str | Path],
    choice: TableChoice,
    needs_prompts: bool,
) -> list[DataSource]:
    """Open data sets as streams of rows, or the plan of an earlier command.

    Args:
        data: The data sets as the user named them, or the folder of one plan.
        choice: What the user says about the tables.
        needs_prompts: Whether every row must have a text prompt, if the data set has any.

    Raises:
        DataError: A data set as a whole cannot be read, or a plan is passed among others or with options of
            tables, or has rows without a prompt.
        StoreError: The plan is damaged.
    """
    plans = [path for path in data if is_record(Path(path))]
    if not plans:
        return [open_rows(path, choice, needs_prompts) for path in data]
    if len(data) > 1:
        raise DataError(f"{plans[0]} is the plan of an extraction: pass only this plan, or only data sets")
    record = DatasetRecord.read(Path(plans[0]))
    if choice != RECOGNISED:
        raise DataError(
            f"{record.path} is the plan of an extraction, whose rows were read before: --layout, --columns, "
            "--sheet and --images have no effect on it. Leave them out, or pass the data set"
        )
    if needs_prompts:
        _require_prompts_of_rows(record)
    return [record]


def _require_prompts_of_rows(record: DatasetRecord) -> None:
    """Refuse a plan in which only some rows have a prompt: it was made for streams that need no prompts.

    Raises:
        DataError: There is such a row.
    """
    if record.has_prompts and pc.index(record.inputs().prompts.values, b"").as_py() >= 0:
        raise DataError(
            f"{record.path} was planned with --streams without text, and has rows without a prompt: plan the "
            "data set again without --streams, or pass --streams image or image+image-prompt"
        )


def plan_data(
    sources: Sequence[DataSource],
    features: Path,
    on_error: OnError,
    reporter: Reporter,
    rehash: bool = False,
) -> DatasetInputs:
    """Return the inputs of data sets, and report how they were read and which rows are skipped.

    Args:
        sources: The data sets, or one plan, from `open_data`.
        features: Folder of stores, which has the cache of hashes.
        on_error: Whether rows with problems are an error or are skipped.
        reporter: Receives what was recognised and left out.
        rehash: Whether all images are read again, also those that the cache knows.

    Raises:
        DataError: A row has a problem and `on_error` is "stop", no row is left, or a plan is to be hashed.
    """
    if isinstance(sources[0], DatasetRecord):
        if rehash:
            raise DataError(
                f"{sources[0].path} is the plan of an extraction, whose images were hashed before: --rehash "
                "has no effect on it. Leave it out, or pass the data set"
            )
        return sources[0].inputs()
    return plan_rows(cast(Sequence[RowSource], sources), features, on_error, reporter, rehash).inputs


def plan_rows(
    sources: Sequence[RowSource],
    features: Path,
    on_error: OnError,
    reporter: Reporter,
    rehash: bool = False,
) -> Plan:
    """Plan data sets, and report how they were read and which rows are skipped.

    Args:
        sources: The data sets; none of them is a plan.
        features, on_error, reporter, rehash: As for `plan_data`.

    Returns:
        The plan, with at least one usable row.

    Raises:
        DataError: A row has a problem and `on_error` is "stop", or no row is left.
    """
    report_reading(sources, reporter)
    cache = KeyCache(features / HASHES)
    with reporter.counting("hash images") as count:
        plan = plan_inputs(sources, ImageHasher(cache, rehash), progress=count)
    require_usable_rows(plan, sources, on_error)
    if len(plan.problems):
        list_skipped(features, plan.problems.write, plan.problems.rows, plan.rows, reporter)
    return plan


def require_usable_rows(
    plan: Plan,
    sources: Sequence[DataSource],
    on_error: OnError,
) -> None:
    """Raise the problems of rows, if they stop the command or leave no row.

    Raises:
        DataError: A row has a problem and `on_error` is "stop", or no row is left.
    """
    if len(plan.problems) and on_error == "stop":
        raise _problems_error(plan, sources, REMEDY)
    if not len(plan.inputs.rows):
        if not len(plan.problems):
            raise DataError(f"{' and '.join(str(source.path) for source in sources)} has no rows: add some")
        raise _problems_error(plan, sources, "No usable row is left.")


def _problems_error(
    plan: Plan,
    sources: Sequence[DataSource],
    remedy: str,
) -> DataError:
    """Return the problems of rows as one error, whose message ends with the remedy."""
    problems = plan.problems
    text = describe_problems(
        [str(problem) for problem in problems.first(SHOWN_PROBLEMS)],
        len(problems),
        problems.rows,
        plan.rows,
        [str(source.path) for source in sources],
    )
    return DataError(f"{text}\n{remedy}")
