"""Fitted heads as torch modules, whose scores have a gradient by the fused vectors.

A module computes what `predict` of its head computes, in the type of numbers that is passed.
"""

import numpy as np
import torch
from torch import Tensor, nn

from tier4k.heads.data.interactions import EMBEDDINGS_OF, Interactions
from tier4k.heads.data.prompt_map import LENGTH_SCALE, PromptMap
from tier4k.heads.regressors.base import Head
from tier4k.heads.regressors.curve import Curve
from tier4k.heads.regressors.ensemble import EnsembleHead
from tier4k.heads.regressors.kernel import KernelRidgeHead, SVRHead
from tier4k.heads.regressors.kernel_streams import TIMES, StreamKernels
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.mlp.network import ACTIVATIONS, FUSIONS, Network
from tier4k.heads.regressors.options import HeadError
from tier4k.heads.regressors.ridge import RidgeHead
from tier4k.heads.regressors.transforms import Transforms


class HeadModule(nn.Module):
    """Fused vectors (N, d) -> scores (N, 1) of one head with its interaction and its transforms.

    Args:
        head: A fitted head of tier4k.
        dtype: Type of the computation.

    Raises:
        HeadError: The head is none of tier4k.
    """

    def __init__(self, head: Head, dtype: torch.dtype) -> None:
        super().__init__()
        interactions = head.interactions_
        self.interactions = InteractionModule(interactions, dtype) if interactions.changes else nn.Identity()
        self.root = RootModule(head.transforms_)
        self.model = _model_module(head, dtype)
        curve = head.transforms_.curve
        self.curve = nn.Identity() if curve is None else CurveModule(curve, dtype)

    def forward(self, fused: Tensor) -> Tensor:
        """Return the scores (N, 1) of fused vectors (N, d)."""
        return self.curve(self.model(self.root(self.interactions(fused))))


def _model_module(head: Head, dtype: torch.dtype) -> nn.Module:
    """Return the model of a head: transformed vectors (N, d) -> predictions (N, 1).

    Raises:
        HeadError: The head is none of tier4k.
    """
    # By exact type: a user's class that derives from one of these may predict otherwise.
    if type(head) is RidgeHead:
        return _linear(head.weights_["linear.weight"], head.weights_["linear.bias"], dtype)
    if type(head) is MLPHead:
        return MLPModule(head, dtype)
    if type(head) in (KernelRidgeHead, SVRHead):
        return KernelModule(head, dtype)
    if type(head) is EnsembleHead:
        return EnsembleModule(head, dtype)
    raise HeadError(
        f"{type(head).__name__} is no head of tier4k, so its scores have no gradient: use a run of a head of "
        "tier4k"
    )


class InteractionModule(nn.Module):
    """Replaces embeddings at the end of fused vectors as `Interactions.transform` does."""

    def __init__(self, interactions: Interactions, dtype: torch.dtype) -> None:
        super().__init__()
        self._names, self._columns = interactions.names, interactions.columns
        self.map = None if interactions.map_ is None else MapModule(interactions.map_, dtype)

    def forward(self, fused: Tensor) -> Tensor:
        """Return the features of fused vectors (N, d), and the columns of the interaction after them."""
        columns = [fused[:, self._columns["features"]]]
        for name in self._names:
            columns.append(self._computed(name, fused))
        return torch.cat(columns, dim=1)

    def _computed(self, name: str, fused: Tensor) -> Tensor:
        if name == "templates":
            return fused[:, self._columns["templates"]]
        first, second = (fused[:, self._columns[part]] for part in EMBEDDINGS_OF[name])
        if name == "map":
            assert self.map is not None
            return self.map(first, second)
        products = unit_tensors(first) * unit_tensors(second)
        return products if name == "product" else products.sum(dim=1, keepdim=True)


class MapModule(nn.Module):
    """The cosines of a `PromptMap`."""

    image_mean: Tensor
    image_axes: Tensor
    texts: Tensor
    coefficients: Tensor
    constant: Tensor
    mean: Tensor

    def __init__(self, prompt_map: PromptMap, dtype: torch.dtype) -> None:
        super().__init__()
        for name, values in prompt_map.tensors.items():
            self.register_buffer(name, _tensor(values, dtype))

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """Return the cosines (N, 1) of images (N, i) with those that are predicted for texts (N, t)."""
        squared = (2 - 2 * unit_tensors(texts) @ self.texts.T).clamp(min=0)
        kernel = torch.exp(-squared / (2 * LENGTH_SCALE**2))
        predicted = kernel @ self.coefficients + self.constant - self.mean
        projected = unit_tensors((images - self.image_mean) @ self.image_axes) - self.mean
        return (unit_tensors(projected) * unit_tensors(predicted)).sum(dim=1, keepdim=True)


def unit_tensors(vectors: Tensor) -> Tensor:
    """Divide vectors (..., D) by their lengths; a vector of zeros stays one."""
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.where(lengths == 0, 1, lengths)


class RootModule(nn.Module):
    """Takes the signed root of some columns, as `Transforms.inputs` does."""

    columns: Tensor | None

    def __init__(self, transforms: Transforms) -> None:
        super().__init__()
        columns = None if transforms.columns is None else torch.from_numpy(transforms.columns)
        self.register_buffer("columns", columns)

    def forward(self, fused: Tensor) -> Tensor:
        """Return vectors (N, d); the gradient of the root at 0 is 0, not infinity."""
        if self.columns is None:
            return fused
        is_zero = fused == 0
        safe = torch.where(is_zero, 1, fused)
        root = torch.where(is_zero, 0, safe.sign() * safe.abs().sqrt())
        return torch.where(self.columns, root, fused)


class CurveModule(nn.Module):
    """A `Curve`, with operators that ONNX has."""

    x: Tensor
    start_x: Tensor
    start_y: Tensor
    gradients: Tensor

    def __init__(self, curve: Curve, dtype: torch.dtype) -> None:
        super().__init__()
        gradients = np.diff(curve.y) / np.diff(curve.x)
        starts = [0, *range(len(curve.x))]  # the point from which each segment is extended
        self.register_buffer("x", _tensor(curve.x, dtype))
        self.register_buffer("start_x", _tensor(curve.x[starts], dtype))
        self.register_buffer("start_y", _tensor(curve.y[starts], dtype))
        ends = np.array([curve.mean_gradient, *gradients, curve.mean_gradient])
        self.register_buffer("gradients", _tensor(ends, dtype))

    def forward(self, values: Tensor) -> Tensor:
        """Return the curve at values (N, 1)."""
        segment = (values > self.x).sum(dim=1)
        beyond = values[:, 0] - self.start_x[segment]
        return (self.start_y[segment] + self.gradients[segment] * beyond)[:, None]


class MLPModule(nn.Module):
    """The network of an `MLPHead`."""

    def __init__(self, head: MLPHead, dtype: torch.dtype) -> None:
        super().__init__()
        weights = head.weights_
        self.network = Network.of_weights(weights, head.activation, head.fusion)
        self.layers = nn.ModuleDict()
        for name in (*FUSIONS[head.fusion].layers, "fc2"):
            self.layers[name] = _linear(weights[f"{name}.weight"], weights[f"{name}.bias"], dtype)

    def forward(self, fused: Tensor) -> Tensor:
        """Return the predictions (N, 1) of fused vectors (N, d)."""
        fusion = FUSIONS[self.network.fusion]
        products = {}
        for name in fusion.layers:
            products[name] = self.layers[name](fused[:, self.network.columns(name)])
        return self.layers["fc2"](fusion.mix(products, ACTIVATIONS[self.network.activation]))


class KernelModule(nn.Module):
    """The expansion of a kernel head: one kernel of all columns, or a sum of kernels of streams."""

    mean: Tensor
    scale: Tensor
    rows: Tensor
    dual: Tensor
    bias: Tensor

    def __init__(self, head: Head, dtype: torch.dtype) -> None:
        super().__init__()
        for name in ("mean", "scale", "rows", "dual", "bias"):
            self.register_buffer(name, _tensor(head.weights_[name], dtype))
        kernels: StreamKernels | None = getattr(head, "stream_kernels_", None)
        self._columns = {"": slice(None)} if kernels is None else _column_numbers(kernels)
        scale = head.weights_.get("length_scale", [1.0])
        self._length_scales = {"": float(scale[0])} if kernels is None else kernels.kernels.length_scales
        self._weights = {"": 1.0} if kernels is None else kernels.kernels.weights

    def forward(self, fused: Tensor) -> Tensor:
        """Return the predictions (N, 1) of fused vectors (N, d)."""
        inputs = (fused - self.mean) / self.scale
        exponents = {}
        for stream, columns in self._columns.items():
            distances = squared_distances(inputs[:, columns], self.rows[:, columns])
            exponents[stream] = distances / (2 * self._length_scales[stream] ** 2)
        kernel = torch.zeros_like(distances)
        for name, weight in self._weights.items():
            exponent = torch.stack([exponents[stream] for stream in name.split(TIMES)]).sum(dim=0)
            kernel = kernel + weight * torch.exp(-exponent)
        return (kernel @ self.dual + self.bias)[:, None]


def squared_distances(inputs: Tensor, rows: Tensor) -> Tensor:
    """Return squared distances (M, N), over d, of inputs (M, d) from rows (N, d) of d columns."""
    squared = (inputs**2).sum(1)[:, None] + (rows**2).sum(1) - 2 * inputs @ rows.T
    return squared.clamp(min=0) / inputs.shape[1]


class EnsembleModule(nn.Module):
    """The weighted mean of the scores of members, or of their ranks."""

    weights: Tensor

    def __init__(self, head: EnsembleHead, dtype: torch.dtype) -> None:
        super().__init__()
        self.members = nn.ModuleList(HeadModule(member, dtype) for member in head.members_)
        self.register_buffer("weights", _tensor(head.weights_["weights"], dtype))
        self.ranks = nn.ModuleList()
        self.quantiles: nn.Module = nn.Identity()
        if head.combine == "ranks":
            levels = head.weights_["levels"]
            for reference in head.weights_["reference"]:
                self.ranks.append(CurveModule(Curve(reference, levels), dtype))
            self.quantiles = CurveModule(Curve(levels, head.weights_["quantiles"]), dtype)

    def forward(self, fused: Tensor) -> Tensor:
        """Return the predictions (N, 1) of fused vectors (N, d)."""
        scores = [member(fused) for member in self.members]
        for number, rank in enumerate(self.ranks):
            scores[number] = rank(scores[number])
        mean = torch.cat(scores, dim=1) @ self.weights
        return self.quantiles(mean[:, None])


def _column_numbers(kernels: StreamKernels) -> dict[str, Tensor]:
    return {stream: torch.from_numpy(np.flatnonzero(mask)) for stream, mask in kernels.columns.items()}


def _linear(
    weight: np.ndarray,
    bias: np.ndarray,
    dtype: torch.dtype,
) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=dtype)
    layer.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    return layer.requires_grad_(False)


def _tensor(values: np.ndarray, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.asarray(values)).to(dtype)
