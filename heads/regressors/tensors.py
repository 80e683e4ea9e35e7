"""Checks of the tensors that a fitted head consists of."""

from collections.abc import Mapping

import numpy as np


def checked_tensors(
    weights: Mapping[str, np.ndarray],
    shapes: Mapping[str, str],
    what: str,
) -> dict[str, np.ndarray]:
    """Check that a fitted head's tensors are finite and that their shapes fit each other; return them.

    Args:
        weights: Tensors by name.
        shapes: Axes of each tensor by name, a letter each, such as "nd". "1" has length one; any other letter
            has the same length in every shape.
        what: Description of the head, for the message.

    Raises:
        ValueError: A tensor is missing, is not finite, or does not fit.
    """
    tensors = {name: np.asarray(weights[name]) for name in shapes if name in weights}
    lengths = {"1": 1}
    for name, axes in shapes.items():
        tensor = tensors.get(name)
        if tensor is None or not _fits(tensor, axes, lengths):
            given_shapes = {key: tensors[key].shape if key in tensors else None for key in shapes}
            raise ValueError(
                f"not the weights of one {what}: expected finite tensors {dict(shapes)}, got {given_shapes}"
            )
    return tensors


def _fits(
    tensor: np.ndarray,
    axes: str,
    lengths: dict[str, int],
) -> bool:
    """Whether a tensor is finite and has these axes; add lengths of new axes to `lengths`."""
    if tensor.ndim != len(axes):
        return False
    for axis, length in zip(axes, tensor.shape, strict=True):
        if lengths.setdefault(axis, length) != length:
            return False
    return bool(np.isfinite(tensor).all())
