"""Loading the network of an image encoder."""

from tier4k.extract.encoders.choices import Library
from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.encoders.function_network import FunctionNetwork
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.encoders.timm_network import TimmNetwork
from tier4k.extract.encoders.transformers_network import TransformersNetwork

NETWORKS: dict[Library, type[ImageNetwork]] = {
    "timm": TimmNetwork,
    "transformers": TransformersNetwork,
    "function": FunctionNetwork,
}


def load_image_network(encoder: ImageEncoder) -> ImageNetwork:
    """Build the network of an encoder and load its weights, in evaluation mode.

    Raises:
        WeightsError: The weights do not fit.
    """
    return NETWORKS[encoder.preset.library].of(encoder)
