"""Heads and encoders as ONNX files, each checked against the original by ONNX Runtime before it is kept.

DIR/
    image.onnx   pictures (N, 3, H, W) uint8, prepared -> features (N, D); several views of a picture are rows of their own
    text.onnx    ids and mask (N, L) int64 of the tokenizer -> features (N, D)
    head.onnx    fused vectors (N, d) float32, the text first -> scores (N, T), the mean over the repeats, in the order of the targets
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tier4k.cache.errors import TierError
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.encoders.text_network import TextNetwork, TokenBatch
from tier4k.heads.encoders.sources import Source
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.mlp.network import ACTIVATIONS, FUSIONS, Network
from tier4k.heads.regressors.ridge import RidgeHead
from tier4k.heads.results.model import Model

TOLERANCE = 1e-4

ROWS = 3

PROMPTS = (
    "a red fox in the snow, oil on canvas",
    "a castle",
    "two people who read a newspaper together on a bench, at dusk",
)


class OnnxError(TierError):
    """Something that has no ONNX form, or whose form does not agree with it."""


def export_onnx(source: Source, folder: Path) -> dict[str, float]:
    """Write image.onnx, text.onnx and head.onnx.

    Args:
        source: Heads with their encoders.
        folder: Where to write; made if need be.

    Returns:
        Largest absolute difference to the original of each file, relative to the largest value where this is above 1.

    Raises:
        OnnxError: The packages are missing, a head or an encoder has no ONNX form, or they differ by more than 1e-4.
    """
    _require_packages()
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    image, text = ImageNetwork.of(source.image).frozen("fp32"), TextNetwork.of(source.text).frozen("fp32")
    side = source.image.preprocessing.size or source.image.preprocessing.resize or 224
    pictures = torch.from_numpy(random.integers(0, 256, (ROWS, 3, side, side), np.uint8))
    tokens = text.tokenize(PROMPTS)
    head = HeadsModule(source.model)
    fused = torch.from_numpy(random.normal(size=(ROWS, head.width)).astype(np.float32))
    parts: list[tuple[str, nn.Module, dict[str, Tensor], dict[str, Any]]] = [
        ("image", image, {"pictures": pictures}, {"pictures": {0: "N"}}),
        (
            "text",
            _Tokens(text),
            {"ids": tokens.ids, "mask": tokens.mask},
            {name: {0: "N", 1: "L"} for name in ("ids", "mask")},
        ),
        ("head", head, {"fused": fused}, {"fused": {0: "N"}}),
    ]
    return {
        name: _written(module, inputs, shapes, folder / f"{name}.onnx")
        for name, module, inputs, shapes in parts
    }


class HeadsModule(nn.Module):
    """Fused vectors (N, d) -> scores (N, T): the mean over the repeats of every target.

    Raises:
        OnnxError: A head is not made of linear layers.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.by_target = nn.ModuleList(
            nn.ModuleList(_module(head) for (name, _), head in model.heads.items() if name == target)
            for target in model.targets
        )
        self.width = int(next(iter(model.heads.values())).n_features_in_)

    def forward(self, fused: Tensor) -> Tensor:
        """Scores of fused vectors."""
        return torch.cat(
            [torch.stack([head(fused) for head in heads]).mean(dim=0) for heads in self._heads()], dim=1
        )

    def _heads(self) -> Iterator[nn.ModuleList]:
        return (heads for heads in self.by_target if isinstance(heads, nn.ModuleList))


def _module(head: object) -> nn.Module:
    if isinstance(head, RidgeHead):
        return _linear(head.weights_["linear.weight"], head.weights_["linear.bias"])
    if isinstance(head, MLPHead):
        return _NetworkModule(head)
    raise OnnxError(
        f"{type(head).__name__} keeps training rows and has no ONNX form here: export a ridge, mlp, gated or bilinear head"
    )


def _linear(weight: np.ndarray, bias: np.ndarray) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    return layer.requires_grad_(False)


class _NetworkModule(nn.Module):
    def __init__(self, head: MLPHead) -> None:
        super().__init__()
        weights = head.weights_
        self.network = Network.of(
            head.n_features_in_, weights["fc2.weight"].shape[1], head.activation, head.fusion, head.text_width
        )
        names = [*FUSIONS[head.fusion].layers, "fc2"]
        self.layers = nn.ModuleDict(
            {name: _linear(weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in names}
        )

    def forward(self, fused: Tensor) -> Tensor:
        fusion = FUSIONS[self.network.fusion]
        products = {name: self.layers[name](fused[:, self.network.columns(name)]) for name in fusion.layers}
        return self.layers["fc2"](fusion.mix(products, ACTIVATIONS[self.network.activation]))


class _Tokens(nn.Module):
    def __init__(self, network: TextNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.network(TokenBatch(ids, mask))


def _written(module: nn.Module, inputs: dict[str, Tensor], shapes: dict[str, Any], path: Path) -> float:
    """Export, run with one row more and one less than at export, and tell the largest difference."""
    try:
        _quietly(lambda: _export(module.eval(), inputs, shapes, path))
    except Exception as error:  # whatever the exporter raises of a network that it cannot follow
        raise OnnxError(
            f"{path.stem} cannot be exported to ONNX ({str(error).strip().splitlines()[0]}): leave out --onnx"
        ) from error
    difference = max(
        _difference(module, {name: tensor[:rows] for name, tensor in inputs.items()}, path)
        for rows in (1, ROWS)
    )
    if not difference <= TOLERANCE:
        raise OnnxError(
            f"{path.stem}: ONNX Runtime differs from torch by {difference:.2g}, more than {TOLERANCE:g}: leave out --onnx"
        )
    return difference


@torch.no_grad()  # in training networks take other paths, which depend on the data
def _export(module: nn.Module, inputs: dict[str, Tensor], shapes: dict[str, Any], path: Path) -> None:
    torch.onnx.export(
        module,
        kwargs=inputs,
        f=str(path),
        input_names=list(inputs),
        output_names=["scores" if path.stem == "head" else "features"],
        dynamic_shapes=shapes,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _difference(module: nn.Module, inputs: dict[str, Tensor], path: Path) -> float:
    import onnxruntime

    with torch.inference_mode():
        expected = module(**inputs).numpy()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1.0))


def _quietly(export: Callable[[], None]) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        export()


def _require_packages(names: Sequence[str] = ("onnx", "onnxruntime", "onnxscript")) -> None:
    from importlib.util import find_spec

    if missing := [name for name in names if find_spec(name) is None]:
        raise OnnxError(f"--onnx needs {', '.join(missing)}: pip install 'tier4k[onnx]'")
