"""The published scorers by name.

Adding a scorer is adding an entry to `SCORERS`, its name to `ScorerName` in choices.py, and its network to
`NETWORKS` in networks.py.
"""

from dataclasses import dataclass
from typing import get_args

from tier4k.cache.text import nearest
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.presets import TEXT_PRESETS
from tier4k.extract.scorers.choices import ScorerName


@dataclass(frozen=True)
class ScorerPreset:
    """A published scorer.

    Attributes:
        name: Value of --scorer.
        architecture: The network.
        folder: Name of a folder in Hugging Face's layout, looked for beside `pretrained/` and in it.
        download: Address of the weights, for the message when they are missing.
        tokenizer: Name of the folder with the tokenizer where the weights come without one, looked for as
            `folder` is.
        tokenizer_hub: Hugging Face repository of the tokenizer.
        tokens: Largest number of tokens of a text; the rest is cut off.
        feature_point: The computed value, in the words of a signature.
        hub: Hugging Face repository with the same weights; "" for none.
        files: Names of original checkpoints looked for in `pretrained/`.
        crop: Cropping of images: "center" as torchvision does it, "floor" as Hugging Face does it.
        scaled: Whether a cosine is multiplied by exp(logit_scale).
        vocabulary: Whether the tokenizer is BERT's, which consists of the file vocab.txt alone.
        reward: Whether the checkpoint has ImageReward's layers.
    """

    name: ScorerName
    architecture: str
    folder: str
    download: str
    tokenizer: str
    tokenizer_hub: str
    tokens: int
    feature_point: str
    hub: str = ""
    files: tuple[str, ...] = ()
    crop: str = "center"
    scaled: bool = False
    vocabulary: bool = False
    reward: bool = False


BERT = TEXT_PRESETS["bert-base-uncased"].weights

# Architectures and feature points are hashed in signatures: their texts are data.
SCORERS: dict[ScorerName, ScorerPreset] = {
    "clipscore": ScorerPreset(
        name="clipscore",
        architecture="transformers CLIPModel",
        folder="clip-vit-large-patch14",
        hub="openai/clip-vit-large-patch14",
        download="https://huggingface.co/openai/clip-vit-large-patch14",
        tokenizer="clip-vit-large-patch14",
        tokenizer_hub="openai/clip-vit-large-patch14",
        tokens=77,
        feature_point="cosine: of the embeddings of picture and text",
        crop="floor",
    ),
    "pickscore": ScorerPreset(
        name="pickscore",
        architecture="transformers CLIPModel",
        folder="PickScore_v1",
        hub="yuvalkirstain/PickScore_v1",
        download="https://huggingface.co/yuvalkirstain/PickScore_v1",
        tokenizer="CLIP-ViT-H-14-laion2B-s32B-b79K",
        tokenizer_hub="laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        tokens=77,
        feature_point="logit: exp(logit_scale) times the cosine of the embeddings of picture and text",
        crop="floor",
        scaled=True,
    ),
    "blipscore": ScorerPreset(
        name="blipscore",
        architecture="BLIP",
        folder="blip-large",
        files=("model_large.pth",),
        download="https://storage.googleapis.com/sfr-vision-language-research/BLIP/models/model_large.pth",
        tokenizer=BERT.folder,
        tokenizer_hub=BERT.hub,
        tokens=35,
        feature_point="cosine: of the projections of class token and text's first token",
        vocabulary=True,
    ),
    "imagereward": ScorerPreset(
        name="imagereward",
        architecture="BLIP and ImageReward's layers",
        folder="ImageReward",
        files=("ImageReward.pt",),
        hub="THUDM/ImageReward",
        download="https://huggingface.co/THUDM/ImageReward (ImageReward.pt)",
        tokenizer=BERT.folder,
        tokenizer_hub=BERT.hub,
        tokens=35,
        feature_point="reward: of the text's first token, which attends to the picture",
        vocabulary=True,
        reward=True,
    ),
}


def scorer_preset(name: str) -> ScorerPreset:
    """Return the preset of a scorer's name.

    Raises:
        EncoderError: No scorer has this name.
    """
    preset = SCORERS.get(name)  # type: ignore[call-overload]
    if preset is None:
        known = ", ".join(get_args(ScorerName))
        raise EncoderError(
            f"there is no scorer {name!r}{nearest(name, SCORERS)}. Known: {known}; pyiqa:NAME, and scorers "
            "of other packages as package.module:Name. Scores of another program: --scores FILE --name NAME"
        )
    return preset
