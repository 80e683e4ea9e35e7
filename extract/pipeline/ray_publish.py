"""The last stage of an extraction with Ray: it writes the features of units into the stores."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tier4k.cache.store import FeatureStore
from tier4k.extract.pipeline.ray_attempts import attempt
from tier4k.extract.pipeline.ray_rows import from_block, to_block
from tier4k.extract.pipeline.ray_units import EncodedUnit, PublishedUnit, failure


def publish_stage(
    block: pa.Table,
    stores: Sequence[Path],
    attempts: Any,
) -> pa.Table:
    """Publish the features of units, in one shard of each store.

    Args:
        block: A block with `EncodedUnit`s, and failures of earlier stages.
        stores: Folder of the store of each encoder.
        attempts: The actor that counts attempts.

    Returns:
        A block with a `PublishedUnit` for each unit that was written, and all failures.
    """
    units: list[EncodedUnit] = []
    results: list[Any] = []
    for value in from_block(block):
        (units if isinstance(value, EncodedUnit) else results).append(value)
    if units:
        work = ("publish", *(unit.number for unit in units))
        problem = attempt(attempts, work, lambda: _write(units, stores))
        for unit in units:
            results.append(failure(problem, unit.unit) if problem else _published(unit, len(stores)))
    return to_block(results)


def _write(units: Sequence[EncodedUnit], stores: Sequence[Path]) -> None:
    # The limit of a shard is above the number of rows, so that all rows are in one.
    for number, path in enumerate(stores):
        with FeatureStore.open(path).writer(_rows(units, number) + 1) as writer:
            for unit in units:
                for encoder, keys, features in unit.features:
                    if encoder == number:
                        writer.add(keys, features)


def _rows(units: Sequence[EncodedUnit], encoder: int) -> int:
    return sum(_encoded_by(unit, encoder) for unit in units)


def _encoded_by(unit: EncodedUnit, encoder: int) -> int:
    return sum(len(keys) for number, keys, _ in unit.features if number == encoder)


def _published(unit: EncodedUnit, encoders: int) -> PublishedUnit:
    return PublishedUnit(
        len(unit.unit),
        tuple(_encoded_by(unit, encoder) for encoder in range(encoders)),
        unit.unreadable,
        unit.seconds,
        unit.batch_sizes,
    )
