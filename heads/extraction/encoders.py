"""The encoders of an extraction: what a user names, and how the encoders are found with their weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tier4k.extract.datasets.choices import IMAGE_STREAMS, Stream
from tier4k.extract.datasets.source import DataSource, have_prompts
from tier4k.extract.datasets.streams import ALL, parse_streams
from tier4k.extract.encoders.choices import DEFAULT_IMAGE_ENCODER
from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.presets import IMAGE_PRESETS
from tier4k.extract.encoders.templates import read_templates
from tier4k.extract.encoders.two_towers import find_text_tower, require_checkpoint
from tier4k.extract.pipeline.missing_inputs import Encoder, InputChoice
from tier4k.extract.pipeline.options import ExtractionError
from tier4k.extract.weights.files import search_folders
from tier4k.heads.data.encoder_choice import EncoderChoice, ImageEncoders
from tier4k.heads.extraction.prompts import require_prompts
from tier4k.heads.extraction.reporter import Reporter


@dataclass(frozen=True)
class EncoderRequest:
    """The encoders that a user names, and the inputs that they encode.

    Attributes:
        image_encoder, text_encoder, encoder: As for `EncoderChoice.of`.
        streams: Streams whose inputs are encoded, such as "image+text", or "all".
        templates: File of texts that the checkpoint `encoder` encodes besides the prompts; None for the
            built-in texts.
        image_weights, text_weights: Weights of the only encoder of images or texts; None searches for them.
    """

    image_encoder: ImageEncoders | None = None
    text_encoder: str | Sequence[str] | None = None
    encoder: str | ImageChoice | None = None
    streams: str = ALL
    templates: Path | None = None
    image_weights: Path | None = None
    text_weights: Path | None = None

    @property
    def choice(self) -> EncoderChoice:
        """The encoders with their options; those of the checkpoint come first."""
        return EncoderChoice.of(self.image_encoder, self.text_encoder, self.encoder)

    @property
    def _names_images(self) -> bool:
        """Whether an image encoder other than the default is named: that one's options apply to texts too."""
        named = EncoderChoice.of(self.image_encoder).images
        return any(image.encoder != DEFAULT_IMAGE_ENCODER for image in named)

    def parsed_streams(self) -> tuple[Stream, ...]:
        """Return the streams; options without an effect on these streams are refused.

        Raises:
            DataError: A name is no stream.
            EncoderError: `encoder` names no checkpoint with two towers.
            ExtractionError: An option has no effect.
        """
        if self.encoder:
            require_checkpoint(self.choice.images[0].encoder)
        streams = parse_streams(self.streams)
        if self._names_images and streams == ("text",):
            raise _without_effect("--image-encoder", "add image to --streams, or leave it out")
        if self.text_encoder and "text" not in streams:
            raise _without_effect("--text-encoder", "add text to --streams, or leave it out")
        if self.templates and "text" not in streams:
            raise _without_effect("--templates", "add text to --streams, or leave it out")
        if self.templates and not self.encoder:
            raise _without_effect("--templates", "pass a checkpoint with two towers as --encoder")
        return streams

    def streams_of(self, sources: Sequence[DataSource]) -> tuple[Stream, ...]:
        """Return the streams that are encoded: without prompts, "all" means the streams of images.

        Raises:
            TierError: As for `parsed_streams`; or a table lacks the prompts that the user named.
        """
        streams = self.parsed_streams()
        if self.streams == ALL and not have_prompts(sources):
            return IMAGE_STREAMS
        require_prompts(sources, streams)
        return streams

    def require_one_encoder_for_weights(self) -> None:
        """Refuse weights that are passed for several encoders, or for a checkpoint, whose folder is its name.

        Raises:
            ExtractionError: The message names the option and the remedy.
        """
        passed = {
            "image": (self.image_weights, len(self.choice.images)),
            "text": (self.text_weights, len(self.choice.texts)),
        }
        for stream, (path, encoders) in passed.items():
            if path is None:
                continue
            option = f"--{stream}-weights"
            if self.encoder:
                raise ExtractionError(
                    f"{option}: the weights of --encoder are in its own folder: pass the folder as --encoder "
                    f"hf:DIR, or run `tier extract` once with --encoder and once with {option}"
                )
            if encoders > 1:
                raise ExtractionError(
                    f"{option}: one file of weights cannot serve several {stream} encoders: run `tier "
                    "extract` once for each encoder"
                )


def _without_effect(option: str, remedy: str) -> ExtractionError:
    return ExtractionError(f"{option} has no effect: {remedy}")


def find_encoders(
    sources: Sequence[DataSource],
    request: EncoderRequest,
    reporter: Reporter,
) -> tuple[list[Encoder], InputChoice]:
    """Find the encoders of the chosen streams.

    Args:
        sources: The data sets; weights beside the first are found too.
        request: The named encoders and streams.
        reporter: Receives a hint if CLIP's weights are found and not used.

    Returns:
        Image encoders, then text encoders; and the inputs that they encode.

    Raises:
        TierError: An encoder or its weights do not exist, or weights are passed for several encoders.
    """
    streams = request.streams_of(sources)
    request.require_one_encoder_for_weights()
    folders = search_folders(sources[0].folder)
    templates = read_templates(request.templates).texts
    choice = request.choice
    precision, dtype = choice.images[0].precision, choice.images[0].store_dtype
    used = choice.for_streams(streams)
    images = [find_image_encoder(image, request.image_weights, folders) for image in used.images]
    encoders: list[Encoder] = [*images]
    templates_of = {}
    for number, name in enumerate(used.texts):
        if request.encoder and number == 0:
            text = find_text_tower(choice.images[0].encoder, folders, precision, dtype)
            templates_of[text.signature] = templates
        else:
            text = find_text_encoder(name, request.text_weights, folders, precision, dtype)
        encoders.append(text)
    _mention_clip(used.images, folders, reporter)
    return encoders, InputChoice(streams, templates_of)


def _mention_clip(
    choices: Sequence[ImageChoice],
    folders: Sequence[Path],
    reporter: Reporter,
) -> None:
    """Report a hint if CLIP's weights exist but CLIP is not among the chosen image encoders."""
    clip = IMAGE_PRESETS["clip"]
    if not choices or any(choice.encoder == clip.name for choice in choices):
        return
    if path := clip.weights.in_folders(folders):
        reporter.noted(f"{path} has CLIP's weights: `--preset clip` was better than the default on AGIQA-3K")
