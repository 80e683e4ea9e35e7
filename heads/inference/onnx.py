"""Export heads and encoders as ONNX files, and compare each with the torch network before it is kept.

DIR/
    image.onnx   images (N, 3, H, W) uint8, preprocessed -> features (N, D); each crop is a separate row
    text.onnx    ids and mask (N, L) int64 of the tokenizer -> features (N, D)
    head.onnx    fused vectors (N, d) float32 -> scores (N, T) of T targets, means over repeats

Of several encoders of a kind, the files are image-1.onnx, image-2.onnx and so on, in the order of the names
of their arrays. A fused vector is the concatenation of the features of the text encoders, then of the image
encoders, each in this order. For heads of method fr the features of the image prompt follow; for heads of
method pr the features of the image are replaced by their mean with those of the image prompt.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tier4k.cache.errors import TierError
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.load import load_image_network
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.extract.encoders.text_tokenizer import TokenBatch
from tier4k.extract.images.preprocessing import nearest_multiple
from tier4k.heads.encoders.sources import EncoderSource
from tier4k.heads.inference.head_modules import HeadModule
from tier4k.heads.regressors.base import Head
from tier4k.heads.regressors.ensemble import EnsembleHead
from tier4k.heads.regressors.kernel_head import KernelHead
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.ridge import RidgeHead
from tier4k.heads.results.model import Model

TOLERANCE = 1e-4  # largest difference between ONNX Runtime and torch

ROWS = 3  # rows of the example inputs

DEFAULT_SIDE = 224  # pixels of example images if the preprocessing fixes no size

PACKAGES = ("onnx", "onnxruntime", "onnxscript")

PROMPTS = (
    "a red fox in the snow, oil on canvas",
    "a castle",
    "two people who read a newspaper together on a bench, at dusk",
)


class OnnxError(TierError):
    """A network cannot be exported to ONNX, or its ONNX file computes other values."""


@dataclass(frozen=True)
class Graph:
    """A network that is exported as one ONNX file.

    Attributes:
        name: Name of the file without its suffix.
        network: The torch network to export.
        inputs: Example inputs of `ROWS` rows by name, in the order of the network's arguments.
        dynamic_axes: For each input, in the same order, the axes of variable length and their names.
        output: Name of the output.
    """

    name: str
    network: nn.Module
    inputs: Mapping[str, Tensor]
    dynamic_axes: Mapping[str, Mapping[int, str]]
    output: str = "features"


def export_onnx(source: EncoderSource, folder: Path) -> dict[str, float]:
    """Write a file for each encoder, and head.onnx.

    Args:
        source: Heads with their encoders.
        folder: Folder to write into; it is made if it does not exist.

    Returns:
        For each file the largest absolute difference from the torch network, divided by the largest value if
        this value exceeds 1.

    Raises:
        OnnxError: Packages are missing, or a head or an encoder cannot be exported with differences up to
            1e-4.
    """
    _require_packages()
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    graphs = [_head_graph(source.model, random)]  # first: heads are refused before encoders are loaded
    for name, image in zip(_names("image", source.images), source.images.values(), strict=True):
        graphs.append(_image_graph(name, image, random))
    for name, text in zip(_names("text", source.texts), source.texts.values(), strict=True):
        graphs.append(_text_graph(name, text))
    return {graph.name: _write(graph, folder / f"{graph.name}.onnx") for graph in graphs}


def _names(kind: str, encoders: Mapping[str, object]) -> list[str]:
    """Return the names of the files of all encoders of a kind, without the suffix."""
    if len(encoders) == 1:
        return [kind]
    return [f"{kind}-{number}" for number in range(1, len(encoders) + 1)]


def _image_graph(
    name: str,
    encoder: ImageEncoder,
    random: np.random.Generator,
) -> Graph:
    network = load_image_network(encoder).frozen("fp32")
    preprocessing = encoder.preprocessing
    side = preprocessing.size or nearest_multiple(
        preprocessing.resize or DEFAULT_SIDE,
        preprocessing.multiple,
    )
    pixels = random.integers(0, 256, (ROWS, 3, side, side), np.uint8)
    return Graph(name, network, {"images": torch.from_numpy(pixels)}, {"images": {0: "N"}})


def _text_graph(name: str, encoder: TextEncoder) -> Graph:
    network = TextNetwork.of(encoder).frozen("fp32")
    tokens = network.tokenize(PROMPTS)
    axes = {0: "N", 1: "L"}
    return Graph(
        name,
        _TextModule(network),
        {"ids": tokens.ids, "mask": tokens.mask},
        {"ids": axes, "mask": axes},
    )


def _head_graph(model: Model, random: np.random.Generator) -> Graph:
    network = HeadsModule(model)
    fused = random.normal(size=(ROWS, network.width)).astype(np.float32)
    return Graph("head", network, {"fused": torch.from_numpy(fused)}, {"fused": {0: "N"}}, "scores")


class HeadsModule(nn.Module):
    """Fused vectors (N, d) -> scores (N, T): for each target the mean over its repeats.

    Args:
        model: The model whose heads are combined.

    Raises:
        OnnxError: A head is not made of linear layers.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.by_target = nn.ModuleList()
        for target in model.targets:
            heads = [_head_module(head) for (name, _), head in model.heads.items() if name == target]
            self.by_target.append(nn.ModuleList(heads))
        self.width = int(next(iter(model.heads.values())).n_features_in_)

    def forward(self, fused: Tensor) -> Tensor:
        """Return the scores (N, T) of fused vectors (N, d)."""
        means = []
        for heads in self.by_target:
            assert isinstance(heads, nn.ModuleList)
            scores = torch.stack([head(fused) for head in heads])
            means.append(scores.mean(dim=0))
        return torch.cat(means, dim=1)


def _head_module(head: Head) -> HeadModule:
    """Return the module of a head that consists of linear layers.

    Raises:
        OnnxError: The head has an interaction, predicts from stored rows, or is one of a user.
    """
    if head.interactions_.changes:
        raise OnnxError(
            f"heads with interaction={head.interactions_.interaction} cannot be exported to ONNX: fit "
            "heads without an interaction, or leave out --onnx"
        )
    if type(head) in (RidgeHead, MLPHead):
        return HeadModule(head, torch.float32)
    if not isinstance(head, KernelHead | EnsembleHead):
        raise OnnxError(
            "a head of your own cannot be exported to ONNX, as tier4k does not know what it computes: use a "
            "ridge, mlp, gated or bilinear head, or leave out --onnx"
        )
    raise OnnxError(
        f"{type(head).__name__} predicts from stored training rows, so it cannot be exported to ONNX: "
        "use a ridge, mlp, gated or bilinear head, or leave out --onnx"
    )


class _TextModule(nn.Module):
    """A text network that takes ids and mask as two inputs."""

    def __init__(self, network: TextNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the features (N, D) of ids and mask (N, L)."""
        return self.network(TokenBatch(ids, mask))


def _write(graph: Graph, path: Path) -> float:
    """Export a graph, and return its largest difference from torch, for one row and for all example rows."""
    graph.network.eval()
    try:
        with _silence():
            _export(graph, path)
    except Exception as error:  # the exporter raises errors of any class
        reason = str(error).strip().splitlines()[0]
        raise OnnxError(f"{path.stem} cannot be exported to ONNX ({reason}): leave out --onnx") from error
    difference = max(_difference(graph, rows, path) for rows in (1, ROWS))
    if not difference <= TOLERANCE:
        raise OnnxError(
            f"{path.stem}: ONNX Runtime differs from torch by {difference:.2g}, more than {TOLERANCE:g}: "
            "leave out --onnx"
        )
    return difference


@torch.no_grad()  # with gradients, networks run other code, which depends on the data
def _export(graph: Graph, path: Path) -> None:
    torch.onnx.export(
        graph.network,
        tuple(graph.inputs.values()),
        f=str(path),
        input_names=list(graph.inputs),
        output_names=[graph.output],
        dynamic_shapes=tuple(graph.dynamic_axes.values()),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _difference(
    graph: Graph,
    rows: int,
    path: Path,
) -> float:
    """Return the largest difference of ONNX Runtime from torch on the first rows of the example inputs."""
    import onnxruntime

    inputs = {name: tensor[:rows] for name, tensor in graph.inputs.items()}
    with torch.inference_mode():
        expected = graph.network(*inputs.values()).numpy()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    (onnx_output,) = session.run(None, arrays)
    scale = max(np.abs(expected).max(), 1.0)
    return float(np.abs(onnx_output - expected).max() / scale)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppress the exporter's output, warnings and log."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _require_packages(names: Sequence[str] = PACKAGES) -> None:
    missing_packages = [name for name in names if util.find_spec(name) is None]
    if missing_packages:
        raise OnnxError(
            f"--onnx needs the packages {', '.join(missing_packages)}: run pip install 'tier4k[onnx]'"
        )
