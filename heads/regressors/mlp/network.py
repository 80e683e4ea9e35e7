"""Networks of heads: linear layers, their mixture as hidden units, and one linear layer to the score.

Every tensor has a first axis of K heads that are trained side by side.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import prod, sqrt

import numpy as np
import torch
from torch import Tensor, nn

from tier4k.heads.data.streams import Streams
from tier4k.heads.regressors.options import HeadError

ALIGNMENT = 16  # floats; each head's parameters begin at a multiple of 64 bytes

Activation = Callable[[Tensor], Tensor]

Tensors = Mapping[str, Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "relu": torch.relu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
}


def _concatenation(products: Tensors, activation: Activation) -> Tensor:
    return activation(products["fc1"])


def _gated(products: Tensors, activation: Activation) -> Tensor:
    return activation(products["text"] + 2 * torch.sigmoid(products["gate"]) * products["image"])


def _bilinear(products: Tensors, activation: Activation) -> Tensor:
    return activation(products["text"]) * activation(products["image"])


@dataclass(frozen=True)
class Fusion:
    """The first layers of a network, and their mixture as hidden units.

    Attributes:
        layers: For each linear layer the columns that it reads: "text", "image" or "all". Each has h outputs.
        mix: Maps the layers' products (K, B, h) by name and the activation to hidden units (K, B, h).
    """

    layers: Mapping[str, str]
    mix: Callable[[Tensors, Activation], Tensor]


FUSIONS: dict[str, Fusion] = {
    "concatenation": Fusion({"fc1": "all"}, _concatenation),
    "gated": Fusion({"text": "text", "gate": "text", "image": "image"}, _gated),
    "bilinear": Fusion({"text": "text", "image": "image"}, _bilinear),
}


def tensor_axes(fusion: str) -> dict[str, str]:
    """Return the axes of a head's tensors by name: h hidden units, and t text, i image or a all columns."""
    axes: dict[str, str] = {}
    for layer, columns in FUSIONS[fusion].layers.items():
        axes[f"{layer}.weight"] = f"h{columns[0]}"
        axes[f"{layer}.bias"] = "h"
    axes["fc2.weight"] = "1h"
    axes["fc2.bias"] = "1"
    return axes


@dataclass(frozen=True)
class Network:
    """The shape of a head's network.

    Attributes:
        inputs: Columns d of the fused vector.
        hidden: Hidden units h.
        activation: Key of the activation in `ACTIVATIONS`.
        fusion: Key of the fusion in `FUSIONS`.
        text: Text columns of the fused vector, which come first; not used by "concatenation".
    """

    inputs: int
    hidden: int
    activation: str
    fusion: str
    text: int

    @classmethod
    def of(
        cls,
        streams: Streams,
        hidden: int | None,
        activation: str,
        fusion: str,
    ) -> "Network":
        """Return the network for fused vectors of these streams; without `hidden` it has d // 2 hidden units.

        Raises:
            HeadError: The fusion separates text from image columns, and one of them would have no columns.
        """
        inputs = streams.width
        separates = fusion != "concatenation"
        text = int(streams.mask("text").sum())
        if separates and not 0 < text < inputs:
            raise HeadError(
                f"{fusion} fusion needs text columns and other columns, but X has {text} text "
                f"columns of {inputs}: pass the streams of X to fit, such as Streams.of(text=384, image=1280)"
            )
        return cls(inputs, hidden or max(inputs // 2, 1), activation, fusion, text if separates else 0)

    @classmethod
    def of_weights(
        cls,
        weights: Mapping[str, np.ndarray],
        activation: str,
        fusion: str,
    ) -> "Network":
        """Return the network that has these tensors."""
        widths: dict[str, int] = {}
        for layer, columns in FUSIONS[fusion].layers.items():
            widths[columns] = weights[f"{layer}.weight"].shape[1]
        hidden = weights["fc2.weight"].shape[1]
        return cls(sum(widths.values()), hidden, activation, fusion, widths.get("text", 0))

    @property
    def is_published(self) -> bool:
        """Whether this is TIER's network: Linear, ReLU, Linear."""
        return self.fusion == "concatenation" and self.activation == "relu"

    @property
    def first_layers(self) -> list[str]:
        """Names of the layers that read the fused vector."""
        return list(FUSIONS[self.fusion].layers)

    def columns(self, layer: str) -> slice:
        """Return the columns of the fused vector that a first layer reads."""
        columns = {
            "all": slice(None),
            "text": slice(self.text),
            "image": slice(self.text, None),
        }
        return columns[FUSIONS[self.fusion].layers[layer]]

    def linears(self) -> dict[str, tuple[int, int]]:
        """Return (inputs, outputs) of every linear layer, in the order in which initial weights are drawn."""
        sizes: dict[str, tuple[int, int]] = {}
        for layer in self.first_layers:
            width = len(range(self.inputs)[self.columns(layer)])
            sizes[layer] = width, self.hidden
        sizes["fc2"] = self.hidden, 1
        return sizes

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of one head's tensors by name, as in `nn.Linear`."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, (inputs, outputs) in self.linears().items():
            shapes[f"{layer}.weight"] = outputs, inputs
            shapes[f"{layer}.bias"] = (outputs,)
        return shapes

    @property
    def size(self) -> int:
        """Length P of one head's flat vector of parameters, rounded up to a multiple of `ALIGNMENT`."""
        count = sum(map(prod, self.shapes().values()))
        return -(-count // ALIGNMENT) * ALIGNMENT

    def initial(self, random: torch.Generator) -> Tensor:
        """Draw flat initial parameters (P,) as `nn.Linear` draws them."""
        flat = torch.zeros(self.size)
        tensors = self.tensors(flat[None])
        for layer, (inputs, _) in self.linears().items():
            bound = 1 / sqrt(inputs)
            nn.init.kaiming_uniform_(tensors[f"{layer}.weight"][0], a=sqrt(5), generator=random)
            nn.init.uniform_(tensors[f"{layer}.bias"], -bound, bound, generator=random)
        return flat

    def starts(self) -> dict[str, int]:
        """Return the position in the flat parameters at which each tensor begins."""
        shapes = self.shapes()
        positions = accumulate(map(prod, shapes.values()), initial=0)
        return dict(zip(shapes, positions, strict=False))

    def tensors(self, flat: Tensor) -> dict[str, Tensor]:
        """Return views of flat parameters (K, P): weights (K, outputs, inputs) and biases (K, 1, outputs)."""
        starts = self.starts()
        tensors: dict[str, Tensor] = {}
        for name, shape in self.shapes().items():
            part = flat[:, starts[name] : starts[name] + prod(shape)]
            matrix = shape if len(shape) > 1 else (1, *shape)
            tensors[name] = part.view(len(flat), *matrix)
        return tensors

    def products(self, tensors: Tensors, inputs: Tensor) -> dict[str, Tensor]:
        """Return the first layers' products (K, B, h) of inputs (K, B, d), rounded as by `nn.Linear`."""
        products: dict[str, Tensor] = {}
        for layer in self.first_layers:
            products[layer] = torch.baddbmm(
                tensors[f"{layer}.bias"],
                inputs[..., self.columns(layer)],
                tensors[f"{layer}.weight"].mT,
            )
        return products

    def hidden_units(self, products: Tensors) -> Tensor:
        """Return hidden units (K, B, h) of the first layers' products (K, B, h)."""
        return FUSIONS[self.fusion].mix(products, ACTIVATIONS[self.activation])

    def scores(self, tensors: Tensors, hidden: Tensor) -> Tensor:
        """Return scores (K, B) of hidden units (K, B, h)."""
        return torch.baddbmm(tensors["fc2.bias"], hidden, tensors["fc2.weight"].mT).squeeze(2)

    def forward(self, tensors: Tensors, inputs: Tensor) -> Tensor:
        """Return scores (K, B) of inputs (K, B, d)."""
        hidden = self.hidden_units(self.products(tensors, inputs))
        return self.scores(tensors, hidden)

    def predict(self, weights: Mapping[str, np.ndarray], fused: np.ndarray) -> np.ndarray:
        """Return scores (N,) float64 of fused vectors X (N, d) by one head's weights.

        The scores are computed in float64, so that batching changes nothing.
        """
        tensors: dict[str, Tensor] = {}
        for name, values in weights.items():
            matrix = np.atleast_2d(values).astype(np.float64)
            tensors[name] = torch.from_numpy(matrix)[None]
        with torch.inference_mode():
            inputs = torch.from_numpy(fused.astype(np.float64))[None]
            return self.forward(tensors, inputs)[0].numpy()
