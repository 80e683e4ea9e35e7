"""Checks of tensors from a file before a network uses them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tier4k.extract.weights.files import WeightsError

if TYPE_CHECKING:
    import torch


def require_fit(
    expected: "Mapping[str, torch.Tensor]",
    found: "Mapping[str, torch.Tensor]",
    path: Path,
) -> None:
    """Refuse tensors of another network.

    Args:
        expected: The network's tensors by name.
        found: The file's tensors by name.
        path: The file, for the message.

    Raises:
        WeightsError: A tensor is missing, left over, of another shape, or not of dense real numbers.
    """
    missing = []
    reshaped = []
    for name, tensor in expected.items():
        if name not in found:
            missing.append(name)
        elif tensor.shape != found[name].shape:
            reshaped.append(name)
    unexpected = [name for name in found if name not in expected]
    lines = []
    if missing:
        shape = tuple(expected[missing[0]].shape)
        lines.append(f"  {len(missing)} tensors are missing, first {missing[0]!r} {shape}")
    if unexpected:
        shape = tuple(found[unexpected[0]].shape)
        lines.append(
            f"  {len(unexpected)} tensors belong to another network, first {unexpected[0]!r} {shape}"
        )
    if reshaped:
        shapes = f"expected {tuple(expected[reshaped[0]].shape)}, found {tuple(found[reshaped[0]].shape)}"
        lines.append(f"  {len(reshaped)} tensors have another shape, first {reshaped[0]!r}: {shapes}")
    if lines:
        heading = f"{path} does not fit this encoder:"
        raise WeightsError("\n".join([heading, *lines, "Pass weights of this architecture."]))
    for name, tensor in expected.items():
        _require_kind(name, tensor, found[name], path)


def _require_kind(
    name: str,
    expected: "torch.Tensor",
    found: "torch.Tensor",
    path: Path,
) -> None:
    """Refuse a tensor whose values cannot be copied into the network as they are."""
    import torch

    is_real = found.is_floating_point() or not expected.is_floating_point()
    if found.layout == torch.strided and not found.is_meta and is_real:
        return
    kind = "without values (meta)" if found.is_meta else f"{found.dtype}, {found.layout}"
    raise WeightsError(
        f"{path}: the tensor {name!r} is {kind}, where the network has real numbers: save the tensors as "
        "dense floating-point numbers (quantised ones with .dequantize()) and pass that file"
    )


def require_finite(tensors: "Mapping[str, torch.Tensor]", path: Path) -> None:
    """Refuse tensors with NaN or infinity, for example of a training that diverged.

    Args:
        tensors: Tensors by name, as loaded.
        path: The file, for the message.

    Raises:
        WeightsError: A tensor has such a value.
    """
    import torch

    for name, tensor in tensors.items():
        if tensor.numel() and tensor.is_floating_point():
            low, high = torch.aminmax(tensor)  # both are NaN if one value is
            if not (torch.isfinite(low) and torch.isfinite(high)):
                raise WeightsError(
                    f"{path}: the tensor {name!r} contains NaN or infinity, so every feature would: pass "
                    "weights of a training that did not diverge, or download the file again"
                )
