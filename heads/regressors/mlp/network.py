"""The networks of heads: linear layers of the fused vector, a way to mix them into hidden units, and one linear layer to the score.

Every tensor has a first axis of K heads that are trained side by side. As the fused vector is read by linear layers only, and the score
comes from one, standardisation in training can be folded into the weights, whatever the network.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import prod, sqrt

import numpy as np
import torch
from torch import Tensor, nn

from tier4k.heads.regressors.base import Weights
from tier4k.heads.regressors.options import HeadError
from tier4k.heads.regressors.standardization import Standardization

ALIGNMENT = 16  # floats; each head's parameters begin at a multiple of 64 bytes

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
}

Tensors = Mapping[str, Tensor]


def _concatenation(products: Tensors, activation: Callable[[Tensor], Tensor]) -> Tensor:
    return activation(products["fc1"])


def _gated(products: Tensors, activation: Callable[[Tensor], Tensor]) -> Tensor:
    return activation(products["text"] + 2 * torch.sigmoid(products["gate"]) * products["picture"])


def _bilinear(products: Tensors, activation: Callable[[Tensor], Tensor]) -> Tensor:
    return activation(products["text"]) * activation(products["picture"])


@dataclass(frozen=True)
class Fusion:
    """How hidden units come from the fused vector.

    Attributes:
        layers: Names of the linear layers, each of as many units as the hidden layer, with what they read: "text", "picture" or "all".
        mix: From the products of the layers (K, B, h) by name and the activation to hidden units (K, B, h).
    """

    layers: Mapping[str, str]
    mix: Callable[[Tensors, Callable[[Tensor], Tensor]], Tensor]


FUSIONS: dict[str, Fusion] = {
    "concatenation": Fusion({"fc1": "all"}, _concatenation),
    "gated": Fusion({"text": "text", "gate": "text", "picture": "picture"}, _gated),
    "bilinear": Fusion({"text": "text", "picture": "picture"}, _bilinear),
}


def tensor_axes(fusion: str) -> dict[str, str]:
    """The axes of a head's tensors: h hidden units, and columns t of the text, p of the pictures, a of all."""
    layers = FUSIONS[fusion].layers
    first = {
        f"{layer}.{part}": axes
        for layer, reads in layers.items()
        for part, axes in (("weight", f"h{reads[0]}"), ("bias", "h"))
    }
    return {**first, "fc2.weight": "1h", "fc2.bias": "1"}


def width_of(weights: Mapping[str, np.ndarray], fusion: str) -> int:
    """Columns d of the fused vectors that a head's tensors read."""
    return sum(
        {
            reads: weights[f"{layer}.weight"].shape[1] for layer, reads in FUSIONS[fusion].layers.items()
        }.values()
    )


@dataclass(frozen=True)
class Network:
    """The shape of a head's network.

    Attributes:
        inputs: Columns d of the fused vector.
        hidden: Hidden units h.
        activation: A name of `ACTIVATIONS`.
        fusion: A name of `FUSIONS`.
        text: Columns of the fused vector, from the first, that are the text's; only looked at where the fusion parts them.
    """

    inputs: int
    hidden: int
    activation: str
    fusion: str
    text: int

    @classmethod
    def of(cls, inputs: int, hidden: int | None, activation: str, fusion: str, text: int | None) -> "Network":
        """With d // 2 hidden units where none are named.

        Raises:
            HeadError: The fusion needs to know where the text ends.
        """
        if fusion != "concatenation" and not (text and 0 < text < inputs):
            raise HeadError(
                f"{fusion} fusion needs text_width, how many columns of X (n_features = {inputs}) are the text's, not {text}"
            )
        return cls(inputs, hidden or max(inputs // 2, 1), activation, fusion, text or 0)

    @property
    def is_published(self) -> bool:
        """Whether it is TIER's: Linear, ReLU, Linear."""
        return self.fusion == "concatenation" and self.activation == "relu"

    def columns(self, layer: str) -> slice:
        """The columns of the fused vector that a first layer reads."""
        return {"all": slice(None), "text": slice(self.text), "picture": slice(self.text, None)}[
            FUSIONS[self.fusion].layers[layer]
        ]

    def linears(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of every linear layer, in the order in which their initial weights are drawn."""
        first = {
            layer: (len(range(self.inputs)[self.columns(layer)]), self.hidden)
            for layer in FUSIONS[self.fusion].layers
        }
        return {**first, "fc2": (self.hidden, 1)}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of one head's tensors by name, as `nn.Linear` has them."""
        return {
            f"{layer}.{part}": shape
            for layer, (inputs, outputs) in self.linears().items()
            for part, shape in (("weight", (outputs, inputs)), ("bias", (outputs,)))
        }

    @property
    def size(self) -> int:
        """Length P of one head's flat vector of parameters."""
        return -(-sum(map(prod, self.shapes().values())) // ALIGNMENT) * ALIGNMENT

    def initial(self, random: torch.Generator) -> Tensor:
        """Flat initial parameters (P,) as `nn.Linear` draws them."""
        flat = torch.zeros(self.size)
        tensors = self.crops(flat[None])
        for layer, (inputs, _) in self.linears().items():
            nn.init.kaiming_uniform_(tensors[f"{layer}.weight"][0], a=sqrt(5), generator=random)
            nn.init.uniform_(tensors[f"{layer}.bias"], -1 / sqrt(inputs), 1 / sqrt(inputs), generator=random)
        return flat

    def starts(self) -> dict[str, int]:
        """Where in the flat parameters each tensor begins."""
        shapes = self.shapes()
        return dict(zip(shapes, accumulate(map(prod, shapes.values()), initial=0), strict=False))

    def crops(self, flat: Tensor) -> dict[str, Tensor]:
        """Flat parameters (K, P) as weights (K, outputs, inputs) and biases (K, 1, outputs)."""
        starts = self.starts()
        return {
            name: flat[:, starts[name] : starts[name] + prod(shape)].view(
                len(flat), *(shape if len(shape) > 1 else (1, *shape))
            )
            for name, shape in self.shapes().items()
        }

    def products(self, tensors: Tensors, inputs: Tensor) -> dict[str, Tensor]:
        """What the first layers make (K, B, h) of inputs (K, B, d), rounded as `nn.Linear` does it."""
        return {
            layer: torch.baddbmm(
                tensors[f"{layer}.bias"], inputs[..., self.columns(layer)], tensors[f"{layer}.weight"].mT
            )
            for layer in FUSIONS[self.fusion].layers
        }

    def hidden_units(self, products: Tensors) -> Tensor:
        """Hidden units (K, B, h) of what the first layers made (K, B, h)."""
        return FUSIONS[self.fusion].mix(products, ACTIVATIONS[self.activation])

    def scores(self, tensors: Tensors, hidden: Tensor) -> Tensor:
        """Scores (K, B) of hidden units (K, B, h)."""
        return torch.baddbmm(tensors["fc2.bias"], hidden, tensors["fc2.weight"].mT).squeeze(2)

    def forward(self, tensors: Tensors, inputs: Tensor) -> Tensor:
        """Scores (K, B) of inputs (K, B, d)."""
        return self.scores(tensors, self.hidden_units(self.products(tensors, inputs)))

    def predict(self, weights: Mapping[str, np.ndarray], fused: np.ndarray) -> np.ndarray:
        """Scores (N,) float64 of fused vectors X (N, d) by one head's weights, computed in float64 so that batching changes nothing."""
        tensors = {
            name: torch.from_numpy(np.atleast_2d(values).astype(np.float64))[None]
            for name, values in weights.items()
        }
        with torch.inference_mode():
            return self.forward(tensors, torch.from_numpy(fused.astype(np.float64))[None])[0].numpy()

    def folded(self, flat: Tensor, scaling: Standardization) -> Weights:
        """Weights float32 that take raw inputs and give raw scores, of one head's parameters (P,) that take standardised ones."""
        tensors = {name: view[0].double().cpu() for name, view in self.crops(flat[None]).items()}
        mean, scale = torch.from_numpy(scaling.mean), torch.from_numpy(scaling.scale)
        for layer in FUSIONS[self.fusion].layers:
            columns = self.columns(layer)
            tensors[f"{layer}.weight"] /= scale[columns]
            tensors[f"{layer}.bias"] -= tensors[f"{layer}.weight"] @ mean[columns]
        tensors["fc2.weight"] *= scaling.score_scale
        tensors["fc2.bias"] *= scaling.score_scale
        tensors["fc2.bias"] += scaling.score_mean
        return {name: tensors[name].float().reshape(shape).numpy() for name, shape in self.shapes().items()}

    def unfolded(self, weights: Mapping[str, np.ndarray], scaling: Standardization) -> Tensor:
        """The parameters (P,) of which `folded` makes these weights.

        Raises:
            HeadError: The weights are of a network of another shape.
        """
        found = {name: values.shape for name, values in weights.items()}
        if found != self.shapes():
            raise HeadError(
                f"the head to start from has the tensors {found}, and {self.shapes()} are wanted: give both the same options"
            )
        raw = {name: values.astype(np.float64) for name, values in weights.items()}
        for layer in FUSIONS[self.fusion].layers:
            columns = self.columns(layer)
            raw[f"{layer}.bias"] = raw[f"{layer}.bias"] + raw[f"{layer}.weight"] @ scaling.mean[columns]
            raw[f"{layer}.weight"] = raw[f"{layer}.weight"] * scaling.scale[columns]
        raw["fc2.weight"] = raw["fc2.weight"] / scaling.score_scale
        raw["fc2.bias"] = (raw["fc2.bias"] - scaling.score_mean) / scaling.score_scale
        flat = torch.zeros(self.size)
        for name, view in self.crops(flat[None]).items():
            view.copy_(torch.from_numpy(raw[name].reshape(view.shape)))
        return flat
