"""Pooling of the states of tokens into one vector for a text, and the layers that follow it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from tier4k.extract.encoders.sentence_modules import Dense, Normalize, SentenceModules
from tier4k.extract.encoders.transformers_loading import explain_loading_errors
from tier4k.extract.weights.checkpoints import read_state_dict
from tier4k.extract.weights.files import TEXT_WEIGHT_FILES, WeightsError


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    return (states * mask).sum(1) / mask.sum(1)


def _mean_sqrt(states: Tensor, mask: Tensor) -> Tensor:
    return (states * mask).sum(1) / mask.sum(1).sqrt()


def _max(states: Tensor, mask: Tensor) -> Tensor:
    return states.masked_fill(mask == 0, float("-inf")).amax(1)


def _first(states: Tensor, _: Tensor) -> Tensor:
    return states[:, 0]  # texts are padded on the right


# By the names of sentence-transformers: states (B, L, D) and mask (B, L, 1) to vectors (B, D).
POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
}


class TextPooling(nn.Module):
    """Pools the states of tokens.

    Args:
        poolings: Names in `POOLINGS`, whose vectors are concatenated.
        layers: Layers that are applied to the concatenated vectors.
    """

    def __init__(self, poolings: Sequence[str] = ("mean",), layers: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.poolings = tuple(poolings)
        self.layers = nn.Sequential(*layers)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return the vectors (B, D) of texts.

        Args:
            states: (B, L, D) float32 states of the tokens.
            mask: (B, L) 1 for tokens and 0 for padding.
        """
        weights = mask.unsqueeze(-1).to(states.dtype)
        vectors = [POOLINGS[name](states, weights) for name in self.poolings]
        return self.layers(vectors[0] if len(vectors) == 1 else torch.cat(vectors, 1))


class _Normalize(nn.Module):
    """Divides vectors (B, D) by their Euclidean norm."""

    def forward(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors, dim=1)


def load_pooling(folder: Path, modules: SentenceModules | None) -> TextPooling:
    """Build the pooling that follows the transformer in a folder, with the weights of its dense layers.

    Args:
        folder: The folder of the text encoder.
        modules: The modules of a folder of sentence-transformers; None averages over the tokens.

    Raises:
        WeightsError: The weights of a dense layer are missing, damaged or of another shape.
    """
    if modules is None:
        return TextPooling()
    layers: list[nn.Module] = []
    for layer in modules.layers:
        layers.append(_Normalize() if isinstance(layer, Normalize) else _dense(folder, layer))
    return TextPooling(modules.poolings, layers)


def _dense(folder: Path, layer: Dense) -> nn.Module:
    paths = [folder / layer.folder / name for name in TEXT_WEIGHT_FILES]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise WeightsError(f"{folder / layer.folder} lacks {paths[0].name}: download the whole folder again")
    with explain_loading_errors(folder, "text"):
        tensors = read_state_dict(path)
        with torch.device("meta"):  # the stated widths take no memory
            linear = nn.Linear(layer.width, layer.new_width, layer.bias)
        named = {name.removeprefix("linear."): value.float() for name, value in tensors.items()}
        linear.load_state_dict(named, assign=True)
    activation: nn.Module = getattr(nn, layer.activation)()
    return nn.Sequential(linear, activation)
