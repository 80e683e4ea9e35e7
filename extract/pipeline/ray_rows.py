"""Rows of Ray's blocks: each is one value of Python, such as a unit, as bytes."""

import io
import pickle
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

ROW = "row"


class _Pickler(pickle.Pickler):
    """Writes the memory of a tensor as it is."""

    def reducer_override(self, value: Any) -> Any:
        """Return how a tensor is made again; other values are pickled as usual."""
        if isinstance(value, torch.Tensor):
            return torch.from_numpy, (value.numpy(),)
        return NotImplemented


def to_block(values: "Iterable[Any]") -> pa.Table:
    """Return a block with one row for each value."""
    rows = []
    for value in values:
        buffer = io.BytesIO()
        _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
        rows.append(buffer.getbuffer())
    return pa.table({ROW: pa.array(rows, pa.large_binary())})


@torch.inference_mode()
def from_block(block: pa.Table) -> list[Any]:
    """Return the values of the rows. Tensors are ones of inference mode, as in `stack_arrays`."""
    return [pickle.loads(row.as_buffer()) for row in block[ROW]]
