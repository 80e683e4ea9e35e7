"""The published scorers that are known by name."""

from dataclasses import dataclass
from typing import get_args

from tier4k.extract.encoders.names import EncoderError, nearest
from tier4k.extract.encoders.presets import TEXT_PRESETS
from tier4k.extract.scorers.choices import ScorerName


@dataclass(frozen=True)
class ScorerPreset:
    """A published scorer.

    Attributes:
        name: What --scorer takes.
        architecture: The network.
        folder: Name of a folder as Hugging Face lays it out, looked for beside `pretrained/` and in it.
        files: Names of original checkpoints looked for in `pretrained/`.
        hub: Hugging Face repository with the same weights; "" where there is none.
        download: Where the weights can be had, for the message when they are missing.
        tokenizer: Name of the folder that brings the tokenizer where the weights come without one, looked for as `folder` is.
        tokenizer_hub: Hugging Face repository of that.
        vocabulary: Whether the tokenizer is BERT's, of which the file vocab.txt is all there is to know.
        tokens: How many tokens of a text are read.
        point: What is computed, in the words of a signature.
        crop: How pictures are cropped: "center" as torchvision does it, "floor" as Hugging Face does it.
        scaled: Whether a cosine is multiplied by exp(logit_scale).
        reward: Whether the checkpoint has ImageReward's layers.
    """

    name: ScorerName
    architecture: str
    folder: str
    files: tuple[str, ...]
    hub: str
    download: str
    tokenizer: str
    tokenizer_hub: str
    tokens: int
    point: str
    crop: str = "center"
    scaled: bool = False
    vocabulary: bool = False
    reward: bool = False


BERT = TEXT_PRESETS["bert-base-uncased"]

SCORERS: dict[ScorerName, ScorerPreset] = {
    preset.name: preset
    for preset in (
        ScorerPreset(
            "clipscore", "transformers CLIPModel", "clip-vit-large-patch14", (), "openai/clip-vit-large-patch14",
            "https://huggingface.co/openai/clip-vit-large-patch14", "clip-vit-large-patch14", "openai/clip-vit-large-patch14", 77,
            "cosine: of the embeddings of picture and text", crop="floor",
        ),
        ScorerPreset(
            "pickscore", "transformers CLIPModel", "PickScore_v1", (), "yuvalkirstain/PickScore_v1",
            "https://huggingface.co/yuvalkirstain/PickScore_v1", "CLIP-ViT-H-14-laion2B-s32B-b79K",
            "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", 77,
            "logit: exp(logit_scale) times the cosine of the embeddings of picture and text", crop="floor", scaled=True,
        ),
        ScorerPreset(
            "blipscore", "BLIP", "blip-large", ("model_large.pth",), "",
            "https://storage.googleapis.com/sfr-vision-language-research/BLIP/models/model_large.pth", BERT.folder, BERT.hub, 35,
            "cosine: of the projections of class token and text's first token", vocabulary=True,
        ),
        ScorerPreset(
            "imagereward", "BLIP and ImageReward's layers", "ImageReward", ("ImageReward.pt",), "THUDM/ImageReward",
            "https://huggingface.co/THUDM/ImageReward (ImageReward.pt)", BERT.folder, BERT.hub, 35,
            "reward: of the text's first token, which attends to the picture", vocabulary=True, reward=True,
        ),
    )
}  # fmt: skip


def scorer_preset(name: str) -> ScorerPreset:
    """The preset `name`.

    Raises:
        EncoderError: There is no such scorer.
    """
    preset = SCORERS.get(name)  # type: ignore[call-overload]
    if preset is None:
        raise EncoderError(
            f"there is no scorer {name!r}{nearest(name, SCORERS)}. Known: {', '.join(get_args(ScorerName))}"
        )
    return preset
