"""Loading of networks and tokenizers of encoders and scorers. Their libraries are imported only here."""

from typing import TYPE_CHECKING, Any

from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.pipeline.missing_inputs import Encoder
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
