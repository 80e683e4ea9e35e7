"""Image processors of transformers, read into preprocessing that gives the same pixels.

The pixels equal those of the processor's PIL backend. The processor of DINOv3 resizes without rounding to
whole grey levels; our pixels are the rounded ones.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

from tier4k.cache.text import read_text, shortened
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.images.preprocessing import MAX_SIDE, Preprocessing
from tier4k.extract.weights.files import PROCESSOR_FILES, WeightsError
from tier4k.extract.weights.unusable import is_pointer, pointer_remedy

# They resize, crop the centre, rescale and normalise, in this order, and do nothing else to an image.
PLAIN_PROCESSORS = (
    "CLIPImageProcessor",
    "SiglipImageProcessor",
    "ViTImageProcessor",
    "DeiTImageProcessor",
    "BeitImageProcessor",
    "BitImageProcessor",
    "DINOv3ViTImageProcessor",
)
CONVNEXT = "ConvNextImageProcessor"
NAFLEX = "Siglip2ImageProcessor"
FILTERS = {1: "lanczos", 2: "bilinear", 3: "bicubic"}  # by Pillow's number
SQUASHED_FROM = 384  # pixels from which ConvNeXt's processor resizes to a square instead of cropping


def image_preprocessing(folder: Path, patch: int) -> Preprocessing:
    """Return the preprocessing of the image processor in a folder of Hugging Face.

    Args:
        folder: Folder with preprocessor_config.json.
        patch: Side of the model's patches in pixels.

    Raises:
        EncoderError: The processor does something that this program does not do.
        WeightsError: The file is missing or damaged.
    """
    processor = _load(folder)
    kind = type(processor).__name__.removesuffix("Pil").removesuffix("Fast")
    title = f"the image processor in {folder} ({kind})"
    try:
        found = _preprocessing(_Reader(processor, title), kind, patch)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        # transformers does not check the values of the file.
        raise WeightsError(
            f"{title} has a value of a wrong type or range ({shortened(error)}): download "
            f"{PROCESSOR_FILES[0]} again"
        ) from error
    _require_ranges(found, title)
    return found


def _require_ranges(found: Preprocessing, title: str) -> None:
    sides = [side for side in (found.size, found.resize, found.patches) if side is not None]
    is_finite = all(map(math.isfinite, (*found.mean, *found.std)))
    if not is_finite or min(found.std) <= 0 or not all(1 <= side <= MAX_SIDE for side in sides):
        raise WeightsError(
            f"{title} states {shortened(found)}: sides are from 1 to {MAX_SIDE} pixels, means finite and "
            f"standard deviations above 0; download {PROCESSOR_FILES[0]} again"
        )


def _preprocessing(
    reader: "_Reader",
    kind: str,
    patch: int,
) -> Preprocessing:
    if kind == NAFLEX:
        return reader.naflex(patch)
    if kind == CONVNEXT:
        return reader.convnext()
    if kind in PLAIN_PROCESSORS:
        return reader.plain()
    known = ", ".join((*PLAIN_PROCESSORS, CONVNEXT, NAFLEX))
    raise EncoderError(
        f"{reader.title} is none of those that tier4k reads ({known}): pass another model, or write a "
        f"{PROCESSOR_FILES[0]} of one of these kinds that prepares images in the same way"
    )


def _load(folder: Path) -> Any:
    """Load the processor with transformers, so that files of every age get the meaning they have there."""
    from transformers import AutoImageProcessor

    if not any(_describes_images(folder / name) for name in PROCESSOR_FILES):
        raise WeightsError(
            f"the folder {folder} lacks {PROCESSOR_FILES[0]}, which says how images are resized, cropped and "
            "normalised: put the file of the same model beside config.json"
        )
    for name in PROCESSOR_FILES:
        if (folder / name).is_file() and is_pointer(folder / name):
            raise WeightsError(pointer_remedy(folder / name))
    try:
        return AutoImageProcessor.from_pretrained(
            folder,
            backend="pil",
            local_files_only=True,
            trust_remote_code=False,
        )
    except Exception as error:  # checks of many kinds of values raise errors of many classes
        raise EncoderError(
            f"transformers cannot load the image processor in {folder} ({shorten(str(error), 300)}): "
            f"download {PROCESSOR_FILES[0]} again, or pass another model; code that comes with a model is "
            "never run"
        ) from error


def _describes_images(path: Path) -> bool:
    if path.name == PROCESSOR_FILES[0]:
        return path.is_file()
    try:
        return "image_processor" in json.loads(read_text(path))
    except (OSError, ValueError):
        return False


class _Reader:
    """Reads a processor.

    Args:
        processor: An image processor of transformers.
        title: Its name and folder, for messages.
    """

    def __init__(self, processor: Any, title: str) -> None:
        self.processor = processor
        self.title = title

    def plain(self) -> Preprocessing:
        """Return the preprocessing of one of `PLAIN_PROCESSORS`."""
        self._refuse("do_pad")
        crop = self._square("crop_size") if self._does("do_center_crop") else None
        self._require_resize()
        size = _filled(self.processor.size)
        if set(size) == {"shortest_edge"}:
            if crop is None:
                raise self._error("do_center_crop", "images of any shape")
            if crop > size["shortest_edge"]:
                raise self._error("crop_size", "black margins around the resized image")
            return self._preprocessing(crop, size["shortest_edge"], "floor")
        side = self._square("size")
        if crop is not None and (side - crop) % 2:
            raise self._error("crop_size", "an odd margin around the crop")
        return self._preprocessing(crop or side, side, "squash")

    def convnext(self) -> Preprocessing:
        """Return the preprocessing of ConvNeXt's processor: small sizes are cropped, large ones squashed."""
        self._refuse("do_center_crop")
        size = _filled(self.processor.size)
        if set(size) != {"shortest_edge"}:
            raise self._error("size", "anything but a shortest_edge")
        self._require_resize()
        side = size["shortest_edge"]
        if side >= SQUASHED_FROM:
            return self._preprocessing(side, side, "squash")
        return self._preprocessing(side, int(side / self.processor.crop_pct), "floor")

    def naflex(self, patch: int) -> Preprocessing:
        """Return the preprocessing of SigLIP 2's processor, which keeps an image's shape."""
        self._require_resize()
        if self.processor.patch_size != patch:
            raise self._error("patch_size", f"patches unlike the {patch} pixels of the model")
        mean, std = self._statistics()
        return Preprocessing(
            name="native",
            size=None,
            resize=None,
            interpolation=self._filter(),
            crop="no",
            mean=mean,
            std=std,
            multiple=patch,
            patches=int(self.processor.max_num_patches),
        )

    def _preprocessing(
        self,
        size: int,
        resize: int,
        crop: str,
    ) -> Preprocessing:
        if min(size, resize) < 1:
            raise self._error("size", "images without pixels")
        mean, std = self._statistics()
        return Preprocessing("native", size, resize, self._filter(), crop, mean, std)

    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and deviation for values 0..1, whatever the processor rescales pixels to."""
        factor = float(self.processor.rescale_factor) if self._does("do_rescale") else 1.0
        means: list[float] = [0.0] * 3
        stds: list[float] = [1.0] * 3
        if self._does("do_normalize"):
            means = self._channels("image_mean")
            stds = self._channels("image_std")
        scale = _whole(255 * factor)
        return tuple(mean / scale for mean in means), tuple(std / scale for std in stds)

    def _channels(self, field: str) -> list[float]:
        value = getattr(self.processor, field)
        values = [value] * 3 if isinstance(value, int | float) else list(value)
        if len(values) != 3:
            raise self._error(field, "other than three channels")
        if field == "image_std" and 0 in values:
            raise self._error(field, "a deviation of zero")
        return [float(number) for number in values]

    def _filter(self) -> str:
        number = getattr(self.processor, "resample", None)
        if number is None or int(number) not in FILTERS:
            raise self._error("resample", f"other filters than {', '.join(FILTERS.values())}")
        return FILTERS[int(number)]

    def _square(self, field: str) -> int:
        sides = _filled(getattr(self.processor, field))
        if set(sides) != {"height", "width"} or sides["height"] != sides["width"]:
            raise self._error(field, "anything but a square or a shortest_edge")
        return int(sides["height"])

    def _does(self, field: str) -> bool:
        return bool(getattr(self.processor, field, None))

    def _require_resize(self) -> None:
        if not self._does("do_resize"):
            raise self._error("do_resize", "images of any size")

    def _refuse(self, field: str) -> None:
        if self._does(field):
            raise self._error(field, "that step")

    def _error(self, field: str, what: str) -> EncoderError:
        value = getattr(self.processor, field, None)
        return EncoderError(
            f"{self.title} has {field} = {value}, and tier4k does not prepare {what} there: pass another "
            f"model, or change {field} in {PROCESSOR_FILES[0]}"
        )


def _filled(size: Mapping[str, int | None]) -> dict[str, int]:
    """Return the parts of a size that are set."""
    return {name: int(value) for name, value in dict(size).items() if value is not None}


def _whole(scale: float) -> float:
    """Return a scale without the rounding of 1/255, so that statistics stay as they are written."""
    return float(round(scale)) if abs(scale - round(scale)) < 1e-9 else scale
