"""The encoders in the folder of an exported model.

DIR/encoders/
    image.safetensors    the image encoder, with timm's tensor names
    image/               instead, an image encoder of transformers, in the Hugging Face layout
    text/                the text encoder with its tokenizer, in the Hugging Face layout
    image-1/, text-1/    instead of these, if there are several encoders of the kind: for each a folder with
    image-2/, text-2/    its files, such as image-1/image.safetensors and text-1/text/, in the order of the
                         names of their arrays
    scorers/             the published scorers whose scores are features, laid out like a folder that holds
                         pretrained/; those of other packages are installed, and have no files here

If an image encoder and a text encoder are of one checkpoint (equal name and weights), the folder of the image
encoder contains the whole checkpoint, and also serves the text encoder and other image encoders of it.
"""

from collections.abc import Mapping
from pathlib import Path

from tier4k.cache.signature import Signature
from tier4k.heads.data.encoder_names import share_weights, stream_signatures
from tier4k.heads.encoders.finetuned import IMAGE_FILE, IMAGE_FOLDER, TEXT_FOLDER
from tier4k.heads.results.layout import ENCODERS

# Names of the file or folder of an encoder, of which one exists.
NAMES = {"image": (IMAGE_FILE, IMAGE_FOLDER), "text": (TEXT_FOLDER,)}


def scorers_folder(folder: Path) -> Path:
    """Return the folder with the files of the scorers in the folder of an exported model."""
    return folder / ENCODERS / "scorers"


def owner_of_files(signatures: Mapping[str, Signature], signature: Signature) -> Signature:
    """Return the encoder whose files serve an encoder: itself, or the first image encoder of a checkpoint.

    Args:
        signatures: Signatures of all encoders of the model.
        signature: One of them.
    """
    images, texts = (
        [other for other in stream_signatures(signatures, kind).values() if share_weights(other, signature)]
        for kind in NAMES
    )
    return images[0] if images and texts else signature


def encoder_place(
    folder: Path,
    signatures: Mapping[str, Signature],
    signature: Signature,
) -> Path:
    """Return the folder that contains the files of one encoder of an exported model.

    Args:
        folder: Folder of the exported model.
        signatures: Signatures of all encoders of the model.
        signature: One of them.
    """
    kind = signature.stream
    of_kind = list(stream_signatures(signatures, kind).values())
    if len(of_kind) == 1:
        return folder / ENCODERS
    return folder / ENCODERS / f"{kind}-{1 + of_kind.index(signature)}"


def exported_path(
    folder: Path,
    signatures: Mapping[str, Signature],
    signature: Signature,
) -> Path | None:
    """Return the file or folder with the weights of an encoder; None if the model is not an exported one.

    The arguments are those of `encoder_place`.
    """
    owner = owner_of_files(signatures, signature)
    place = encoder_place(folder, signatures, owner)
    paths = (place / name for name in NAMES[owner.stream])
    return next((path for path in paths if path.exists()), None)
