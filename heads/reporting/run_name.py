"""The settings of a run as a reader sees them, and the labels made from them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

# Settings in which two runs may differ, with their titles, in the order of the page.
FACTORS = {
    "method": "method",
    "streams": "streams",
    "image_encoder": "image encoder",
    "text_encoder": "text encoder",
    "feature": "feature",
    "stages": "stages",
    "preprocessing": "image preprocessing",
    "crops": "crops",
    "precision": "precision",
    "scores": "zero-shot scores as features",
    "interaction": "interaction of image and text",
    "image_transform": "transform of the image features",
    "target_transform": "transform of the scores",
    "head": "head",
    "start": "initial weights of the head",
    "training": "training of the encoders",
    "other": "run",
}

# Options that all heads have: two runs differ in one of them alone, whatever their head.
OF_ALL_HEADS = ("interaction", "image_transform", "target_transform")

# Settings of images and of text. A run has none of them where no stream has images, or text.
OF_IMAGES = ("image_encoder", "feature", "stages", "preprocessing", "crops")

OF_TEXT = ("text_encoder",)

# Values that most runs have: labels leave them out.
USUAL = {
    "streams": "all streams",
    "stages": "all stages",
    "crops": "centre crop",
    "precision": "fp32",
    "start": "new weights",
    "scores": "no scores",
    "interaction": "no interaction",
    "image_transform": "image features as they are",
    "target_transform": "scores as they are",
    "training": "frozen encoders",
}

Context = tuple[str, str, str]  # data set, benchmark, split

ORDER = ("benchmark", *FACTORS, "split")

ALWAYS_IN_LABELS = ("method", "head", "training")


@dataclass(frozen=True)
class RunName:
    """Settings of a run as a reader sees them.

    Attributes:
        data: Name of the data set, with the beginning of its digest where two data sets share a name.
        benchmark: Rows that took part.
        split: The split rule with the number of repeats; seeds and the first seed where these are unusual.
        method, image_encoder, streams, text_encoder, feature, stages, preprocessing, crops, precision,
            scores, interaction, image_transform, target_transform, head, start, training: The settings in
            `FACTORS`; "" where a run has none, a value of `USUAL` where it has the usual one.
        other: Identity of the run where no other setting tells it from another run, else "".
    """

    data: str
    benchmark: str
    split: str
    method: str
    image_encoder: str
    streams: str = USUAL["streams"]
    text_encoder: str = ""
    feature: str = ""
    stages: str = USUAL["stages"]
    preprocessing: str = ""
    crops: str = USUAL["crops"]
    precision: str = USUAL["precision"]
    scores: str = USUAL["scores"]
    interaction: str = USUAL["interaction"]
    image_transform: str = USUAL["image_transform"]
    target_transform: str = USUAL["target_transform"]
    head: str = "none"
    start: str = USUAL["start"]
    training: str = USUAL["training"]
    other: str = ""

    @property
    def context(self) -> Context:
        """Runs are comparable where this is equal."""
        return self.data, self.benchmark, self.split

    @property
    def features(self) -> str:
        """The image features: all settings but the encoder."""
        parts = ("feature", "stages", "preprocessing", "crops", "precision", "scores")
        return join_parts(self, parts, separator=", ")

    @property
    def fitted(self) -> str:
        """The head, and the training of the encoders."""
        return join_parts(self, ("head", *OF_ALL_HEADS, "start", "training", "other"), separator=", ")


def join_parts(
    name: RunName,
    parts: Sequence[str],
    separator: str = " · ",
) -> str:
    """The values of some parts of a run's name, without missing and usual ones."""
    values = []
    for part in parts:
        value = getattr(name, part)
        if value and value != USUAL.get(part):
            values.append(value)
    return separator.join(values)


def differing_parts(names: Sequence[RunName], parts: Sequence[str]) -> list[str]:
    """The parts in which any two names differ that both have the part."""
    different = []
    for part in parts:
        values = {getattr(name, part) for name in names} - {""}
        if len(values) > 1:
            different.append(part)
    return different


def merged_name(names: Sequence[RunName]) -> RunName:
    """The first of several names, with the parts that it lacks from the others."""
    parts = {}
    for part in FACTORS:
        values = [getattr(name, part) for name in names]
        parts[part] = next(filter(None, values), "")
    return replace(names[0], **parts)


def short_labels(names: Sequence[RunName]) -> list[str]:
    """Label of each run: method, head, training, and settings in which runs on its data set differ."""
    by_data: dict[str, list[RunName]] = {}
    for name in names:
        by_data.setdefault(name.data, []).append(name)
    shown = {}
    for data, some in by_data.items():
        parts = {*ALWAYS_IN_LABELS, *differing_parts(some, ORDER)}
        shown[data] = [part for part in ORDER if part in parts]
    return [join_parts(name, shown[name.data]) for name in names]
