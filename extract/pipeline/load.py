"""Loading of networks and tokenizers of encoders and scorers. Their libraries are imported only here."""

from typing import TYPE_CHECKING, Any

import torch

from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.out_of_memory import unless_out_of_memory
from tier4k.extract.pipeline.arithmetic import require_precision
from tier4k.extract.pipeline.missing_inputs import Encoder
from tier4k.extract.pipeline.options import ExtractionError
from tier4k.extract.scorers.scorer import Scorer

if TYPE_CHECKING:
    from tier4k.extract.encoders.text_tokenizer import TextTokenizer


def load_network(encoder: Encoder) -> Any:
    """Build the network of an encoder or a scorer and load its weights, in evaluation mode.

    Raises:
        WeightsError: The weights do not fit the network, or the files of a folder do not match.
    """
    if isinstance(encoder, ImageEncoder):
        from tier4k.extract.encoders.load import load_image_network

        return load_image_network(encoder)
    if isinstance(encoder, TextEncoder):
        from tier4k.extract.encoders.text_network import TextNetwork

        return TextNetwork.of(encoder)
    from tier4k.extract.scorers.networks import load_scorer_network

    return load_scorer_network(encoder)


def load_for_encoding(
    encoder: Encoder,
    device: torch.device,
    compiled: bool,
) -> Any:
    """Load a network for encoding only: frozen, on its device, and compiled on request.

    Args:
        encoder: An encoder or a scorer.
        device: The device that encodes.
        compiled: Whether torch.compile compiles the network of an encoder. Those of scorers stay as they are.

    Raises:
        EncoderError: The network fails its probe.
        ExtractionError: The device cannot compute in the encoder's precision, or has too little memory for
            the network.
        WeightsError: The weights do not fit the network.
    """
    require_precision(encoder.precision, device)
    frozen = load_network(encoder).frozen(encoder.precision)
    network = _on_device(frozen, device, encoder)
    if compiled and isinstance(encoder, ImageEncoder | TextEncoder):
        from tier4k.extract.encoders.compilation import compile_network

        compile_network(network)
    return network


def _on_device(
    network: Any,
    device: torch.device,
    encoder: Encoder,
) -> Any:
    moved = unless_out_of_memory(lambda: network.to(device))
    if moved is None:
        raise _too_little_memory(encoder, device)
    return moved


def _too_little_memory(encoder: Encoder, device: torch.device) -> ExtractionError:
    smaller = "" if encoder.precision in ("bf16", "fp16") else "--precision bf16, or "
    return ExtractionError(
        f"the network of {encoder.signature.encoder!r} in {encoder.precision} does not fit into the memory "
        f"of the device {str(device)!r}: pass {smaller}another --device, or end other programs there"
    )


def feature_shape(
    encoder: Encoder,
    network: Any,
    device: torch.device,
) -> tuple[int, ...]:
    """Return the shape of the features of one input, (D,), or (V, D) for V > 1 crops of an image.

    Args:
        encoder: An encoder or a scorer.
        network: Its network, on `device`.
        device: The device that encodes.

    Raises:
        ExtractionError: The device has too little memory for one input.
    """
    width: int | None = unless_out_of_memory(lambda: network.width)
    if width is None:
        raise _too_little_memory(encoder, device)
    if isinstance(encoder, ImageEncoder) and encoder.crops.count:
        return 1 + encoder.crops.count, width
    return (width,)


def load_tokenizer(encoder: TextEncoder | Scorer) -> "TextTokenizer":
    """Load the tokenizer of a text encoder or a scorer alone.

    Raises:
        WeightsError: The files of the tokenizer are damaged.
    """
    if isinstance(encoder, TextEncoder):
        from tier4k.extract.encoders.text_tokenizer import load_text_tokenizer

        return load_text_tokenizer(encoder)
    from tier4k.extract.scorers.networks import load_scorer_tokenizer

    return load_scorer_tokenizer(encoder)
