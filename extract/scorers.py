"""Zero-shot scorers: frozen descriptions with a signature, which load into networks when there is something to score."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from cache.signature import Signature
from extract.choices import Precision, ScorerName
from extract.encoders import from_hub
from extract.pictures import CLIP_MEAN, CLIP_STD, Preparation, native
from extract.presets import TEXT_PRESETS, EncoderError, nearest
from extract.weights import MODEL_FILES, TOKENIZER_FILES, TOKENIZER_PARTS, Weights, WeightsError, file_weights, find_file, folder_weights

if TYPE_CHECKING:
    from extract.pair_networks import PairNetwork


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


@dataclass(frozen=True)
class Scorer:
    """A scorer with its weights found, not yet loaded.

    Attributes:
        preset: What it is.
        weights: A checkpoint file, or a folder.
        tokenizer: Folder of its tokenizer, or file of its vocabulary.
        precision: Arithmetic of the network; scores are stored in float32 all the same.
    """

    preset: ScorerPreset
    weights: Weights
    tokenizer: Weights
    precision: Precision = "fp32"

    def preparation(self, side: int) -> Preparation:
        """How pictures are prepared for a network that takes squares of `side` pixels."""
        return native(side, side, CLIP_MEAN, CLIP_STD, "bicubic", self.preset.crop)

    @property
    def signature(self) -> Signature:
        """What makes the scores what they are. The side of the pictures is the network's, and known with its weights."""
        preset, both = self.preset, hashlib.sha256(f"{self.weights.sha256}\n{self.tokenizer.sha256}".encode()).hexdigest()
        how = "shorter side and centre crop at the network's side, bicubic" + (", margins rounded down" if preset.crop == "floor" else "")
        preparation = f"native: {how}, CLIP's mean and std; texts of at most {preset.tokens} tokens"
        return Signature("score", preset.name, preset.architecture, both, preparation, preset.point, self.precision)

    def load(self) -> "PairNetwork":
        """Build the network and load its weights, in evaluation mode.

        Raises:
            WeightsError: The weights do not fit.
        """
        from extract.pair_networks import NETWORKS

        return NETWORKS[self.preset.name].of(self)


def find_scorer(name: str, weights: Path | None = None, folders: Sequence[Path] = (), precision: Precision | None = None) -> Scorer:
    """Find a scorer, its weights and its tokenizer.

    Args:
        name: A name of `SCORERS`.
        weights: A file or folder given by the user, which is then the only place looked at for the weights.
        folders: Folders that may hold `pretrained/` and folders of Hugging Face's layout.
        precision: Arithmetic of the network, fp32 for None.

    Raises:
        EncoderError: No such scorer.
        WeightsError: No weights or no tokenizer; the message says what, where it can be had and where to put it.
    """
    preset = scorer_preset(name)
    found = _weights(preset, weights, folders)
    return Scorer(preset, found, _tokenizer(preset, found.path, folders), precision or "fp32")


def scorer_preset(name: str) -> ScorerPreset:
    """The preset `name`.

    Raises:
        EncoderError: There is no such scorer.
    """
    preset = SCORERS.get(name)  # type: ignore[call-overload]
    if preset is None:
        raise EncoderError(f"there is no scorer {name!r}{nearest(name, SCORERS)}. Known: {', '.join(get_args(ScorerName))}")
    return preset


def _weights(preset: ScorerPreset, given: Path | None, folders: Sequence[Path]) -> Weights:
    if given is not None:
        return _weights_at(preset, given, "--weights")
    # The file first: a folder ImageReward/ may be a copy of its code.
    if found := find_file(preset.files, folders):
        return file_weights(found, str(found))
    if folder := next(filter(Path.is_dir, _places(preset.folder, folders)), None):
        return _weights_at(preset, folder, str(folder))
    if hub := from_hub(preset.hub, preset.files or ("config.json", "model.safetensors", *TOKENIZER_PARTS)):
        return _weights_at(preset, hub, f"hub {preset.hub}")
    here = folders[0] if folders else Path.cwd()
    what = " or ".join([*(f"{name} into {here}/pretrained/" for name in preset.files), f"a folder {preset.folder}/ into {here}"])
    raise WeightsError(
        f"no weights for the scorer {preset.name}: put {what} (or beside the data), or give --weights "
        f"{'FILE or DIR' if preset.files else 'DIR'}.\nThey can be had from: {preset.download}"
    )


def _places(name: str, folders: Sequence[Path]) -> Iterator[Path]:
    """Where a folder of this name may stand."""
    return (place / name for folder in folders for place in (folder, folder / "pretrained"))


def _weights_at(preset: ScorerPreset, path: Path, source: str) -> Weights:
    """Weights of an original file, of a folder that holds one, or of a folder of Hugging Face's layout."""
    if path.is_dir():
        if inside := [path / name for name in preset.files if (path / name).is_file()]:
            return file_weights(inside[0], source)
        if preset.files and not (path / "config.json").is_file():
            what = f"neither {' nor '.join(preset.files)} nor config.json and weights as Hugging Face lays them out"
            raise WeightsError(f"{source}: the folder {path} holds {what}.\nThey can be had from: {preset.download}")
        return folder_weights(path, source, MODEL_FILES)
    if path.is_file() and not preset.files:
        raise WeightsError(f"{source}: {path} is a file; {preset.name} is read from a folder as {preset.download} has it")
    return file_weights(path, source)


def _tokenizer(preset: ScorerPreset, weights: Path, folders: Sequence[Path]) -> Weights:
    places = [weights, *_places(preset.tokenizer, folders)]
    wanted = ("vocab.txt",) if preset.vocabulary else TOKENIZER_FILES
    found = next((place for place in places if any((place / name).is_file() for name in wanted)), None)
    source = str(found)
    if found is None and preset.vocabulary:
        package = TEXT_PRESETS["minilm"].require_package()  # MiniLM's vocabulary is that of bert-base-uncased
        found, source = package.find(), f"package {package.module}"
    if found is None:
        found, source = from_hub(preset.tokenizer_hub, TOKENIZER_PARTS), f"hub {preset.tokenizer_hub}"
    if found is None:
        files = "vocab.txt" if preset.vocabulary else "tokenizer.json, or vocab.json and merges.txt"
        raise WeightsError(
            f"no tokenizer for the scorer {preset.name}: put its files ({files}) beside its weights {weights}, or a folder "
            f"{preset.tokenizer}/ beside the data.\nThey can be had from: https://huggingface.co/{preset.tokenizer_hub}"
        )
    return file_weights(found / "vocab.txt", source) if preset.vocabulary else folder_weights(found, source, TOKENIZER_PARTS)
