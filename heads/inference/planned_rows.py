"""Read the rows of a planned data set again, to score them, with the keys of the plan."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tier4k.cache.text import shown
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.problems import LeftOut
from tier4k.extract.datasets.rows.batch import Row, batch_of_rows
from tier4k.extract.datasets.rows.files import base_name, parent
from tier4k.extract.datasets.rows.source import RowSource
from tier4k.extract.images.place_names import is_url
from tier4k.extract.inputs.dataset import NONE, DatasetInputs
from tier4k.extract.inputs.plan import Plan
from tier4k.heads.data.features import RowKeys
from tier4k.heads.inference.keyed_rows import KeyedRows

if TYPE_CHECKING:
    import pyarrow as pa


def rows_of_plan(source: RowSource, plan: Plan) -> Iterator[KeyedRows]:
    """Yield all rows of a data set in their order; those with problems have their reasons.

    The rows are read once more. Their keys are those of the plan, so nothing is hashed again.

    Args:
        source: The data set.
        plan: Its plan.

    Raises:
        DataError: The data set cannot be read, or has changed since it was planned.
    """
    start = used = 0
    for batch in source.batches():
        reasons = _reasons(plan, start, len(batch))
        is_usable = np.ones(len(batch), bool)
        is_usable[list(reasons)] = False
        planned = _planned_keys(plan.inputs, used, int(is_usable.sum()))
        start += len(batch)
        used += len(planned)
        if start > plan.rows or len(planned) != is_usable.sum():
            raise _changed(source)
        keys = RowKeys.none(len(batch))
        keys.put(is_usable, planned)
        yield KeyedRows(_with_whole_paths(batch.rows, source.path), keys, reasons)
    if start != plan.rows:
        raise _changed(source)


def _changed(source: RowSource) -> DataError:
    return DataError(f"{source.path} changed while it was read: run the same command again")


def _reasons(
    plan: Plan,
    start: int,
    count: int,
) -> dict[int, str]:
    """Return why rows cannot be used, by their number from `start`."""
    table = plan.problems.table
    first, last = np.searchsorted(table["row"].to_numpy(), [start, start + count])
    messages: dict[int, list[str]] = {}
    for problem in table.slice(first, last - first).select(["row", "problem"]).to_pylist():
        messages.setdefault(problem["row"] - start, []).append(problem["problem"])
    return {row: "; ".join(of_row) for row, of_row in messages.items()}


def _planned_keys(
    inputs: DatasetInputs,
    start: int,
    count: int,
) -> RowKeys:
    """Return the keys of consecutive usable rows; of fewer if there are no more."""
    image, prompt, image_prompt = (
        numbers[start : start + count]
        for numbers in (inputs.rows.image, inputs.rows.prompt, inputs.rows.image_prompt)
    )
    keys = RowKeys.none(len(image))
    has_image_prompt = image_prompt != NONE
    keys.image[:] = inputs.images.keys[image]
    keys.prompt[:] = inputs.prompts.keys[prompt]
    keys.image_prompt[has_image_prompt] = inputs.images.keys[image_prompt[has_image_prompt]]
    keys.has_image_prompt[:] = has_image_prompt
    return keys


def rows_left_out(source: RowSource, left_out: Sequence[LeftOut]) -> Iterator[KeyedRows]:
    """Yield images that are no rows of a data set, as they are not scored."""
    if not left_out:
        return
    batch = batch_of_rows(Row(image.name) for image in left_out)
    reasons = {number: image.reason for number, image in enumerate(left_out)}
    rows = _with_whole_paths(batch.rows, source.path)
    yield KeyedRows(rows, RowKeys.none(len(left_out)), reasons)


def _with_whole_paths(rows: "pa.RecordBatch", data: Path | str) -> "pa.RecordBatch":
    """Return rows with the whole paths of their files."""
    import pyarrow as pa

    files = rows.column("file").dictionary_encode()
    paths = [_whole_path(data, file) for file in files.dictionary.to_pylist()]
    column = pa.array(paths, pa.string()).take(files.indices)
    return rows.set_column(rows.schema.get_field_index("file"), "file", column)


def _whole_path(data: Path | str, file: str) -> str:
    """Return the path of the file that holds a row, as text.

    Args:
        data: The data set as the user named it: a file, a folder, a pattern of files, or a URL of these.
        file: Name of the file in its folder; "" if `data` is the file, or the folder of images.
    """
    if is_url(str(data)):
        is_file = "." in base_name(str(data))  # otherwise it is the URL of a folder
        folder = parent(str(data)) if is_file else str(data)
        return f"{folder}/{file}" if file else str(data)
    path = Path(data).absolute()
    if not file:
        return shown(path)
    return shown((path if path.is_dir() else path.parent) / file)
