"""The first stages of an extraction with Ray: units are cut, and their inputs read."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from tier4k.extract.pipeline.chunks import Chunk
from tier4k.extract.pipeline.cut_units import cut_units
from tier4k.extract.pipeline.ray_attempts import attempt
from tier4k.extract.pipeline.ray_rows import from_block, to_block
from tier4k.extract.pipeline.ray_session import import_ray
from tier4k.extract.pipeline.ray_units import NumberedUnit, ReadUnit, failure
from tier4k.extract.pipeline.read import UnitReader


def cut_stage(
    _: pa.Table,
    works: Any,
    unit_size: int,
) -> Iterator[pa.Table]:
    """Yield the units of an extraction, as Ray asks for them.

    Args:
        _: The block that Ray starts with; it has no content.
        works: A reference to the encoders and their inputs, of which a machine has one copy in memory.
        unit_size: Number of inputs of a unit.
    """
    for number, unit in enumerate(cut_units(import_ray().get(works), unit_size)):
        yield to_block([NumberedUnit(number, unit)])


def read_stage(
    block: pa.Table,
    reader: UnitReader,
    attempts: Any,
) -> pa.Table:
    """Read a unit, for images also decode and resize.

    Args:
        block: A block with one `NumberedUnit`.
        reader: Reads units.
        attempts: The actor that counts attempts.

    Returns:
        A block with a `ReadUnit`, or the failure.
    """
    (numbered,) = from_block(block)
    unit = numbered.unit
    chunk = attempt(attempts, ("read", numbered.number), lambda: reader.read(unit))
    if isinstance(chunk, Chunk):
        return to_block([ReadUnit(numbered.number, unit, chunk)])
    return to_block([failure(chunk, unit)])
