"""What is known of an encoder by its name."""

from dataclasses import dataclass

from tier4k.extract.encoders.choices import FeatureName
from tier4k.extract.encoders.levels import Levels
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.timm_models import timm_levels
from tier4k.extract.encoders.weights import Package
from tier4k.extract.images.choices import ImageSize, PreprocessingName
from tier4k.extract.images.preprocessing import Preprocessing


@dataclass(frozen=True)
class ImagePreset:
    """An image encoder known by name.

    Attributes:
        name: What --image-encoder takes.
        architecture: timm's name of the network.
        files: Names looked for in `pretrained/`, in this order; "resnet18.*" stands for every suffix that weights have.
        download: Where the weights can be had, for the message when they are missing.
        hub: Hugging Face repository with the same weights.
        reference: Preparation of pictures as TIER-4K does it.
        native: Preparation of pictures as timm's configuration of these very weights (the tag in `hub`) says.
        prepare: The preparation that is used unless told otherwise.
        feature: "pooled" (timm's pooled output: the global average of a CNN's last map) or "class-token-before-norm".
        package: An installed package that carries the weights.
        levels: The parts of its multilevel features, None where timm's own description of the architecture is to be asked.
        fixed_size: Whether it takes pictures of one size only.
    """

    name: str
    architecture: str
    files: tuple[str, ...]
    download: str
    hub: str
    reference: Preprocessing
    native: Preprocessing
    default_preprocessing: PreprocessingName = "reference"
    feature: str = "pooled"
    package: Package | None = None
    levels: Levels | None = None
    fixed_size: bool = False

    def preprocessing(
        self, name: PreprocessingName | None = None, image_size: ImageSize | None = None
    ) -> Preprocessing:
        """The preparation `name`, the encoder's own for None; of the whole picture where an `image_size` is given.

        Raises:
            EncoderError: The encoder takes pictures of one size only.
        """
        chosen = self.reference if (name or self.default_preprocessing) == "reference" else self.native
        if image_size is None:
            return chosen
        if self.fixed_size:
            raise EncoderError(
                f"{self.name} takes pictures of {chosen.size} x {chosen.size} only: leave out --image-size, and --preset, which gives one"
            )
        return chosen.whole(image_size)

    def feature_point(self, name: FeatureName) -> str:
        """What is read from the network, in the words of a signature."""
        return self.feature if name == "pooled" else str(self.require_levels())

    def require_levels(self) -> Levels:
        """The parts of its multilevel features."""
        return self.levels or timm_levels(self.architecture)


@dataclass(frozen=True)
class TextPreset:
    """A BERT-like text encoder known by name.

    Attributes:
        name: What --text-encoder takes.
        folder: Name of a folder with config.json, tokenizer files and weights, looked for beside `pretrained/`.
        hub: Hugging Face repository with the same files.
        package: An installed package that carries the folder.
    """

    name: str
    folder: str
    hub: str
    package: Package | None = None

    def require_package(self) -> Package:
        """The package of an encoder that has one."""
        assert self.package is not None
        return self.package
