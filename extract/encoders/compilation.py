"""Compilation of frozen networks by torch.compile: one graph for batches of every size."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.extract.encoders.text_tokenizer import TokenBatch


def compile_network(
    network: ImageNetwork | TextNetwork, backend: str | Callable[..., Any] = "inductor"
) -> None:
    """Compile a frozen network in place, on its first batch.

    The graph accepts batches of every size, and texts of every length. Images of another size compile once
    more, and further sizes share a graph.

    Args:
        network: A frozen network on its device.
        backend: A backend of torch.compile.
    """
    graph = torch.compile(network.forward, backend=backend)
    network.forward = partial(_encode, graph)  # type: ignore[method-assign]


def _encode(graph: Callable[[Any], Tensor], batch: Tensor | TokenBatch) -> Tensor:
    """Return the features (B, D) of a batch by a graph with free sizes.

    torch compiles a graph of its own for the size 1, so that a single row is encoded twice instead.
    """
    if isinstance(batch, TokenBatch):
        free = TokenBatch(_at_least_two(batch.ids), _at_least_two(batch.mask))
        for tensor in (free.ids, free.mask):
            torch._dynamo.maybe_mark_dynamic(tensor, [0, 1])
        return graph(free)[: len(batch.ids)]
    images = _at_least_two(batch)
    torch._dynamo.maybe_mark_dynamic(images, 0)
    return graph(images)[: len(batch)]


def _at_least_two(rows: Tensor) -> Tensor:
    """Return rows, a single one twice."""
    if len(rows) > 1:
        return rows
    # torch would compile a graph for each of both kinds of tensors.
    with torch.inference_mode(rows.is_inference()):
        return torch.cat([rows, rows])
