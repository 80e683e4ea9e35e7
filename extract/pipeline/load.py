"""Loading of the network of an encoder or a scorer. Libraries of networks are imported only here."""

from typing import Any

from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.pipeline.missing_inputs import Encoder


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
