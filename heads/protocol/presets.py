"""Named sets of encoders, with the head that is best on their features."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tier4k.extract.encoders.choices import PresetName
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.heads.regressors.choices import HeadName


@dataclass(frozen=True)
class Preset:
    """What a name stands for; options that the user passes replace those of the preset.

    Attributes:
        images: Image encoders with their options.
        head: Name of the head.
        options: Options of the head, as in `--set`; they belong to this head alone.
    """

    images: tuple[ImageChoice, ...]
    head: HeadName
    options: Mapping[str, str] = field(default_factory=dict)


LITE = ImageChoice(image_size=512, feature="multilevel")

# One kernel for each encoder with learnt weights, and a map from prompts to images.
LEARNT_KERNELS = {
    "kernels": "encoders",
    "interaction": "map",
    "image_transform": "sqrt",
    "leave_out": "group",
}

# "best" needs no download. How both were chosen: docs/benchmarks.md.
PRESETS: dict[PresetName, Preset] = {
    "best": Preset((LITE,), "kernel-ridge", LEARNT_KERNELS),
    "clip": Preset(
        (ImageChoice(encoder="clip", feature="multilevel"), LITE),
        "kernel-ridge",
        {**LEARNT_KERNELS, "target_transform": "rank-gauss"},
    ),
}
